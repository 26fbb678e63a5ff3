//! The choice among the series of a study, for protocols that take one of them.
//!
//! A series is complete long before its study is: a choice waits until every series of the study has settled and
//! nothing came for `completeness.study`. It is made from the facts that were recorded when each series settled, and
//! from nothing else, so that neither the order of arrival nor the number of attempts changes it. A series that comes
//! later opens the choice again; where the outcome differs, the new job takes the place of the old one.

use anyhow::{Context as _, Result};
use prosector_storage::{
    ChosenSeries, Decision, DecisionOutcome, NewJob, ReasonCode, RecordedRouting, SettleError,
    StudyToChoose,
};

use super::settle::{MODEL_REFUSED, Settler, priority_of};
use crate::protocol::Protocol;
use crate::routing::{Candidate, LineReader, RecordedSeries, Verdict, choices};
use crate::segment::SeriesSource;

/// Studies looked at in one go.
const BATCH: u32 = 32;

impl Settler {
    /// Makes the choices that are due.
    pub(super) async fn choose_or_log(&self) {
        let studies = match self.store.studies_to_choose(self.study_quiet, BATCH).await {
            Ok(studies) => studies,
            Err(error) => {
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "cannot look for complete studies"
                );
                return;
            }
        };
        for study in studies {
            if let Err(error) = self.choose(&study).await {
                tracing::error!(
                    study.uid = %study.study_instance_uid,
                    error = format!("{error:#}"),
                    "no series chosen, the study will be looked at again"
                );
            }
        }
    }

    async fn choose(&self, study: &StudyToChoose) -> Result<()> {
        // One list for the whole study, whatever is loaded meanwhile.
        let protocols = self.protocols.get();
        let kept = self.store.recorded_series(study.study_instance_uid.as_str()).await?;
        let reader = LineReader::new(&protocols);
        let mut recorded = Vec::with_capacity(kept.len());
        for series in &kept {
            recorded.push(reader.read(series.facts.expose()).context("facts of a series")?);
        }
        let candidates: Vec<Candidate<'_>> =
            recorded.iter().map(RecordedSeries::candidate).collect();
        let mut chosen: Vec<ChosenSeries> =
            kept.iter().map(|kept| undecided(kept, &protocols)).collect();
        for verdict in choices(&protocols, &candidates) {
            let protocol = &protocols[verdict.protocol];
            self.carry_out(&verdict, protocol, &mut chosen[verdict.series]).await?;
        }
        if let Some(hold) = self.hold().await? {
            for job in chosen.iter_mut().flat_map(|series| &mut series.jobs) {
                job.hold = Some(hold.clone());
            }
        }
        match self.store.settle_study(study, &chosen).await {
            Ok(settled) => {
                tracing::info!(
                    study.uid = %study.study_instance_uid,
                    series = chosen.len(),
                    jobs = settled.created.len(),
                    superseded = settled.superseded.len(),
                    "series of the study chosen"
                );
                Ok(())
            }
            // More came meanwhile; the study comes up again when it is quiet.
            Err(SettleError::StudyChanged { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn carry_out(
        &self,
        verdict: &Verdict,
        protocol: &Protocol,
        series: &mut ChosenSeries,
    ) -> Result<()> {
        let (outcome, reason_code, reason) = if verdict.is_chosen {
            match self.jobs_for(protocol, series).await? {
                Ok(jobs) => {
                    series.taken.insert(protocol.name.clone(), protocol.revision().sha256);
                    series.jobs.extend(jobs);
                    (DecisionOutcome::Matched, ReasonCode::SERIES_CHOSEN, verdict.reason.clone())
                }
                Err(reason) => (DecisionOutcome::Refused, MODEL_REFUSED, reason),
            }
        } else {
            (DecisionOutcome::NotMatched, ReasonCode::OTHER_SERIES_CHOSEN, verdict.reason.clone())
        };
        let protocol_name = Some(protocol.name.clone());
        series.decisions.push(Decision { protocol_name, outcome, reason_code, reason });
        Ok(())
    }

    /// The jobs on the chosen series, or why its model cannot be used.
    async fn jobs_for(
        &self,
        protocol: &Protocol,
        series: &ChosenSeries,
    ) -> Result<Result<Vec<NewJob>, String>> {
        let sources = self.read(&series.series_instance_uid).await?;
        let stack = sources.iter().find_map(SeriesSource::volume);
        let stack = stack.context("the chosen series is no volume any more")?;
        let backfill = self.store.backfill_of(&series.series_instance_uid).await?;
        let jobs = self.jobs_of(stack, protocol);
        let jobs = jobs.map_err(|error| format!("{:#}", anyhow::Error::new(error)));
        Ok(jobs.map(|jobs| {
            let fetched = |job: NewJob| NewJob { priority: priority_of(&job, &backfill), ..job };
            jobs.into_iter().map(fetched).collect()
        }))
    }
}

/// A series before the choice: what took it by itself stays.
fn undecided(kept: &RecordedRouting, protocols: &[Protocol]) -> ChosenSeries {
    let chooses = |name: &str| protocols.iter().any(|p| p.name == name && p.chooses());
    let taken = kept.taken.iter().filter(|(name, _)| !chooses(name));
    ChosenSeries {
        series_instance_uid: kept.series_instance_uid.clone(),
        revision: kept.revision,
        decisions: Vec::new(),
        taken: taken.map(|(name, revision)| (name.clone(), *revision)).collect(),
        jobs: Vec::new(),
    }
}
