//! One attempt at a job: read, segment, encode, check, keep, record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dicom_io::series::{ReadSeriesError, Stack, read_stacks};
use dicom_types::Volume;
use prosector_model::{Control, Pack, SegmentError, Segmentation};
use prosector_storage::{
    Failure, JobFailure, JobOutcome, Lane, LeaseError, LeasedJob, LocalFiles, ReasonCode, SpoolKey,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::device::{Task, TaskError};
use super::shipping::Shipping;
use super::{OUTAGE, RETRY, Worker};
use crate::open_packs::digest_of;
use crate::protocol::{Forms, Protocol};
use crate::segment::{self, EncodeError, Encoded, Found, JobIdentity, Order, PackIdentity};

const PROTOCOL_UNKNOWN: ReasonCode = ReasonCode::new("protocol_unknown");
const MODEL_UNAVAILABLE: ReasonCode = ReasonCode::new("model_unavailable");
const MODEL_CHANGED: ReasonCode = ReasonCode::new("model_changed");
const NOT_A_VOLUME: ReasonCode = ReasonCode::new("not_a_volume");
const UNREADABLE: ReasonCode = ReasonCode::new("pixel_data_unreadable");
const MODEL_REFUSED: ReasonCode = ReasonCode::new("model_refused");
const NOT_ENCODED: ReasonCode = ReasonCode::new("result_not_encoded");
const CHECK_FAILED: ReasonCode = ReasonCode::new("result_check_failed");
const SPOOL: ReasonCode = ReasonCode::new("spool_unavailable");
const STORE: ReasonCode = ReasonCode::new("store_unavailable");
const INTERNAL: ReasonCode = ReasonCode::new("task_broke_off");

/// Wait before an outcome is recorded once more where the store did not answer.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// How an attempt came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// The outcome is recorded, or the job belongs to somebody else by now.
    Recorded,
    /// It was stopped half-way.
    Abandoned,
}

/// Why an attempt did not come to its end.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The job failed, for a reason that is recorded with it.
    Job(JobFailure),
    /// The device failed; no job is to blame.
    Device(anyhow::Error),
}

/// Attempts the job until it is done, fails, or is abandoned.
pub(super) async fn run(
    worker: &Worker,
    lease: &LeasedJob,
    abandon: CancellationToken,
) -> Result<Ended, AttemptError> {
    let attempt = Attempt { worker, lease };
    let protocol = attempt.protocol().await?;
    let pack = attempt.pack(&protocol)?;
    let mut timings = Timings::default();
    // The encoder looks into the first file once more.
    let (stack, volume, _files) = timings.load.of(attempt.load()).await?;
    let volume = Arc::new(volume);
    if abandon.is_cancelled() {
        return Ok(Ended::Abandoned);
    }
    let order = Order::of_protocol(&protocol, &stack);
    let control = Control::default();
    let canceller = control.clone();
    let stop = async {
        abandon.cancelled().await;
        canceller.cancel();
        std::future::pending::<()>().await;
    };
    let inferred = tokio::select! {
        inferred = timings.infer.of(attempt.infer(&pack, &stack, Arc::clone(&volume), &order, control)) => inferred,
        () = stop => unreachable!("stopping goes on until the inference has noticed"),
    };
    let Some(segmentation) = inferred? else { return Ok(Ended::Abandoned) };
    let stages = stages(&segmentation);
    let shipping = attempt.shipping(&protocol);
    let lists = shipping.lists();
    let frame_of_reference = segment::frame_of_reference(&stack);
    let segmented = Segmented { stack, volume, order, segmentation };
    let encoded = timings.encode.of(attempt.encode(&pack, segmented, lists)).await?;
    timings.store.of(attempt.keep(&encoded)).await?;
    let mut detail = timings.detail(&stages, &encoded);
    detail["frame_of_reference"] = frame_of_reference.into();
    attempt.record(&protocol, &shipping, encoded, detail, &abandon).await
}

/// What was segmented, on its way to the encoder.
struct Segmented {
    stack: Stack,
    volume: Arc<Volume>,
    order: Order,
    segmentation: Segmentation,
}

struct Attempt<'a> {
    worker: &'a Worker,
    lease: &'a LeasedJob,
}

impl Attempt<'_> {
    /// The protocol in the wording that made the job, whatever the site file says by now.
    async fn protocol(&self) -> Result<Protocol, AttemptError> {
        let revision = self.worker.store.protocol_revision(&self.lease.protocol_revision).await;
        let revision = revision.map_err(|error| self.wait(STORE, error))?;
        let revision = revision
            .ok_or_else(|| fail(PROTOCOL_UNKNOWN, "the protocol's revision is not in the store"))?;
        Protocol::of_definition(&revision.definition)
            .map_err(|error| fail(PROTOCOL_UNKNOWN, &format!("{error:#}")))
    }

    /// The pack that the job was made for. Another one under the same name would be another job.
    fn pack(&self, protocol: &Protocol) -> Result<Arc<Pack>, AttemptError> {
        let name = match self.lease.lane {
            Lane::Production => &protocol.model,
            Lane::Shadow => protocol.shadow.as_ref().ok_or_else(|| {
                fail(PROTOCOL_UNKNOWN, "the protocol's revision names no candidate")
            })?,
        };
        let pack = self.worker.packs.get(name);
        let pack = pack.map_err(|error| self.retry(MODEL_UNAVAILABLE, error))?;
        let found = digest_of(&pack);
        if found != self.lease.pack_digest {
            let reason = format!(
                "model {name} is {found} here, the job was made for {}",
                self.lease.pack_digest
            );
            return Err(fail(MODEL_CHANGED, &reason));
        }
        Ok(pack)
    }

    async fn load(&self) -> Result<(Stack, Volume, LocalFiles), AttemptError> {
        let instances = self.worker.store.job_instances(self.lease.job_id).await;
        let instances = instances.map_err(|error| self.wait(STORE, error))?;
        let files =
            self.worker.spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await;
        let files = files.map_err(|error| self.wait(SPOOL, error))?;
        let loaded = tokio::task::spawn_blocking(move || {
            let report = read_stacks(files.paths());
            let mut series = segment::series_of(report);
            let source = if series.len() == 1 { series.pop() } else { None };
            let source = source.ok_or_else(|| "the job's files are not one series".to_owned());
            source.and_then(|source| {
                let reasons = source.reasons().join("; ");
                let stack = source.stacks.into_iter().next().ok_or(reasons)?;
                Ok(stack.load().map(|volume| (stack, volume, files)))
            })
        });
        match loaded.await {
            Ok(Ok(Ok(loaded))) => Ok(loaded),
            Ok(Ok(Err(error))) => Err(self.unreadable(error)),
            Ok(Err(reason)) => Err(reject(NOT_A_VOLUME, &reason)),
            Err(error) => Err(self.retry(INTERNAL, error)),
        }
    }

    /// A file that cannot be opened may be back soon; one that cannot be decoded never will.
    fn unreadable(&self, error: ReadSeriesError) -> AttemptError {
        if error.is_unread() {
            return self.retry(SPOOL, error);
        }
        reject(UNREADABLE, &format!("{:#}", anyhow::Error::new(error)))
    }

    /// Segments on the device; nothing where it was cancelled.
    async fn infer(
        &self,
        pack: &Arc<Pack>,
        stack: &Stack,
        volume: Arc<Volume>,
        order: &Order,
        control: Control,
    ) -> Result<Option<Segmentation>, AttemptError> {
        let task = Task {
            pack: Arc::clone(pack),
            volume,
            modality: order.modality_of(stack),
            orientation: order.orientation,
            mode: order.mode,
            prompts: order.targets.iter().map(|target| target.prompt.clone()).collect(),
            control,
            priority: self.lease.priority,
        };
        match self.worker.device.segment(task).await {
            Ok(segmentation) => Ok(Some(segmentation)),
            Err(TaskError::Segment(SegmentError::Cancelled)) => Ok(None),
            Err(TaskError::Load(error)) => {
                Err(fail(MODEL_UNAVAILABLE, &format!("{:#}", anyhow::Error::new(error))))
            }
            Err(TaskError::Segment(error)) => {
                Err(reject(MODEL_REFUSED, &format!("{:#}", anyhow::Error::new(error))))
            }
            Err(TaskError::Device(error)) => Err(AttemptError::Device(error)),
        }
    }

    async fn encode(
        &self,
        pack: &Arc<Pack>,
        segmented: Segmented,
        lists: Vec<Forms>,
    ) -> Result<Encoded, AttemptError> {
        let job = JobIdentity { job_id: self.lease.job_id, created: self.lease.created_at };
        let pack =
            PackIdentity { name: pack.manifest().name.clone(), digest: self.lease.pack_digest };
        let encoded = tokio::task::spawn_blocking(move || {
            let Segmented { stack, volume, order, segmentation } = &segmented;
            let found = Found { stack, volume, order, masks: &segmentation.masks };
            segment::encode(found, &lists, &job, &pack)
        });
        match encoded.await {
            Ok(Ok(encoded)) => Ok(encoded),
            Ok(Err(error)) => {
                let code = match error {
                    EncodeError::Build(_) => NOT_ENCODED,
                    EncodeError::Check(_) => CHECK_FAILED,
                };
                Err(fail(code, &format!("{:#}", anyhow::Error::new(error))))
            }
            Err(error) => Err(self.retry(INTERNAL, error)),
        }
    }

    async fn keep(&self, encoded: &Encoded) -> Result<(), AttemptError> {
        for object in &encoded.objects {
            let key = SpoolKey::for_result(self.lease.job_id, &object.sop_instance_uid);
            let kept = self.worker.spool.put(&key, &object.bytes).await;
            kept.map_err(|error| self.wait(SPOOL, error))?;
        }
        Ok(())
    }

    /// Which destination wants which forms. What is compared is kept as a segmentation, and a candidate's results go
    /// nowhere. A destination that this process does not know gets those of the protocol.
    fn shipping(&self, protocol: &Protocol) -> Shipping {
        let forms_of = |name: &String| {
            let destination = self.worker.destinations.iter().find(|d| d.name == *name);
            destination.and_then(|d| d.forms.clone()).unwrap_or_else(|| protocol.forms.clone())
        };
        let destinations = match self.lease.lane {
            Lane::Production => protocol.destinations.as_slice(),
            Lane::Shadow => return Shipping::of_candidate(),
        };
        Shipping {
            destinations: destinations.iter().map(|name| (name.clone(), forms_of(name))).collect(),
            otherwise: protocol.forms.clone(),
            compared: protocol.shadow.as_ref().map(|_| Forms::default()),
        }
    }

    async fn record(
        &self,
        protocol: &Protocol,
        shipping: &Shipping,
        encoded: Encoded,
        detail: Value,
        abandon: &CancellationToken,
    ) -> Result<Ended, AttemptError> {
        let results = shipping.results(self.lease.job_id, &encoded);
        let Encoded { measurements: targets, findings, .. } = encoded;
        let is_production = self.lease.lane == Lane::Production;
        for finding in findings.iter().filter(|_| is_production) {
            let kind = finding.kind.as_str();
            metrics::counter!("prosector_findings_total", "kind" => kind).increment(1);
        }
        let outcome = if results.is_empty() {
            JobOutcome::Empty { targets, findings, detail }
        } else {
            let hold = protocol.plausibility.hold_for(&findings);
            JobOutcome::Done { targets, findings, hold, results, detail }
        };
        match self.finish(&outcome, abandon).await {
            Ok(()) => {
                let word = match outcome {
                    JobOutcome::Done { hold: None, .. } => "done",
                    JobOutcome::Done { hold: Some(_), .. } => "held",
                    JobOutcome::Empty { .. } => "empty",
                };
                // What a candidate does is no measure of the service.
                if is_production {
                    metrics::counter!("prosector_jobs_finished_total", "outcome" => word)
                        .increment(1);
                    let age = time::OffsetDateTime::now_utc() - self.lease.created_at;
                    metrics::histogram!("prosector_job_duration_seconds")
                        .record(age.as_seconds_f64().max(0.0));
                }
                tracing::info!(outcome = word, "job finished");
                Ok(Ended::Recorded)
            }
            Err(error @ LeaseError::Lost { .. }) => {
                // Whoever has the job now makes the same bytes under the same key.
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "result dropped"
                );
                Ok(Ended::Recorded)
            }
            Err(error) => Err(self.wait(STORE, error)),
        }
    }

    /// Records the outcome, again and again where the store is away: the work is done, and the lease says for how long
    /// it is of use.
    async fn finish(
        &self,
        outcome: &JobOutcome,
        abandon: &CancellationToken,
    ) -> Result<(), LeaseError> {
        loop {
            match self.worker.store.finish_job(self.lease, outcome).await {
                Err(LeaseError::Database(error)) if error.is_transient() => {
                    tracing::warn!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "outcome not recorded, will be tried again"
                    );
                }
                finished => return finished,
            }
            tokio::select! {
                () = abandon.cancelled() => return Err(LeaseError::Lost { job: self.lease.job_id }),
                () = tokio::time::sleep(RECORD_AGAIN) => {}
            }
        }
    }

    fn retry(
        &self,
        reason_code: ReasonCode,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> AttemptError {
        let after = RETRY.after(self.lease.attempt, self.lease.job_id);
        let reason = format!("{:#}", anyhow::Error::new(error));
        AttemptError::Job(JobFailure { failure: Failure::Retry { after }, reason_code, reason })
    }

    /// No job could be done here now: this one is not to blame.
    fn wait(
        &self,
        reason_code: ReasonCode,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> AttemptError {
        let after = OUTAGE.after(1, (self.lease.job_id, self.lease.lease_number));
        let reason = format!("{:#}", anyhow::Error::new(error));
        AttemptError::Job(JobFailure { failure: Failure::Wait { after }, reason_code, reason })
    }
}

/// The input cannot be processed.
fn reject(reason_code: ReasonCode, reason: &str) -> AttemptError {
    let reason = reason.to_owned();
    AttemptError::Job(JobFailure { failure: Failure::Reject, reason_code, reason })
}

/// The job cannot be done although its input is good.
fn fail(reason_code: ReasonCode, reason: &str) -> AttemptError {
    let reason = reason.to_owned();
    AttemptError::Job(JobFailure { failure: Failure::Fail, reason_code, reason })
}

/// How long the parts of the inference took.
fn stages(segmentation: &Segmentation) -> Value {
    let times = &segmentation.times;
    let ms = |time: Duration| time.as_millis() as u64;
    json!({
        "windows": segmentation.windows,
        "remark": segment::remark(segmentation),
        "embed_ms": ms(times.embed),
        "preprocess_ms": ms(times.preprocess),
        "encode_ms": ms(times.encode),
        "decode_ms": ms(times.decode),
        "restore_ms": ms(times.restore),
    })
}

/// How long each stage took.
#[derive(Debug, Default)]
struct Timings {
    load: Stage,
    infer: Stage,
    encode: Stage,
    store: Stage,
}

#[derive(Debug, Default)]
struct Stage(Duration);

impl Stage {
    async fn of<T>(&mut self, stage: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = stage.await;
        self.0 = start.elapsed();
        done
    }
}

impl Timings {
    /// What the ledger keeps of them.
    fn detail(&self, stages: &Value, encoded: &Encoded) -> Value {
        for (stage, time) in [
            ("load", &self.load),
            ("infer", &self.infer),
            ("encode", &self.encode),
            ("store", &self.store),
        ] {
            metrics::histogram!("prosector_stage_duration_seconds", "stage" => stage)
                .record(time.0.as_secs_f64());
        }
        let ms = |stage: &Stage| stage.0.as_millis() as u64;
        json!({
            "load_ms": ms(&self.load),
            "infer_ms": ms(&self.infer),
            "infer_stages": stages,
            "encode_ms": ms(&self.encode),
            "build_ms": encoded.build_time.as_millis() as u64,
            "check_ms": encoded.check_time.as_millis() as u64,
            "store_ms": ms(&self.store),
            "targets_overlap_in_labelmap": encoded.overlap,
            "software_version": env!("CARGO_PKG_VERSION"),
        })
    }
}
