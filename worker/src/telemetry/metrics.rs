//! Metrics: what each one says, in which buckets, and where they are kept until somebody asks.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dicom_io::dimse::StoreStatus;
use dicom_io::scp::RejectReason;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Bounds of durations, seconds: from a fast query to a job that waited for a night.
const SECONDS: [f64; 16] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    28_800.0,
];
/// How often what was noted is folded into its buckets, whether or not anybody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of the process; a second service in the same process shares it.
///
/// # Errors
/// When another recorder was installed.
pub(crate) fn install() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("buckets of durations")?
        .install_recorder()
        .context("install the metrics")?;
    describe();
    begin_at_zero();
    Ok(HANDLE.get_or_init(|| recorder).clone())
}

/// Folds what was noted until `cancel`, so that it takes no room while nobody asks.
///
/// # Errors
/// Never.
pub(crate) async fn keep(handle: PrometheusHandle, cancel: CancellationToken) -> Result<()> {
    let mut beat = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = beat.tick() => handle.run_upkeep(),
        }
    }
}

/// What an alert compares with its past must have been there before it first happened: a counter that appears with its
/// first event has not increased.
fn begin_at_zero() {
    for outcome in ["accepted", "refused"] {
        metrics::counter!("prosector_sign_ins_total", "outcome" => outcome).absolute(0);
    }
    for status in [
        StoreStatus::OutOfResources,
        StoreStatus::DatasetMismatch,
        StoreStatus::CannotUnderstand,
        StoreStatus::ProcessingFailure,
        StoreStatus::InvalidInstance,
        StoreStatus::SopClassNotSupported,
        StoreStatus::NotAuthorized,
    ] {
        let status = status.to_string();
        metrics::counter!("prosector_instances_refused_total", "status" => status).absolute(0);
    }
    for reason in [
        RejectReason::CalledAeTitle,
        RejectReason::CallingAeTitle,
        RejectReason::Certificate,
        RejectReason::Address,
        RejectReason::ApplicationContext,
        RejectReason::ProtocolVersion,
        RejectReason::TooManyAssociations,
        RejectReason::TooManyAssociationsOfPeer,
        RejectReason::ShuttingDown,
    ] {
        let reason = reason.as_str();
        metrics::counter!("prosector_associations_rejected_total", "reason" => reason).absolute(0);
    }
}

fn describe() {
    describe_gauge!("prosector_store_up", "1 where the database answers");
    describe_gauge!("prosector_queue_up", "1 where the message broker answers");
    describe_gauge!(
        "prosector_spool_free_bytes",
        Unit::Bytes,
        "free space of the spool's file system"
    );
    describe_gauge!(
        "prosector_spool_reserve_bytes",
        Unit::Bytes,
        "free space below which instances are refused"
    );
    describe_gauge!("prosector_open_associations", "associations that are open");
    describe_gauge!("prosector_unsettled_series", "series that are arriving");
    describe_gauge!("prosector_outbox_jobs", "jobs that the queue has not heard of");
    describe_gauge!(
        "prosector_jobs",
        "jobs that have not ended, or are in quarantine, by state and priority"
    );
    describe_gauge!(
        "prosector_jobs_oldest_age_seconds",
        Unit::Seconds,
        "age of the oldest of them"
    );
    describe_gauge!(
        "prosector_deliveries",
        "deliveries that are not done, by destination and state"
    );
    describe_gauge!(
        "prosector_deliveries_oldest_age_seconds",
        Unit::Seconds,
        "age of the oldest of them"
    );
    describe_gauge!("prosector_self_test_passed", "1 where the last self-test passed");
    describe_gauge!(
        "prosector_self_test_timestamp_seconds",
        Unit::Seconds,
        "when the last self-test ended"
    );
    describe_gauge!(
        "prosector_audit_waiting_entries",
        "entries of the ledger that the audit repository has not been told of"
    );
    describe_counter!("prosector_audit_messages_total", "audit messages that arrived");
    describe_counter!(
        "prosector_audit_failures_total",
        "attempts to reach the audit repository that did not succeed"
    );
    describe_gauge!("prosector_device_busy", "1 while the device computes");
    describe_counter!(
        "prosector_device_busy_milliseconds_total",
        "time that the device has computed"
    );
    describe_counter!("prosector_associations_total", "associations by outcome");
    describe_counter!(
        "prosector_associations_rejected_total",
        "associations that were rejected, by reason"
    );
    describe_counter!(
        "prosector_connections_refused_total",
        "connections without an association, as TLS did not come about, by reason"
    );
    describe_counter!("prosector_instances_total", "instances by outcome");
    describe_counter!(
        "prosector_instances_refused_total",
        "instances that were refused, by DIMSE status"
    );
    describe_counter!(
        "prosector_series_settled_total",
        "series that were complete, by what became of them"
    );
    describe_counter!("prosector_jobs_finished_total", "jobs that ended well, by outcome");
    describe_counter!("prosector_job_failures_total", "attempts that failed, by reason");
    describe_counter!("prosector_deliveries_total", "attempts to deliver, by outcome");
    describe_counter!("prosector_sign_ins_total", "attempts to sign in, by outcome");
    describe_histogram!(
        "prosector_dispatch_latency_seconds",
        Unit::Seconds,
        "from the making of a job to its first lease"
    );
    describe_histogram!(
        "prosector_job_duration_seconds",
        Unit::Seconds,
        "from the making of a job to its result"
    );
    describe_histogram!("prosector_self_test_duration_seconds", Unit::Seconds, "self-tests");
    describe_histogram!("prosector_stage_duration_seconds", Unit::Seconds, "stages of a job");
}
