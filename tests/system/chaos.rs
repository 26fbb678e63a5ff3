//! What goes wrong in a night without anybody being called: each ends with all work done and nothing twice.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prosector_model::phantom::{Acquisition, Plane};
use test_harness::dcmtk::{Peer, Sender, send_what_can};
use test_harness::prosector::AE_TITLE;
use test_harness::wait_until;

use crate::house::{Acknowledged, House, Plan};
use crate::phantom::Scan;

const SHORT_LEASE: &str = "[queue]\nlease = \"5s\"\n";

#[test]
fn without_its_broker_and_with_a_broker_that_forgot_everything_work_goes_on() {
    let mut house = House::start(&Plan { site: SHORT_LEASE, ..Plan::default() });
    let mut sent = Acknowledged::default();

    house.send(&mut sent, 2000);
    house.broker.kill().unwrap();
    house.send(&mut sent, 2001);
    house.wait_for("work without a broker", DONE, "2");
    house.broker.wipe().unwrap();
    house.send(&mut sent, 2002);
    house.broker.start_again().unwrap();
    house.send(&mut sent, 2003);

    house.assert_nothing_lost(&sent);
    house.wait_for("the outbox to be published", "select count(*) from outbox", "0");
}

#[test]
fn a_broker_that_keeps_silent_stops_neither_work_nor_the_care_for_leases() {
    let mut house =
        House::start(&Plan { site: SHORT_LEASE, further_workers: 1, ..Plan::default() });
    let mut sent = Acknowledged::default();
    house.send(&mut sent, 2010);
    house.wait_for("the first job", DONE, "1");

    house.broker.service().signal("STOP").unwrap();
    house.send(&mut sent, 2011);
    house.wait_for("a job in hand", "select count(*) from job where state = 'running'", "1");
    let owner = house.sql("select lease_owner from job where state = 'running'").unwrap();
    let of_job = house.worker_called(&owner).unwrap();
    house.workers[of_job].kill().unwrap();

    house.wait_for("the job to be done by the other", DONE, "2");
    house.broker.service().signal("CONT").unwrap();
    house.workers[of_job].start_again().unwrap();
    house.assert_nothing_lost(&sent);
}

#[test]
fn a_worker_asleep_past_its_lease_changes_nothing_when_it_wakes() {
    let mut house =
        House::start(&Plan { site: SHORT_LEASE, further_workers: 1, ..Plan::default() });
    let mut sent = Acknowledged::default();

    let (asleep, seed) = (2020..2040)
        .find_map(|seed| {
            house.send(&mut sent, seed);
            let running = "select lease_owner from job where state = 'running'";
            let mut owner = String::new();
            wait_until("a job in hand", Duration::from_mins(1), || {
                owner = house.sql(running)?;
                Ok(!owner.is_empty() || house.is_at_rest(sent.series.len())?)
            })
            .unwrap();
            let found = house.worker_called(&owner)?;
            house.workers[found].service().signal("STOP").unwrap();
            // It may have come to its end just before.
            let still = house.sql(running).unwrap();
            if still == owner {
                return Some((found, seed));
            }
            house.workers[found].service().signal("CONT").unwrap();
            None
        })
        .unwrap();
    let job = "select attempt, state from job order by created_at desc, job_id limit 1";
    house.wait_for("the other worker to do it", job, "2|done");
    house.workers[asleep].service().signal("CONT").unwrap();

    wait_until("the late worker to notice", Duration::from_secs(30), || {
        let log = house.workers[asleep].log();
        Ok(log.contains("is lost"))
    })
    .unwrap();
    house.assert_nothing_lost(&sent);
    let finished = house.sql("select count(*) from event where kind = 'job_done'").unwrap();
    assert_eq!(finished, sent.series.len().to_string(), "series {seed} was the last one");
    house.send(&mut sent, seed + 100);
    house.assert_nothing_lost(&sent);
}

#[test]
fn a_database_that_restarts_and_a_pacs_that_is_down_are_waited_for() {
    let mut house = House::start(&Plan { site: SHORT_LEASE, ..Plan::default() });
    let mut sent = Acknowledged::default();
    house.pacs.service().kill().unwrap();
    house.send(&mut sent, 2060);
    house.wait_for("a job in hand", "select count(*) from job where state = 'running'", "1");

    house.database.kill().unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: house.listener.dicom_port() };
    let source = house.folder.path().join("series-2060");
    let taken = send_what_can(Sender::Storescu, peer, &source).unwrap();
    assert!(taken.is_empty(), "acknowledged without a database");
    house.database.start_again().unwrap();
    house.send(&mut sent, 2061);
    let failed = "select count(*) from delivery where attempt > 1";
    house.wait_for("deliveries that were tried twice", failed, "2");
    house.pacs.start_again().unwrap();

    house.assert_nothing_lost(&sent);
    for part in [&mut house.listener, &mut house.workers[0], &mut house.deliverer] {
        assert!(part.service().is_running().unwrap(), "{}", part.log());
        assert_eq!(part.log().matches("service started").count(), 1);
    }
}

#[test]
fn a_full_disk_refuses_instances_and_reception_resumes_by_itself() {
    let disk = Disk::mount("16m");
    let site = format!("[spool]\nreserve = \"4 MiB\"\n{SHORT_LEASE}");
    let spool = disk.folder.path().join("spool");
    let house = House::start(&Plan { site: &site, spool: Some(&spool), ..Plan::default() });
    let mut sent = Acknowledged::default();
    house.send(&mut sent, 2070);
    house.assert_nothing_lost(&sent);

    // Not a byte is left, not even for the result of a job that is already there.
    let ballast = disk.folder.path().join("ballast");
    disk.fill(&ballast);
    let source = house.folder.path().join("series-2070");
    let peer = Peer { ae_title: AE_TITLE, port: house.listener.dicom_port() };
    for sender in [Sender::Storescu, Sender::Dcmsend] {
        let taken = send_what_can(sender, peer, &source).unwrap();
        assert!(taken.is_empty(), "acknowledged on a full disk");
    }
    let log = house.listener.log();
    assert!(log.contains("bytes free and keeps 4194304"), "{log}");
    assert!(log.contains("A700"), "{log}");
    let reasons = "select distinct reason_code from event where kind = 'instance_refused'";
    assert_eq!(house.sql(reasons).unwrap(), "disk_reserve");
    assert!(!house.listener.is_ready(), "ready without space");

    std::fs::remove_file(&ballast).unwrap();
    house.send(&mut sent, 2071);
    house.assert_nothing_lost(&sent);
}

#[test]
fn a_result_that_finds_the_disk_full_waits_for_space_and_is_not_given_up() {
    let disk = Disk::mount("16m");
    let site = format!("[spool]\nreserve = \"1 MiB\"\n{SHORT_LEASE}attempts = 1\n");
    let spool = disk.folder.path().join("spool");
    let house = House::start(&Plan { site: &site, spool: Some(&spool), ..Plan::default() });
    let mut sent = Acknowledged::default();
    let ballast = disk.folder.path().join("ballast");

    house.send(&mut sent, 2080);
    disk.fill(&ballast);
    let waiting =
        "select count(*) from job where state = 'queued' and reason_code = 'spool_unavailable'";
    house.wait_for("the job to wait for space", waiting, "1");
    std::fs::remove_file(&ballast).unwrap();

    house.assert_nothing_lost(&sent);
}

#[test]
fn a_job_longer_than_the_brokers_consumer_timeout_is_done_once() {
    let mut house = House::start(&Plan {
        site: SHORT_LEASE,
        consumer_timeout_ms: Some(1000),
        ..Plan::default()
    });
    let mut sent = Acknowledged::default();

    // A message that nobody acknowledges shows that this broker does not wait.
    house.workers[0].service().signal("STOP").unwrap();
    house.send(&mut sent, 2090);
    let timed_out = |house: &mut House| {
        house
            .broker
            .service()
            .log()
            .matches("timed out waiting for delivery acknowledgement")
            .count()
    };
    wait_until("the broker to lose patience", Duration::from_mins(1), || {
        Ok(timed_out(&mut house) > 0)
    })
    .unwrap();
    house.workers[0].service().signal("CONT").unwrap();
    house.assert_nothing_lost(&sent);
    let losses = timed_out(&mut house);

    // The processor is away for three times as long as the broker waits, with a job in hand.
    let fine = Acquisition::new(Plane::Axial).with_spacing_mm([3.0, 1.5, 1.5]);
    house.send_scan(&mut sent, &Scan { acquisition: fine, ..Scan::ct(2091, Plane::Axial) });
    house.wait_for("a job in hand", "select count(*) from job where state = 'running'", "1");
    house.workers[0].service().signal("STOP").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    house.workers[0].service().signal("CONT").unwrap();
    house.assert_nothing_lost(&sent);

    let long = "select count(*) from job where attempt = 1 and state = 'done' \
                   and finished_at - started_at > interval '3 seconds'";
    assert_eq!(house.sql(long).unwrap(), "1", "no job took longer than the broker waits");
    assert_eq!(house.sql("select count(*) from event where kind = 'job_leased'").unwrap(), "2");
    assert_eq!(timed_out(&mut house), losses, "the long job met the consumer timeout");
}

#[test]
fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let mut house = House::start(&Plan {
        site: "[queue]\nlease = \"20s\"\n",
        further_workers: 1,
        ..Plan::default()
    });
    let (port, folder) = (house.listener.dicom_port(), house.folder.path().to_owned());
    let is_over = AtomicBool::new(false);

    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = Acknowledged::default();
            for seed in 2100.. {
                sent.send(port, &folder, seed).unwrap();
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            sent
        });
        house.wait_for("a job in hand", "select count(*) from job where state = 'running'", "1");
        let [one, other] = &mut house.workers[..] else { panic!("two workers") };
        for part in [one, other, &mut house.listener, &mut house.deliverer] {
            part.service().signal("TERM").unwrap();
            let code = part.service().wait(Duration::from_secs(45)).unwrap();
            assert_eq!(code, Some(0), "{}", part.log());
            part.start_again().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });

    house.assert_nothing_lost(&sent);
    let lapsed = "select count(*) from event where kind = 'lease_lapsed'";
    assert_eq!(house.sql(lapsed).unwrap(), "0", "a lease was left behind");
    let sent_twice = "select count(*) from delivery where attempt > 1";
    assert_eq!(house.sql(sent_twice).unwrap(), "0", "a result was sent twice");
}

const DONE: &str = "select count(*) from job where state in ('done', 'empty')";

/// A small file system of its own.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(size: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir().unwrap();
        let option = format!("size={size},mode=777");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "tmpfs"])
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "a tmpfs needs the right to mount: {said}");
        Self { folder }
    }

    /// Leaves no byte free.
    fn fill(&self, ballast: &PathBuf) {
        use std::io::Write as _;

        let mut file = std::fs::File::create(ballast).unwrap();
        let mut block = vec![0u8; 1 << 20];
        while block.len() > 512 {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        assert!(ballast.starts_with(self.folder.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.folder.path()).status().ok();
    }
}
