//! The production set-up on loopback: PostgreSQL and RabbitMQ of its own, a PACS, and each role a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use prosector_model::phantom::{Acquisition, Plane};
use test_harness::dcmtk::{Peer, Sender, send_what_can};
use test_harness::orthanc::Orthanc;
use test_harness::postgres::Postgres;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::rabbitmq::RabbitMq;
use test_harness::wait_until;

use crate::pacs::{PHANTOM_PROTOCOL, destination};
use crate::phantom::{Phantom, Scan};

/// Everything that a hospital's night needs.
pub(crate) struct House {
    pub(crate) database: Postgres,
    pub(crate) broker: RabbitMq,
    pub(crate) pacs: Orthanc,
    pub(crate) listener: Prosector,
    pub(crate) workers: Vec<Prosector>,
    pub(crate) deliverer: Prosector,
    /// Working folder: what is sent, and the spool.
    pub(crate) folder: tempfile::TempDir,
    database_name: String,
}

/// How a house is furnished.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// Lines in front of the site file, beside leases that are short.
    pub(crate) site: &'a str,
    /// How long the broker waits for an acknowledgement, which it looks at as often; else as RabbitMQ has it.
    pub(crate) consumer_timeout_ms: Option<u64>,
    /// Spool, where it is not in the working folder.
    pub(crate) spool: Option<&'a Path>,
    /// Processes that work, beyond the first.
    pub(crate) further_workers: usize,
}

impl House {
    /// Starts everything.
    pub(crate) fn start(plan: &Plan<'_>) -> Self {
        let timeout = plan.consumer_timeout_ms;
        let settings = timeout.map(|ms| format!("consumer_timeout = {ms}")).unwrap_or_default();
        let broker = std::thread::spawn(move || RabbitMq::start_with(&settings).unwrap());
        let database = Postgres::start().unwrap();
        let pacs = Orthanc::start(&[]).unwrap();
        let broker = broker.join().unwrap();
        if let Some(ms) = timeout {
            // Read when a channel opens, and no key of rabbitmq.conf.
            let set = format!("application:set_env(rabbit, channel_tick_interval, {ms}).");
            broker.ctl(&["eval", &set]).unwrap();
        }
        let (store, queue) = (database.create_database().unwrap(), broker.create_vhost().unwrap());
        let folder = tempfile::Builder::new().prefix("house-").tempdir().unwrap();
        let spool = plan.spool.map_or_else(|| folder.path().join("spool"), Path::to_path_buf);
        let site =
            format!("{}[model]\nthreads = 1\n{PHANTOM_PROTOCOL}{}", plan.site, destination(&pacs));
        let spool = format!("file://{}", spool.display());
        let environment = [
            ("PROSECTOR__STORE__URL", store.as_str()),
            ("PROSECTOR__QUEUE__URL", queue.as_str()),
            ("PROSECTOR__SPOOL__URL", spool.as_str()),
        ];
        Prosector::once(&site, &["migrate"], &environment).unwrap();
        let start = |role| Prosector::start_with(&site, &[role, "api"], &environment).unwrap();
        Self {
            listener: start("listen"),
            workers: (0..=plan.further_workers).map(|_| start("work")).collect(),
            deliverer: start("deliver"),
            database_name: store.rsplit('/').next().unwrap().to_owned(),
            database,
            broker,
            pacs,
            folder,
        }
    }

    /// Asks the database.
    pub(crate) fn sql(&self, question: &str) -> Result<String> {
        self.database.psql(&self.database_name, question)
    }

    /// Waits for an answer of the database.
    pub(crate) fn wait_for(&self, what: &str, question: &str, answer: &str) {
        wait_until(what, Duration::from_mins(2), || Ok(self.sql(question)? == answer)).unwrap();
    }

    /// Sends a small series until every instance of it was acknowledged.
    pub(crate) fn send(&self, ledger: &mut Acknowledged, seed: u64) {
        ledger.send(self.listener.dicom_port(), self.folder.path(), seed).unwrap();
    }

    /// Sends a series of another kind.
    pub(crate) fn send_scan(&self, ledger: &mut Acknowledged, scan: &Scan) {
        ledger.send_scan(self.listener.dicom_port(), self.folder.path(), scan).unwrap();
    }

    /// Which worker has this name on its leases.
    pub(crate) fn worker_called(&mut self, name: &str) -> Option<usize> {
        let (_, pid) = name.rsplit_once('#')?;
        let pid: u32 = pid.parse().ok()?;
        self.workers.iter_mut().position(|worker| worker.service().pid() == pid)
    }

    /// Whether nothing is under way any more of `series` series.
    pub(crate) fn is_at_rest(&self, series: usize) -> Result<bool> {
        let counts = self.sql(
            "select (select count(*) from series where revision = settled_revision), \
                    (select count(*) from series where revision <> settled_revision), \
                    (select count(*) from job where state in ('held', 'queued', 'running')), \
                    (select count(*) from delivery where state in ('pending', 'sending', 'sent'))",
        )?;
        Ok(counts == format!("{series}|0|0|0"))
    }

    /// Waits until nothing is under way, then holds every promise against what was acknowledged.
    pub(crate) fn assert_nothing_lost(&self, sent: &Acknowledged) {
        wait_until("rest", Duration::from_mins(5), || self.is_at_rest(sent.series.len())).unwrap();
        self.assert_instances_kept(sent);
        self.assert_one_result_each(sent);
        let said = self.listener.command(&["audit", "verify"]).unwrap();
        assert!(said.contains("entries are sound"), "{said}");
    }

    /// Every acknowledged instance has its row, and its bytes are those that were sent.
    fn assert_instances_kept(&self, sent: &Acknowledged) {
        let rows = self
            .sql("select sop_instance_uid, encode(sha256, 'hex'), spool_key from instance")
            .unwrap();
        let spool = self.spool();
        let kept: BTreeMap<&str, (&str, &str)> = rows
            .lines()
            .map(|row| {
                let mut fields = row.split('|');
                let mut field = || fields.next().unwrap();
                (field(), (field(), field()))
            })
            .collect();
        for (uid, digest) in &sent.instances {
            let (recorded, key) = kept.get(uid.as_str()).unwrap_or_else(|| panic!("{uid} lost"));
            assert_eq!(recorded, digest, "digest on record of {uid}");
            assert_eq!(data_set_digest(&spool.join(key)).unwrap(), *digest, "bytes of {uid}");
        }
    }

    /// Every series has one job that counts, in a terminal state; where that found something, one segmentation of the
    /// series in the PACS is its result.
    fn assert_one_result_each(&self, sent: &Acknowledged) {
        let jobs = self
            .sql(
                "select series_instance_uid, state from job where state <> 'superseded' order by 1",
            )
            .unwrap();
        let series: Vec<&str> = jobs.lines().map(|job| job.split('|').next().unwrap()).collect();
        let expected: Vec<&str> = sent.series.iter().map(String::as_str).collect();
        assert_eq!(series, expected, "one job that counts for each series");
        for job in jobs.lines() {
            assert!(job.ends_with("|done") || job.ends_with("|empty"), "{job}");
        }
        let made = self
            .sql(
                "select result.sop_instance_uid, job.series_instance_uid, job.state from result \
                   join job on job.job_id = result.job_id where result.form = 'seg'",
            )
            .unwrap();
        let in_pacs = segmentations_in(&self.pacs).unwrap();
        let mut known = BTreeSet::new();
        for row in made.lines() {
            let fields: Vec<&str> = row.split('|').collect();
            let [uid, series, state] = fields[..] else { panic!("{row}") };
            known.insert(uid.to_owned());
            let source = in_pacs.get(uid);
            assert!(source.is_some() || state == "superseded", "{uid} of {series} not in the PACS");
            assert!(source.is_none_or(|source| source == series), "{uid} refers to {source:?}");
        }
        let of_done = made.lines().filter(|row| row.ends_with("|done")).count();
        assert_eq!(of_done, jobs.lines().filter(|job| job.ends_with("|done")).count());
        let strangers: Vec<&String> = in_pacs.keys().filter(|uid| !known.contains(*uid)).collect();
        assert!(strangers.is_empty(), "segmentations that no job made: {strangers:?}");
    }

    fn spool(&self) -> PathBuf {
        let shown = self.listener.command(&["config", "show"]).unwrap();
        let url = shown.lines().find_map(|line| line.strip_prefix("url = \"file://"));
        PathBuf::from(url.unwrap().trim_end_matches('"'))
    }
}

/// SOP Instance UIDs of the segmentations in a PACS, each with the series that it refers to.
fn segmentations_in(pacs: &Orthanc) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for instance in pacs.instances_of_modality("SEG")? {
        let tags = pacs.get(&format!("instances/{instance}/simplified-tags"))?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let uid = text(&tags["SOPInstanceUID"]).context("SOP Instance UID")?;
        let series = text(&tags["ReferencedSeriesSequence"][0]["SeriesInstanceUID"]);
        let twice = found.insert(uid, series.context("Referenced Series Sequence")?);
        anyhow::ensure!(twice.is_none(), "a segmentation is in the PACS twice");
    }
    Ok(found)
}

/// What senders were told is safe.
#[derive(Default)]
pub(crate) struct Acknowledged {
    /// Digest of the data set of each instance, by SOP Instance UID.
    pub(crate) instances: BTreeMap<String, String>,
    /// Series whose every instance was acknowledged.
    pub(crate) series: BTreeSet<String>,
    /// Times that a series had to be sent once more.
    pub(crate) resent: u64,
}

impl Acknowledged {
    /// What two senders were told.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.instances.extend(other.instances);
        self.series.extend(other.series);
        self.resent += other.resent;
        self
    }

    /// Writes the small series of `seed` and sends it.
    pub(crate) fn send(&mut self, port: u16, folder: &Path, seed: u64) -> Result<()> {
        let planes = [Plane::Axial, Plane::Coronal, Plane::Sagittal];
        let acquisition =
            Acquisition::new(planes[seed as usize % 3]).with_spacing_mm([12.0, 4.0, 4.0]);
        self.send_scan(port, folder, &Scan { acquisition, ..Scan::ct(seed, Plane::Axial) })
    }

    /// Writes a series and sends it, with storescu and dcmsend in turn, until every instance was acknowledged.
    fn send_scan(&mut self, port: u16, folder: &Path, scan: &Scan) -> Result<()> {
        let source = folder.join(format!("series-{}", scan.seed));
        let phantom = Phantom::write(&source, scan);
        let digests: BTreeMap<PathBuf, (String, String)> = phantom
            .sop_instance_uids()
            .iter()
            .enumerate()
            .map(|(index, uid)| {
                let file = source.join(format!("{index:03}.dcm"));
                let digest = data_set_digest(&file)?;
                Ok((file, (uid.clone(), digest)))
            })
            .collect::<Result<_>>()?;
        let peer = Peer { ae_title: AE_TITLE, port };
        let mut tries = 0;
        wait_until("every instance to be acknowledged", Duration::from_mins(3), || {
            let sender = [Sender::Storescu, Sender::Dcmsend][(scan.seed as usize + tries) % 2];
            tries += 1;
            for file in send_what_can(sender, peer, &source)? {
                let (uid, digest) = digests.get(&file).context("a file that was not asked for")?;
                self.instances.insert(uid.clone(), digest.clone());
            }
            Ok(digests.values().all(|(uid, _)| self.instances.contains_key(uid)))
        })?;
        self.resent += tries as u64 - 1;
        self.series.insert(phantom.series_instance_uid);
        Ok(())
    }
}

/// SHA-256 of the data set in a file, without what PS3.10 puts in front of it.
fn data_set_digest(file: &Path) -> Result<String> {
    use sha2::{Digest as _, Sha256};

    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    // Preamble, prefix, and (0002,0000) with the length of what follows of the meta group.
    anyhow::ensure!(bytes.get(128..132) == Some(b"DICM".as_slice()), "no DICOM file");
    let length: [u8; 4] = bytes.get(140..144).context("no group length")?.try_into()?;
    let start = 144 + u32::from_le_bytes(length) as usize;
    let data_set = bytes.get(start..).context("no data set")?;
    Ok(Sha256::digest(data_set).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
