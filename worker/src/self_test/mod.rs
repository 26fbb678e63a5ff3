//! A phantom whose truth is known, through the real listener, queue and worker; the result is compared with the truth.
//!
//! The phantom's study is known by its identifiers alone: the Study Instance UID derives from the Series Instance UID.
//! No protocol of the site takes it, and its result goes to no destination.

mod nightly;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dicom_io::scu::{self, Destination, InstanceSource, ScuConfig, StoreDisposition};
use dicom_io::seg::{ReadSegment, derived_uid};
use dicom_io::series::read_stacks;
use dicom_types::{AeTitle, Mask, SeriesInstanceUid, StudyInstanceUid};
use prosector_storage::{
    AuditFilter, Event, EventKind, JobDetail, JobState, Page, ReasonCode, ResultForm, Spool, Store,
};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::config::{self, RawProtocol};
use crate::demo::Study;
use crate::protocol::{PHANTOM_PACK, Protocol};

pub(crate) use nightly::Nightly;

/// What a job carries that waits because the last test failed.
pub(crate) const HOLD: ReasonCode = ReasonCode::new("self_test_failed");

/// Namespace of the identifiers of phantoms.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_09d2_5f0e_4f0c_9d4e_8a35_2c71_e0b4);
/// Name of the protocol that takes the phantom.
const PROTOCOL: &str = "self-test";
/// Longest wait for the result.
const PATIENCE: Duration = Duration::from_mins(15);
/// How often the job is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Mean Dice below which the result is not what it should be.
const EXPECTED_DICE: f64 = 0.85;
/// A test that is older says nothing any more.
const AGE: time::Duration = time::Duration::days(2);

/// What a test needs to know of the service.
#[derive(Debug, Clone)]
pub(crate) struct SelfTest {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    /// Where the listener is.
    pub(crate) address: std::net::SocketAddr,
    /// What it is called.
    pub(crate) ae_title: AeTitle,
    /// Who calls: somebody whom the listener lets in.
    pub(crate) calling_ae_title: AeTitle,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// Why it failed; nothing where it passed.
    pub(crate) reason: Option<ReasonCode>,
    /// Mean Dice over the targets, where there was a result.
    pub(crate) mean_dice: Option<f64>,
    /// From the sending to the verdict.
    pub(crate) duration: Duration,
}

/// Why a test failed, and what is known for the log.
#[derive(Debug)]
struct Failed(&'static str, anyhow::Error);

/// Whether a series is the phantom of a test.
pub(crate) fn is_phantom(study: &StudyInstanceUid, series: &SeriesInstanceUid) -> bool {
    study_of(series.as_str()) == study.as_str()
}

fn study_of(series: &str) -> String {
    derived_uid(&NAMESPACE, &["self-test", series])
}

/// The protocol that takes the phantom.
pub(crate) fn protocol() -> Protocol {
    let raw = RawProtocol {
        name: Some(PROTOCOL.to_owned()),
        matches: Some(serde_json::Map::new()),
        model: Some(PHANTOM_PACK.to_owned()),
        targets: vec![json!("@phantom")],
        priority: Some("urgent".to_owned()),
        ..RawProtocol::default()
    };
    let definition = serde_json::to_string(&raw).expect("text and lists are JSON");
    Protocol::of_definition(&definition).expect("read by a test")
}

/// Whether the last test failed, and is recent enough to say something.
///
/// # Errors
/// Where the database cannot answer.
pub(crate) async fn has_failed(store: &Store) -> Result<bool> {
    let kinds = [EventKind::SelfTestPassed, EventKind::SelfTestFailed];
    let last = store.last_events(&kinds, OffsetDateTime::now_utc() - AGE, 1).await?;
    Ok(last.first().is_some_and(|event| event.event.kind == EventKind::SelfTestFailed))
}

impl SelfTest {
    /// A test of the listener that `section` describes, at `address`.
    pub(crate) fn of(
        section: &config::Listener,
        address: std::net::SocketAddr,
        store: Store,
        spool: Spool,
    ) -> Self {
        let mut address = address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let calling = section.calling_ae_titles.first().unwrap_or(&section.ae_title);
        Self {
            store,
            spool,
            address,
            ae_title: section.ae_title.clone(),
            calling_ae_title: calling.clone(),
        }
    }

    /// Runs the test and records how it ended.
    ///
    /// # Errors
    /// Where the verdict cannot be recorded.
    pub(crate) async fn run(&self) -> Result<Verdict> {
        let start = Instant::now();
        let folder = tempfile::tempdir().context("a folder for the phantom")?;
        let series = format!("2.25.{}", Uuid::new_v4().as_u128());
        let study = study_of(&series);
        let mut event =
            Event::new(EventKind::SelfTestPassed).of_series(&study.parse()?, &series.parse()?);
        let tested = self.test(folder.path().to_owned(), &study, &series, &mut event).await;
        let duration = start.elapsed();
        let (reason, mean_dice) = match tested {
            Ok(dice) if dice >= EXPECTED_DICE => (None, Some(dice)),
            Ok(dice) => (Some(ReasonCode::new("self_test_inaccurate")), Some(dice)),
            Err(Failed(code, error)) => {
                tracing::error!(
                    reason_code = code,
                    error = format!("{error:#}"),
                    "self-test failed"
                );
                (Some(ReasonCode::new(code)), None)
            }
        };
        if let Some(reason) = &reason {
            event.kind = EventKind::SelfTestFailed;
            event = event.because(reason.clone());
        } else {
            tracing::info!(
                duration_ms = duration.as_millis() as u64,
                mean_dice,
                "self-test passed"
            );
        }
        let detail = json!({ "mean_dice": mean_dice, "duration_ms": duration.as_millis() as u64 });
        metrics::histogram!("prosector_self_test_duration_seconds").record(duration.as_secs_f64());
        self.store.record(event.with(detail)).await?;
        Ok(Verdict { reason, mean_dice, duration })
    }

    /// Mean Dice of what came of the phantom.
    async fn test(
        &self,
        folder: PathBuf,
        study: &str,
        series: &str,
        event: &mut Event,
    ) -> Result<f64, Failed> {
        let uids = (study.to_owned(), series.to_owned());
        let made =
            tokio::task::spawn_blocking(move || Study::make(&folder, &uids.0, &uids.1)).await;
        let phantom = flat(made).map_err(|error| Failed("self_test_no_phantom", error))?;
        self.send(&phantom).await.map_err(|error| Failed("self_test_not_received", error))?;
        let job = self.ended_job(series).await?;
        event.job_id = Some(job.summary.job_id);
        if job.summary.state != JobState::Done {
            let error = anyhow::anyhow!("the job is {}", job.summary.state);
            return Err(Failed("self_test_job_not_done", error));
        }
        self.compare(phantom, &job).await.map_err(|error| Failed("self_test_unreadable", error))
    }

    async fn send(&self, phantom: &Study) -> Result<()> {
        let destination = Destination {
            ae_title: self.ae_title.clone(),
            address: self.address.to_string(),
            calling_ae_title: self.calling_ae_title.clone(),
            tls: None,
        };
        let instances: Vec<InstanceSource> =
            phantom.files.iter().map(|path| path.clone().into()).collect();
        for outcome in scu::store(&destination, &instances, &ScuConfig::default()).await? {
            if outcome.result.disposition() != StoreDisposition::Delivered {
                bail!("an instance was not stored: {:?}", outcome.result);
            }
        }
        Ok(())
    }

    async fn ended_job(&self, series: &str) -> Result<JobDetail, Failed> {
        let away = |error: anyhow::Error| Failed("self_test_store_away", error);
        let series: SeriesInstanceUid = series.parse().map_err(|_| away(anyhow::anyhow!("UID")))?;
        let filter = AuditFilter { series_instance_uid: Some(series), ..AuditFilter::default() };
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < PATIENCE {
            let jobs = self.store.list_jobs(&filter, &Page::first(1)).await;
            last = jobs.map_err(|error| away(error.into()))?.rows.into_iter().next();
            if let Some(job) = last.as_ref().filter(|job| job.state.is_terminal()) {
                let detail = self.store.show_job(job.job_id).await;
                let detail = detail.map_err(|error| away(error.into()))?;
                return detail.ok_or_else(|| away(anyhow::anyhow!("the job is gone")));
            }
            tokio::time::sleep(LOOK).await;
        }
        let state = last.map_or("not made", |job| job.state.as_str());
        Err(Failed("self_test_timed_out", anyhow::anyhow!("after {PATIENCE:?} the job is {state}")))
    }

    async fn compare(&self, phantom: Study, job: &JobDetail) -> Result<f64> {
        let result = job.results.iter().find(|result| result.form == ResultForm::Seg);
        let result = result.context("the job has no segmentation")?;
        let bytes = self.spool.read(&result.spool_key).await?;
        let instances = self.store.job_instances(job.summary.job_id).await?;
        let files =
            self.spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await?;
        let compared = tokio::task::spawn_blocking(move || {
            let stack = read_stacks(files.paths()).stacks.into_iter().next();
            let stack = stack.context("what was received is no volume")?;
            let segments = dicom_io::seg::read(&bytes, &stack)?;
            Ok(mean_dice(&segments, &phantom.truths(stack.geometry)?))
        });
        flat(compared.await)
    }
}

fn flat<T>(joined: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined.context("the task broke off").flatten()
}

fn mean_dice(segments: &[ReadSegment], truths: &[(String, Mask)]) -> f64 {
    let dice = truths.iter().map(|(prompt, truth)| {
        let found = segments.iter().find(|segment| segment.label == *prompt);
        let (volume, common) =
            found.map_or((0, 0), |found| (found.mask.count(), found.mask.count_common(truth)));
        2.0 * common as f64 / (volume + truth.count()).max(1) as f64
    });
    dice.sum::<f64>() / truths.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phantom_is_known_by_its_identifiers() {
        let series: SeriesInstanceUid = "2.25.1234".parse().unwrap();
        let study: StudyInstanceUid = study_of("2.25.1234").parse().unwrap();

        assert!(is_phantom(&study, &series));
        assert!(!is_phantom(&study, &"2.25.1235".parse().unwrap()));
        assert!(!is_phantom(&"2.25.1234".parse().unwrap(), &series));
    }

    #[test]
    fn its_protocol_can_be_read_and_sends_nothing_anywhere() {
        let protocol = protocol();

        assert_eq!(protocol.name, PROTOCOL);
        assert!(protocol.destinations.is_empty());
        assert!(protocol.targets.len() > 4);
    }

    #[test]
    fn what_is_missing_counts_as_nothing_found() {
        let truth = Mask::from_fn([2, 2, 2], |[slice, ..]| slice == 0);
        let found = ReadSegment { number: 1, label: "liver".to_owned(), mask: truth.clone() };
        let truths = [("liver".to_owned(), truth.clone()), ("spleen".to_owned(), truth)];

        assert!((mean_dice(&[found], &truths) - 0.5).abs() < 1e-9);
    }
}
