//! From series that are complete to jobs, or to the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dicom_io::series::{Stack, read_stacks};
use dicom_types::{Phi, SeriesInstanceUid};
use prosector_storage::{
    BackfillOf, Decision, DecisionOutcome, NewJob, Priority, ReasonCode, RoutingRecord,
    SettleCandidate, SettleError, SettlePolicy, Spool, Store, Taken,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::completeness::{Completeness, PacsQuery};
use crate::open_packs::{OpenPacks, digest_of};
use crate::packs::PackError;
use crate::protocol::{LiveProtocols, Protocol};
use crate::routing::{self, Outcome};
use crate::segment::{self, SeriesSource, new_job, shadow_job};
use crate::self_test;

/// Series looked at in one go.
const BATCH: u32 = 32;
/// Longest sleep between two looks.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
const NOT_A_VOLUME: ReasonCode = ReasonCode::new("not_a_volume");
const TOO_FEW_SLICES: ReasonCode = ReasonCode::new("too_few_slices");
const MATCHED: ReasonCode = ReasonCode::new("matched");
const NOT_MATCHED: ReasonCode = ReasonCode::new("condition_not_met");
pub(super) const MODEL_REFUSED: ReasonCode = ReasonCode::new("model_unavailable");

/// Watches for complete series and makes their jobs.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) protocols: LiveProtocols,
    pub(crate) packs: Arc<OpenPacks>,
    /// Time without a new instance after which a series is looked at.
    pub(crate) quiet: Duration,
    /// Whether jobs wait for a person while the last self-test is a failed one.
    pub(crate) holds_after_failed_test: bool,
    /// Who is asked whether a series is whole.
    pub(crate) pacs: Option<PacsQuery>,
    /// Time without a new instance after which a choice among the series of a study is made.
    pub(crate) study_quiet: Duration,
}

impl Settler {
    /// Settles series until `cancel`.
    ///
    /// # Errors
    /// Never for a series' sake: what is wrong with one is recorded with it.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let own = self_test::protocol();
        for protocol in self.protocols.get().iter().chain([&own]) {
            self.store.register_protocol(&protocol.revision()).await?;
        }
        let policy = SettlePolicy { quiet: self.quiet, quiet_after_release: self.quiet };
        let sleep = (self.quiet / 4).clamp(Duration::from_millis(50), LONGEST_SLEEP);
        loop {
            match self.store.series_to_settle(&policy, BATCH).await {
                Ok(candidates) => {
                    for candidate in candidates {
                        self.settle_or_log(&candidate).await;
                    }
                }
                Err(error) => tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "cannot look for complete series"
                ),
            }
            self.choose_or_log().await;
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    async fn settle_or_log(&self, candidate: &SettleCandidate) {
        if let Err(error) = self.settle(candidate).await {
            tracing::error!(
                series.uid = %candidate.series_instance_uid,
                error = format!("{error:#}"),
                "series not settled, will be looked at again"
            );
        }
    }

    async fn settle(&self, candidate: &SettleCandidate) -> Result<()> {
        let pacs = match &self.pacs {
            None => None,
            Some(pacs) => match pacs.completeness(candidate).await {
                Completeness::Waits => return Ok(()),
                Completeness::Complete(evidence) => Some(evidence),
            },
        };
        let sources = self.read(&candidate.series_instance_uid).await?;
        let Routed { decisions, jobs, record } = self.route(candidate, &sources).await?;
        let mut evidence = evidence(candidate, &sources, self.quiet);
        evidence["pacs"] = pacs.into();
        let settled = self
            .store
            .settle_series(candidate, &evidence, &decisions, &jobs, record.as_ref())
            .await;
        match settled {
            Ok(settled) => {
                let refused = decisions.iter().find(|decision| decision.protocol_name.is_none());
                let outcome = match refused {
                    Some(refused) if jobs.is_empty() => refused.reason_code.to_string(),
                    _ => "jobs".to_owned(),
                };
                metrics::counter!("prosector_series_settled_total", "outcome" => outcome)
                    .increment(1);
                tracing::info!(
                    study.uid = %candidate.study_instance_uid,
                    series.uid = %candidate.series_instance_uid,
                    instances = candidate.instance_count,
                    jobs = settled.created.len(),
                    superseded = settled.superseded.len(),
                    reason = decisions.iter().find(|d| d.protocol_name.is_none()).map(|d| d.reason_code.as_str()),
                    "series settled"
                );
                Ok(())
            }
            // More instances arrived meanwhile; the series comes up again when it is quiet.
            Err(SettleError::Changed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Why new jobs have to wait for a person, if they have.
    pub(super) async fn hold(&self) -> Result<Option<ReasonCode>> {
        let holds = self.holds_after_failed_test && self_test::has_failed(&self.store).await?;
        Ok(holds.then_some(self_test::HOLD))
    }

    pub(super) async fn read(&self, series: &SeriesInstanceUid) -> Result<Vec<SeriesSource>> {
        let instances = self.store.series_instances(series).await?;
        let files =
            self.spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await?;
        let read = move || segment::series_of(read_stacks(files.paths()));
        let sources = tokio::task::spawn_blocking(read)
            .await
            .context("reading the series' headers broke off")?;
        // A spool that cannot be read now is no verdict on the series.
        let refusals = sources.iter().flat_map(|source| &source.refusals);
        let unread = refusals.map(|refusal| &refusal.reason).find(|reason| reason.is_unread());
        match unread {
            Some(reason) => anyhow::bail!("spool: {reason}"),
            None => Ok(sources),
        }
    }

    /// The job of `protocol` on the volume, and its candidate's beside it. A candidate that cannot be used is missed,
    /// and nothing else.
    pub(super) fn jobs_of(
        &self,
        stack: &Stack,
        protocol: &Protocol,
    ) -> Result<Vec<NewJob>, PackError> {
        let pack = self.packs.get(&protocol.model)?;
        let mut jobs = vec![new_job(stack, protocol, digest_of(&pack))];
        match protocol.shadow.as_deref().map(|name| self.packs.get(name)) {
            Some(Ok(candidate)) => jobs.push(shadow_job(stack, protocol, digest_of(&candidate))),
            Some(Err(error)) => tracing::error!(
                protocol = protocol.name,
                error = format!("{:#}", anyhow::Error::new(error)),
                "the candidate of the shadow lane cannot be used"
            ),
            None => {}
        }
        Ok(jobs)
    }

    async fn route(&self, candidate: &SettleCandidate, sources: &[SeriesSource]) -> Result<Routed> {
        let (study, series) = (&candidate.study_instance_uid, &candidate.series_instance_uid);
        let is_test = self_test::is_phantom(study, series);
        // One list for the whole series, whatever is loaded meanwhile.
        let protocols: Arc<[Protocol]> =
            if is_test { [self_test::protocol()].into() } else { self.protocols.get() };
        let backfill = self.store.backfill_of(series).await?;
        let protocols = protocols_of(protocols, &backfill);
        let hold = if is_test { None } else { self.hold().await? };
        let source = sources.iter().find(|source| source.volume().is_some());
        let Some((source, stack)) = source.and_then(|s| Some((s, s.volume()?))) else {
            return Ok(Routed { decisions: refusals(sources), jobs: Vec::new(), record: None });
        };
        let mut facts = source.facts(&protocols);
        if let Some(sender) = self.store.series_sender(&candidate.series_instance_uid).await? {
            facts.calling_ae_title = Some(sender.calling_ae_title);
            facts.called_ae_title = Some(sender.called_ae_title);
        }
        let mut jobs = Vec::new();
        let mut decisions = Vec::new();
        let mut taken = Taken::new();
        let mut awaits_choice = false;
        for (protocol, decision) in protocols.iter().zip(routing::decide(&protocols, &facts)) {
            let (outcome, reason_code, reason) = match decision.outcome {
                Outcome::NotMatched(reason) => {
                    (DecisionOutcome::NotMatched, not_matched(&reason), reason)
                }
                Outcome::Candidate(reason) | Outcome::Chosen(reason) => {
                    awaits_choice = true;
                    (DecisionOutcome::Matched, ReasonCode::CHOICE_WAITS, reason)
                }
                Outcome::Matched => match self.jobs_of(stack, protocol) {
                    Err(error) => {
                        let reason = format!("{:#}", anyhow::Error::new(error));
                        (DecisionOutcome::Refused, MODEL_REFUSED, reason)
                    }
                    Ok(made) => {
                        taken.insert(protocol.name.clone(), protocol.revision().sha256);
                        jobs.extend(made.into_iter().map(|job| {
                            let priority = priority_of(&job, &backfill);
                            NewJob { hold: hold.clone(), priority, ..job }
                        }));
                        let reason = "every condition holds".to_owned();
                        (DecisionOutcome::Matched, MATCHED, reason)
                    }
                },
            };
            let protocol_name = Some(protocol.name.clone());
            decisions.push(Decision { protocol_name, outcome, reason_code, reason });
        }
        if jobs.is_empty() && !awaits_choice {
            decisions.push(Decision {
                protocol_name: None,
                outcome: DecisionOutcome::Refused,
                reason_code: ReasonCode::NO_PROTOCOL,
                reason: "no protocol takes the series".to_owned(),
            });
        }
        decisions.extend(parts_left_out(sources));
        // A phantom is no part of the past that rules are tried on.
        let record = (!is_test).then(|| RoutingRecord {
            facts: Phi::new(routing::line(study, series, &facts, &protocols)),
            taken,
            awaits_choice,
        });
        Ok(Routed { decisions, jobs, record })
    }
}

/// A series that was fetched for some protocols is theirs alone, unless it had come by itself before.
fn protocols_of(protocols: Arc<[Protocol]>, backfill: &BackfillOf) -> Arc<[Protocol]> {
    if backfill.protocols.is_empty() || backfill.was_here {
        return protocols;
    }
    protocols
        .iter()
        .filter(|protocol| backfill.protocols.contains(&protocol.name))
        .cloned()
        .collect()
}

/// What was fetched waits for everything that came by itself.
pub(super) fn priority_of(job: &NewJob, backfill: &BackfillOf) -> Priority {
    if backfill.protocols.contains(&job.protocol_name) { Priority::Backfill } else { job.priority }
}

/// What routing made of a series.
struct Routed {
    decisions: Vec<Decision>,
    jobs: Vec<NewJob>,
    record: Option<RoutingRecord>,
}

/// The code for a condition that does not hold: that a series is too short has its own.
fn not_matched(reason: &str) -> ReasonCode {
    let is_about_length = ["number of instances is", "number of slices is"]
        .iter()
        .any(|words| reason.starts_with(words));
    if is_about_length && reason.ends_with("or more") { TOO_FEW_SLICES } else { NOT_MATCHED }
}

/// Why a series has no volume.
fn refusals(sources: &[SeriesSource]) -> Vec<Decision> {
    let of_source = |source: &SeriesSource| {
        let code = if source.is_single_slices() { TOO_FEW_SLICES } else { NOT_A_VOLUME };
        source.reasons().into_iter().map(move |reason| about_series(code.clone(), reason))
    };
    sources.iter().flat_map(of_source).collect()
}

/// What of a series with a volume its results do not show: other volumes, and what is none.
fn parts_left_out(sources: &[SeriesSource]) -> Vec<Decision> {
    let reasons = sources.iter().flat_map(SeriesSource::left_out);
    reasons.map(|reason| about_series(ReasonCode::PART_LEFT_OUT, reason)).collect()
}

fn about_series(reason_code: ReasonCode, reason: String) -> Decision {
    Decision { protocol_name: None, outcome: DecisionOutcome::Refused, reason_code, reason }
}

fn evidence(
    candidate: &SettleCandidate,
    sources: &[SeriesSource],
    quiet: Duration,
) -> serde_json::Value {
    let numbers = candidate.instance_numbers.map(|(lowest, highest)| {
        let expected = highest - lowest + 1;
        json!({ "lowest": lowest, "highest": highest,
                "missing": (expected - candidate.instance_count as i64).max(0) })
    });
    json!({
        "quiet_s": quiet.as_secs_f64(),
        "association_released": !candidate.association_open,
        "instances": candidate.instance_count,
        "instance_numbers": numbers,
        "late": candidate.settled_before,
        "volumes": sources.iter().map(|source| source.stacks.len()).sum::<usize>(),
        "refused": sources.iter().map(|source| source.refusals.len()).sum::<usize>(),
        "frame_of_reference": sources.iter().find_map(SeriesSource::volume).map(segment::frame_of_reference),
    })
}
