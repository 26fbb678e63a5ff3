//! A store of either kind with a spool, and the studies that tests put into it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use dicom_types::{Phi, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};
use prosector_storage::{
    AssociationId, AttemptLimit, Decision, DecisionOutcome, InstanceOutcome, JobId, JobInputs,
    JobOutcome, Lane, LeasedJob, NewAssociation, NewDelivery, NewInstance, NewJob, NewResult,
    NextJob, PatientIdentity, Priority, ProtocolRevision, ReasonCode, ResultForm, SettleCandidate,
    SettlePolicy, Settled, Sha256Digest, Spool, SpoolError, SpoolKey, SpoolOptions, Store,
    TargetMeasurement,
};
use sqlx::Connection as _;
use tempfile::TempDir;

/// Long enough never to run out within a test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// Makes each test of the suite run on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::bench::Bench::sqlite().await).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::bench::Bench::postgres().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) url: String,
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}/prosector.db", folder.path().display());
        Self::on(url, folder).await
    }

    pub(crate) async fn postgres() -> Self {
        let url = tokio::task::spawn_blocking(|| {
            test_harness::postgres::shared().create_database().unwrap()
        });
        Self::on(url.await.unwrap(), TempDir::new().unwrap()).await
    }

    async fn on(url: String, folder: TempDir) -> Self {
        let store = Store::connect(&url, "test").await.unwrap();
        store.migrate().await.unwrap();
        let spool_url = format!("file://{}/spool", folder.path().display());
        let spool = Spool::open(&spool_url, SpoolOptions { reserve_bytes: 0 }).await.unwrap();
        Self { store, spool, url, folder }
    }

    /// SQLite, and a bucket in place of the folder.
    pub(crate) async fn with_spool(spool: Spool) -> Self {
        Self { spool, ..Self::sqlite().await }
    }

    /// Whether the spool has something under `key`.
    pub(crate) async fn has_bytes(&self, key: &SpoolKey) -> bool {
        match self.spool.read(key).await {
            Ok(_) => true,
            Err(SpoolError::Missing { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs SQL beside the store, as somebody with the database's password could.
    pub(crate) async fn raw(&self, statement: &str) -> Result<(), sqlx::Error> {
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
            connection.close().await
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
            connection.close().await
        }
    }

    /// One number, read beside the store.
    pub(crate) async fn number(&self, statement: &'static str) -> i64 {
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
        }
    }

    pub(crate) async fn associate(&self) -> AssociationId {
        self.store.open_association(&association("MODALITY")).await.unwrap()
    }

    /// Receives instances `numbers` of a series without an association.
    pub(crate) async fn receive(&self, series: u32, numbers: &[u32]) {
        let batch: Vec<_> = numbers.iter().map(|number| instance(series, *number)).collect();
        let outcomes = self.store.record_instances(&batch).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == InstanceOutcome::New));
    }

    /// The series, once it is due for settling.
    pub(crate) async fn candidate(&self, series: u32) -> SettleCandidate {
        let found = self.store.series_to_settle(&at_once(), 1000).await.unwrap();
        let uid = series_uid(series);
        found.into_iter().find(|candidate| candidate.series_instance_uid == uid).unwrap()
    }

    /// Settles a series with one job of protocol `name` over all its instances.
    pub(crate) async fn settle(&self, series: u32, name: &str) -> (JobId, Settled) {
        self.settle_with_priority(series, name, Priority::Routine).await
    }

    pub(crate) async fn settle_with_priority(
        &self,
        series: u32,
        name: &str,
        priority: Priority,
    ) -> (JobId, Settled) {
        let candidate = self.candidate(series).await;
        let mut job = self.new_job(series, name).await;
        job.priority = priority;
        let evidence = serde_json::json!({ "quiet_s": 10, "instances": candidate.instance_count });
        let settled = self
            .store
            .settle_series(
                &candidate,
                &evidence,
                &[matched(name)],
                std::slice::from_ref(&job),
                None,
            )
            .await
            .unwrap();
        (job.job_id, settled)
    }

    pub(crate) async fn new_job(&self, series: u32, name: &str) -> NewJob {
        let revision = protocol(name);
        self.store.register_protocol(&revision).await.unwrap();
        let series_instance_uid = series_uid(series);
        let stored = self.store.series_instances(&series_instance_uid).await.unwrap();
        let instances: BTreeSet<SopInstanceUid> =
            stored.into_iter().map(|instance| instance.sop_instance_uid).collect();
        let pack_digest = Sha256Digest::of(b"pack");
        let job_id = JobId::derive(&JobInputs {
            series_instance_uid: &series_instance_uid,
            instances: &instances,
            protocol_digest: &revision.sha256,
            pack_digest: &pack_digest,
        });
        NewJob {
            job_id,
            protocol_name: name.to_owned(),
            protocol_revision: revision.sha256,
            pack_digest,
            priority: Priority::Routine,
            lane: Lane::Production,
            instances,
            hold: None,
        }
    }

    /// A queued job on a series of three instances.
    pub(crate) async fn queued_job(&self, series: u32) -> JobId {
        self.receive(series, &[1, 2, 3]).await;
        self.settle(series, "ct").await.0
    }

    /// A job on lease to `worker`.
    pub(crate) async fn leased_job(&self, series: u32, worker: &str) -> LeasedJob {
        let job = self.queued_job(series).await;
        self.store.lease_job(NextJob::Id(job), worker, LONG).await.unwrap().unwrap()
    }

    /// A job that is done, with one result for each of `destinations`.
    pub(crate) async fn done_job(&self, series: u32, destinations: &[&str]) -> LeasedJob {
        let lease = self.leased_job(series, "worker-1").await;
        self.store.finish_job(&lease, &done(&lease, destinations)).await.unwrap();
        lease
    }
}

pub(crate) fn at_once() -> SettlePolicy {
    SettlePolicy { quiet: Duration::ZERO, quiet_after_release: Duration::ZERO }
}

pub(crate) fn limit(attempts: u32) -> AttemptLimit {
    AttemptLimit(NonZeroU32::new(attempts).unwrap())
}

pub(crate) fn study_uid(series: u32) -> StudyInstanceUid {
    format!("1.2.3.{}", series / 10).parse().unwrap()
}

pub(crate) fn series_uid(series: u32) -> SeriesInstanceUid {
    format!("1.2.3.{}.{series}", series / 10).parse().unwrap()
}

pub(crate) fn instance_uid(series: u32, number: u32) -> SopInstanceUid {
    format!("1.2.3.{}.{series}.{number}", series / 10).parse().unwrap()
}

pub(crate) fn association(calling: &str) -> NewAssociation {
    NewAssociation {
        listener: "listener-1".to_owned(),
        calling_ae_title: calling.parse().unwrap(),
        called_ae_title: "PROSECTOR".parse().unwrap(),
        peer_address: [127, 0, 0, 1].into(),
    }
}

/// Instance `number` of `series`; ten series make a study. The patient is the study's.
pub(crate) fn instance(series: u32, number: u32) -> NewInstance {
    instance_with_content(series, number, "pixels")
}

pub(crate) fn instance_with_content(series: u32, number: u32, content: &str) -> NewInstance {
    let study_instance_uid = study_uid(series);
    let series_instance_uid = series_uid(series);
    let sop_instance_uid = instance_uid(series, number);
    let sha256 = Sha256Digest::of(format!("{sop_instance_uid} {content}").as_bytes());
    let spool_key = SpoolKey::for_instance(
        &study_instance_uid,
        &series_instance_uid,
        &sop_instance_uid,
        &sha256,
    );
    NewInstance {
        study_instance_uid,
        series_instance_uid,
        sop_instance_uid,
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
        modality: Some("CT".to_owned()),
        instance_number: Some(i64::from(number)),
        sha256,
        size_bytes: 1000,
        spool_key,
        association_id: None,
        identity: PatientIdentity {
            patient_id: Phi::new(format!("PATIENT-{}", series / 10)),
            accession_number: Phi::new(format!("ACCESSION-{}", series / 10)),
        },
        header_facts: Some(Phi::new(serde_json::json!({ "BodyPartExamined": "ABDOMEN" }))),
    }
}

pub(crate) fn protocol(name: &str) -> ProtocolRevision {
    let definition = format!("name = {name:?}");
    ProtocolRevision {
        protocol_name: name.to_owned(),
        sha256: Sha256Digest::of(definition.as_bytes()),
        definition,
    }
}

pub(crate) fn matched(name: &str) -> Decision {
    Decision {
        protocol_name: Some(name.to_owned()),
        outcome: DecisionOutcome::Matched,
        reason_code: ReasonCode::new("matched"),
        reason: "modality and body part match".to_owned(),
    }
}

pub(crate) fn result_uid(job: JobId) -> SopInstanceUid {
    format!("2.25.{}", job.as_uuid().as_u128()).parse().unwrap()
}

/// A result of the job in another form, which nobody waits for.
pub(crate) fn other_result(job: JobId, form: ResultForm) -> NewResult {
    let sop_instance_uid: SopInstanceUid =
        format!("{}.{}", &result_uid(job).as_str()[..40], form as u8).parse().unwrap();
    NewResult {
        series_instance_uid: format!("{}.1", &sop_instance_uid.as_str()[..40]).parse().unwrap(),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.7".parse().unwrap(),
        form,
        sha256: Sha256Digest::of(form.as_str().as_bytes()),
        size_bytes: 8,
        spool_key: SpoolKey::for_result(job, &sop_instance_uid),
        sop_instance_uid,
        refers_to: None,
        deliveries: Vec::new(),
    }
}

pub(crate) fn done(lease: &LeasedJob, destinations: &[&str]) -> JobOutcome {
    let sop_instance_uid = result_uid(lease.job_id);
    JobOutcome::Done {
        targets: vec![TargetMeasurement {
            prompt: "liver".to_owned(),
            segment_number: Some(1),
            voxel_count: 1500,
            volume_ml: 1.5,
        }],
        findings: Vec::new(),
        hold: None,
        results: vec![NewResult {
            series_instance_uid: format!("{sop_instance_uid}.1")[..40].parse().unwrap(),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap(),
            form: ResultForm::Seg,
            sha256: Sha256Digest::of(b"seg"),
            size_bytes: 3,
            spool_key: SpoolKey::for_result(lease.job_id, &sop_instance_uid),
            sop_instance_uid,
            refers_to: None,
            deliveries: destinations
                .iter()
                .map(|name| NewDelivery { destination: (*name).to_owned(), fallbacks: Vec::new() })
                .collect(),
        }],
        detail: serde_json::json!({ "infer_ms": 12 }),
    }
}
