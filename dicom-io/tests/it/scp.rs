//! The listener against DCMTK's senders.

use std::time::Duration;

use dicom::dictionary_std::uids;
use dicom_io::dimse::StoreStatus;
use dicom_io::scp::{AssociationEnd, RejectReason};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::peer::{Listening, config, dcmtk, text, until};
use crate::phantom::Slice;

/// The data set of a Part 10 file that `dicom_io` can find.
fn dataset_of(file: &[u8]) -> &[u8] {
    let start = dicom_io::part10::locate_dataset(file, true).unwrap().unwrap();
    &file[start.offset..]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_an_echo() {
    let listening = Listening::start(config()).await;

    let output = dcmtk("echoscu", &["-aec", "PROSECTOR", "127.0.0.1", &listening.port()]).await;
    let memory = listening.stop().await;

    assert!(output.status.success(), "{}", text(&output));
    let ended = memory.ended.lock().unwrap().clone();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].end, AssociationEnd::Released);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_every_data_set_byte_by_byte_whatever_its_transfer_syntax() {
    let folder = tempfile::tempdir().unwrap();
    let original = Slice::ct(1, 64).write(folder.path());
    let original = original.to_str().unwrap();
    let converters = [
        ("explicit", "dcmconv", &["+te"][..], "-xe", uids::EXPLICIT_VR_LITTLE_ENDIAN),
        ("implicit", "dcmconv", &["+ti"], "-xi", uids::IMPLICIT_VR_LITTLE_ENDIAN),
        ("big", "dcmconv", &["+tb"], "-xb", "1.2.840.10008.1.2.2"),
        ("deflated", "dcmconv", &["+td"], "-xd", uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        ("rle", "dcmcrle", &[], "-xr", uids::RLE_LOSSLESS),
        ("jpegls", "dcmcjpls", &[], "-xt", uids::JPEGLS_LOSSLESS),
        ("near", "dcmcjpls", &["+en"], "-xu", uids::JPEGLS_NEAR_LOSSLESS),
        ("sv1", "dcmcjpeg", &["+e1"], "-xs", uids::JPEG_LOSSLESS_SV1),
    ];
    let listening = Listening::start(config()).await;

    for (name, program, options, proposal, transfer_syntax_uid) in converters {
        let path = folder.path().join(format!("{name}.dcm"));
        let path = path.to_str().unwrap();
        let converted = dcmtk(program, &[options, &[original, path]].concat()).await;
        assert!(converted.status.success(), "{name}: {}", text(&converted));
        let port = listening.port();
        let arguments = ["-R", proposal, "-aec", "PROSECTOR", "127.0.0.1", &port, path];
        let sent = dcmtk("storescu", &arguments).await;
        assert!(sent.status.success(), "{name}: {}", text(&sent));

        let kept = listening.kept().pop().unwrap();
        assert_eq!(kept.request.transfer_syntax_uid.as_str(), transfer_syntax_uid, "{name}");
        assert_eq!(kept.received.header.modality.as_deref(), Some("CT"), "{name}");
        let dataset = dataset_of(&kept.file);
        assert_eq!(kept.received.dataset_bytes, dataset.len() as u64, "{name}");
        assert_eq!(kept.received.file_bytes, kept.file.len() as u64, "{name}");
        assert_eq!(kept.received.dataset_sha256, <[u8; 32]>::from(Sha256::digest(dataset)));
        let received_path = folder.path().join(format!("{name}-received.dcm"));
        std::fs::write(&received_path, &kept.file).unwrap();
        let received_path = received_path.to_str().unwrap();
        let dump = dcmtk("dcmdump", &["-q", "+P", "0010,0010", received_path]).await;
        assert!(text(&dump).contains("Phantom^Torso"), "{name}");
    }
    let memory = listening.stop().await;
    assert_eq!(memory.ended.lock().unwrap().len(), converters.len());
    assert!(memory.refused.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_a_large_instance_and_what_storescu_sends_in_small_pdus() {
    let folder = tempfile::tempdir().unwrap();
    let large = Slice::ct(1, 4096).write(folder.path());
    let listening = Listening::start(config()).await;
    let port = listening.port();

    for size in ["4096", "131072"] {
        let arguments = ["-aec", "PROSECTOR", "--max-send-pdu", size, "127.0.0.1", &port];
        let output =
            dcmtk("storescu", &[&arguments[..], &[large.to_str().unwrap()]].concat()).await;
        assert!(output.status.success(), "{}", text(&output));
    }
    let memory = listening.stop().await;

    let kept = memory.kept.lock().unwrap();
    let original = std::fs::read(&large).unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].received.dataset_sha256, kept[1].received.dataset_sha256);
    assert!(kept[0].received.dataset_bytes > 32 << 20);
    assert_eq!(dataset_of(&kept[0].file).len(), dataset_of(&original).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_several_associations_at_once() {
    let listening = Listening::start(config()).await;
    let port = listening.port();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut sending = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        for number in 0..10 {
            Slice::ct(100 * index as u32 + number, 32).write(folder.path());
        }
        let folder = folder.path().to_str().unwrap().to_owned();
        let port = port.clone();
        sending.push(async move {
            let arguments = ["-aec", "PROSECTOR", "+sd", "127.0.0.1", &port, &folder];
            dcmtk("dcmsend", &arguments).await
        });
    }

    let outputs = futures_util::future::join_all(sending).await;
    let memory = listening.stop().await;

    for output in outputs {
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(memory.kept.lock().unwrap().len(), 40);
    let stored: u64 = memory.ended.lock().unwrap().iter().map(|outcome| outcome.stored).sum();
    assert_eq!(stored, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_a_wrong_called_ae_title_and_reports_it() {
    let listening = Listening::start(config()).await;

    let output = dcmtk("echoscu", &["-aec", "SOMEONE", "127.0.0.1", &listening.port()]).await;
    let memory = listening.stop().await;

    assert!(!output.status.success());
    assert!(text(&output).contains("Called AE Title Not Recognized"), "{}", text(&output));
    let rejected = memory.rejected.lock().unwrap();
    assert_eq!(rejected[0].reason, RejectReason::CalledAeTitle);
    assert_eq!(rejected[0].calling_ae_title.as_ref().unwrap().as_str(), "ECHOSCU");
    assert_eq!(*memory.accepted.lock().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_sop_class_and_a_transfer_syntax_that_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let secondary =
        Slice { sop_class_uid: uids::SECONDARY_CAPTURE_IMAGE_STORAGE, ..Slice::ct(1, 16) }
            .write(folder.path());
    let video = folder.path().join("lossy.dcm");
    let ct = Slice::ct(2, 16).write(folder.path());
    let lossy = dcmtk("dcmcjpeg", &["+ee", ct.to_str().unwrap(), video.to_str().unwrap()]).await;
    assert!(lossy.status.success(), "{}", text(&lossy));
    let listening = Listening::start(config()).await;
    let port = listening.port();

    for path in [&secondary, &video] {
        let arguments =
            ["-aec", "PROSECTOR", "--decompress-never", "127.0.0.1", &port, path.to_str().unwrap()];
        let output = dcmtk("dcmsend", &arguments).await;
        assert!(
            text(&output).contains("No Acceptable Presentation Contexts")
                || text(&output).to_lowercase().contains("presentation context"),
            "{}",
            text(&output)
        );
    }
    let memory = listening.stop().await;

    assert!(memory.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_the_status_that_the_receiver_gives_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=3 {
        Slice::ct(number, 32).write(folder.path());
    }
    let listening = Listening::start(config()).await;
    let port = listening.port();
    let arguments = [
        "-v",
        "-aec",
        "PROSECTOR",
        "--no-halt",
        "+sd",
        "127.0.0.1",
        &port,
        folder.path().to_str().unwrap(),
    ];
    let memory = listening.memory.clone();

    *memory.answer.lock().unwrap() = Some(StoreStatus::OutOfResources);
    let full = dcmtk("storescu", &arguments).await;
    *memory.answer.lock().unwrap() = None;
    *memory.refuse.lock().unwrap() = Some(StoreStatus::NotAuthorized);
    let refused = dcmtk("storescu", &arguments).await;
    *memory.refuse.lock().unwrap() = None;
    *memory.room.lock().unwrap() = Some(1000);
    let disk_full = dcmtk("storescu", &arguments).await;
    *memory.room.lock().unwrap() = None;
    let stored = dcmtk("storescu", &arguments).await;

    assert!(text(&full).contains("Refused: OutOfResources"), "{}", text(&full));
    assert!(text(&refused).contains("0x124"), "{}", text(&refused));
    assert!(text(&disk_full).contains("Refused: OutOfResources"), "{}", text(&disk_full));
    assert!(stored.status.success(), "{}", text(&stored));
    assert_eq!(listening.kept().len(), 3);
    assert_eq!(memory.refused.lock().unwrap().len(), 9);
    assert_eq!(*memory.discarded.lock().unwrap(), 3);
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_dies_in_the_middle_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let large = Slice::ct(1, 4096).write(folder.path());
    let listening = Listening::start(config()).await;
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_port = relay.local_addr().unwrap().port().to_string();
    let arguments = ["-aec", "PROSECTOR", "127.0.0.1", &relay_port, large.to_str().unwrap()];
    let port = listening.port();
    let memory = listening.memory.clone();

    let cut = async {
        let (sender, _) = relay.accept().await.unwrap();
        let listener = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        let (sender_read, mut sender_write) = sender.into_split();
        let (mut listener_read, mut listener_write) = listener.into_split();
        let mut first_megabyte = sender_read.take(1 << 20);
        tokio::select! {
            passed = tokio::io::copy(&mut first_megabyte, &mut listener_write) => passed,
            answered = tokio::io::copy(&mut listener_read, &mut sender_write) => answered,
        }
    };
    let (sent, passed) = tokio::join!(dcmtk("storescu", &arguments), cut);
    until(|| memory.ended.lock().unwrap().len() == 1).await;

    assert!(!sent.status.success(), "{}", text(&sent));
    assert_eq!(passed.unwrap(), 1 << 20);
    assert!(memory.kept.lock().unwrap().is_empty());
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::ConnectionLost);
    assert_eq!(memory.ended.lock().unwrap()[0].stored, 0);
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_peers_over_the_limit_to_come_back_later() {
    let mut config = config();
    config.limits.max_associations_per_peer = 1;
    let folder = tempfile::tempdir().unwrap();
    let path = Slice::ct(1, 32).write(folder.path());
    let listening = Listening::start(config).await;
    let port = listening.port();
    *listening.memory.delay.lock().unwrap() = Duration::from_secs(2);
    let arguments = ["-aec", "PROSECTOR", "127.0.0.1", &port, path.to_str().unwrap()];
    let memory = listening.memory.clone();

    let (first, second) = tokio::join!(dcmtk("storescu", &arguments), async {
        until(|| *memory.accepted.lock().unwrap() == 1).await;
        dcmtk("echoscu", &["-v", "-aec", "PROSECTOR", "127.0.0.1", &port]).await
    });
    let third = dcmtk("echoscu", &["-aec", "PROSECTOR", "127.0.0.1", &port]).await;
    let memory = listening.stop().await;

    assert!(first.status.success(), "{}", text(&first));
    assert!(text(&second).contains("Transient"), "{}", text(&second));
    assert!(third.status.success(), "{}", text(&third));
    assert_eq!(memory.rejected.lock().unwrap()[0].reason, RejectReason::TooManyAssociationsOfPeer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_lets_a_sender_finish_and_takes_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=5 {
        Slice::ct(number, 32).write(folder.path());
    }
    let listening = Listening::start(config()).await;
    let port = listening.port();
    *listening.memory.delay.lock().unwrap() = Duration::from_millis(200);
    let arguments =
        ["-aec", "PROSECTOR", "+sd", "127.0.0.1", &port, folder.path().to_str().unwrap()];
    let memory = listening.memory.clone();

    let (sent, late) = tokio::join!(dcmtk("dcmsend", &arguments), async {
        until(|| !memory.kept.lock().unwrap().is_empty()).await;
        listening.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        dcmtk("echoscu", &["-aec", "PROSECTOR", "127.0.0.1", &port]).await
    });
    let memory = listening.stop().await;

    assert!(sent.status.success(), "{}", text(&sent));
    assert!(!late.status.success());
    assert_eq!(memory.kept.lock().unwrap().len(), 5);
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::Released);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
async fn takes_every_published_image_that_a_sender_offers_and_no_instance_without_names() {
    let corpus = crate::header::corpus();
    let mut files = Vec::new();
    crate::header::files_below(&corpus, &mut files);
    let classes = config().storage_sop_classes;
    let syntaxes = config().storage_transfer_syntaxes;
    let mut expected: Vec<String> = files
        .iter()
        .filter_map(|path| dicom_io::header::read_file(path).ok())
        .filter(|header| {
            classes.contains(&header.sop_class_uid)
                && syntaxes.contains(&header.transfer_syntax_uid)
        })
        .map(|header| header.sop_instance_uid.to_string())
        .collect();
    expected.sort();
    expected.dedup();
    let listening = Listening::start(config()).await;
    let port = listening.port();
    let folder = corpus.to_str().unwrap();

    let arguments = [
        "-aec",
        "PROSECTOR",
        "--decompress-never",
        "-nh",
        "+sd",
        "+r",
        "-nuc",
        "127.0.0.1",
        &port,
        folder,
    ];
    let output = dcmtk("dcmsend", &arguments).await;
    let memory = listening.stop().await;

    let mut kept: Vec<String> = memory
        .kept
        .lock()
        .unwrap()
        .iter()
        .map(|kept| kept.received.header.sop_instance_uid.to_string())
        .collect();
    kept.sort();
    kept.dedup();
    let missing: Vec<_> = expected.iter().filter(|uid| !kept.contains(uid)).collect();
    assert!(missing.is_empty(), "{missing:?} {}", text(&output));
    assert!(kept.len() > 80, "{}", kept.len());
}
