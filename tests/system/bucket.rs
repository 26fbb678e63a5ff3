//! The main job with the spool in a bucket, each role a process of its own with no folder in common.

use std::path::Path;
use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::s3::{ACCESS_KEY_ID, S3, SECRET_ACCESS_KEY};
use test_harness::{postgres, rabbitmq};

use crate::pacs::{PHANTOM_PROTOCOL, assert_sound, destination, segmentations};
use crate::phantom::{Phantom, Scan};

const BUCKET: &str = "hospital";

#[test]
fn roles_with_a_bucket_do_the_main_job_while_its_service_comes_and_goes() {
    let database = postgres::shared().create_database().unwrap();
    let broker = rabbitmq::shared().create_vhost().unwrap();
    let pacs = Orthanc::start(&[]).unwrap();
    let mut s3 = S3::start().unwrap();
    s3.create_bucket(BUCKET).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET_ACCESS_KEY}\n")).unwrap();
    // Nothing settles while the service of the bucket is away.
    let protocol = PHANTOM_PROTOCOL.replace("1s", "20s");
    let site = |bucket: &str| {
        format!(
            "{protocol}{}[spool]\nurl = \"s3://{bucket}/spool\"\n[spool.s3]\nendpoint = {:?}\n\
             access_key_id_env = \"BUCKET_KEY\"\nsecret_access_key_file = {secret:?}\n",
            destination(&pacs),
            s3.endpoint(),
        )
    };
    let environment = [
        ("PROSECTOR__STORE__URL", database.as_str()),
        ("PROSECTOR__QUEUE__URL", broker.as_str()),
        ("BUCKET_KEY", ACCESS_KEY_ID),
    ];
    let right = site(BUCKET);
    Prosector::once(&right, &["migrate"], &environment).unwrap();
    let refused = Prosector::start_with(&site("elsewhere"), &["listen", "api"], &environment);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("spool.url: s3://elsewhere/spool"), "{refused}");
    assert!(refused.contains("there is no bucket elsewhere"), "{refused}");

    let start = |role| Prosector::start_with(&right, &[role, "api"], &environment).unwrap();
    let (listener, worker, deliverer) = (start("listen"), start("work"), start("deliver"));
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(90, Plane::Axial));
    let port = listener.dicom_port().to_string();
    let sent = source.to_string_lossy().into_owned();
    let sender = std::thread::spawn(move || {
        let arguments = ["-v", "-aec", AE_TITLE, "+sd", "+r", "127.0.0.1", &port, &sent];
        test_harness::dcmtk::run("storescu", "dcmtk", &arguments).unwrap()
    });
    test_harness::wait_until("the first objects", Duration::from_secs(20), || {
        Ok(!s3.objects(BUCKET)?.is_empty())
    })
    .unwrap();
    s3.kill().unwrap();
    let had = s3.objects(BUCKET).unwrap().len();
    std::thread::sleep(Duration::from_secs(4));
    s3.start_again().unwrap();

    let report = sender.join().unwrap();
    let report = String::from_utf8_lossy(&report.stderr).into_owned()
        + &String::from_utf8_lossy(&report.stdout);
    let acknowledged = report.matches("Received Store Response (Success)").count();
    println!("{had} objects before the service went, {acknowledged} instances acknowledged");
    // What was refused meanwhile the sender sends again, and what was kept is there already.
    let peer = || Peer { ae_title: AE_TITLE, port: listener.dicom_port() };
    test_harness::wait_until("the study to be kept", Duration::from_mins(1), || {
        Ok(dcmsend(peer(), &source).is_ok())
    })
    .unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let files = segmentations(&pacs, 1, &received);
    phantom.assert_seen(&assert_sound(&files[0], &source));

    let kept = listener.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    let kept = kept.as_array().unwrap();
    assert_eq!(kept.len(), phantom.instances);
    for instance in kept {
        let key = format!("spool/{}", instance["spool_key"].as_str().unwrap());
        let object = s3.object(BUCKET, &key).unwrap();
        let size = instance["size_bytes"].as_u64().unwrap() as usize;
        assert!(object.len() > size && object[128..132] == *b"DICM", "{key}");
    }
    let objects = s3.objects(BUCKET).unwrap();
    assert_eq!(objects.iter().filter(|key| key.starts_with("spool/results/")).count(), 1);
    for service in [&listener, &worker, &deliverer] {
        assert_empty(&service.folder().join("var/staging/incoming"));
        assert_empty(&service.folder().join("var/staging/fetched"));
        assert!(!service.folder().join("var/spool").exists());
        assert!(!service.log().contains(SECRET_ACCESS_KEY));
    }
    assert!(listener.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

fn assert_empty(folder: &Path) {
    test_harness::wait_until("an empty folder", Duration::from_secs(10), || {
        Ok(std::fs::read_dir(folder)?.next().is_none())
    })
    .unwrap();
}
