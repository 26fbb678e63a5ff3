//! The sender against DCMTK's storescp and our own listener.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dicom::dictionary_std::{tags, uids};
use dicom_io::dimse::{Status, StoreStatus};
use dicom_io::header::read_file;
use dicom_io::scu::{
    AssociateError, Destination, EchoError, InstanceSource, ScuConfig, StoreDisposition,
    StoreResult, echo, store,
};

use crate::header::files_below;
use crate::peer::{Listening, Storescp, config, dcmtk, text};
use crate::phantom::Slice;

fn destination(port: u16, ae_title: &str) -> Destination {
    Destination {
        ae_title: ae_title.parse().unwrap(),
        address: format!("127.0.0.1:{port}"),
        calling_ae_title: "SENDER".parse().unwrap(),
        tls: None,
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_below(folder, &mut files);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echoes_a_pacs_and_says_what_is_wrong_where_nobody_answers() {
    let folder = tempfile::tempdir().unwrap();
    let storescp = Storescp::start(folder.path(), &[]).await;
    let listening = Listening::start(config()).await;
    let scu_config = ScuConfig::default();

    let good = echo(&destination(storescp.port, "PACS"), &scu_config).await;
    let wrong_title = echo(&destination(listening.address.port(), "NOBODY"), &scu_config).await;
    drop(storescp);
    let closed = listening.address.port();
    listening.stop().await;
    let nobody = echo(&destination(closed, "PACS"), &scu_config).await;

    assert!(good.is_ok(), "{good:?}");
    let Err(EchoError::Associate(AssociateError::Rejected(rejection))) = wrong_title else {
        panic!("{wrong_title:?}");
    };
    assert_eq!(rejection.to_string(), "called AE title not recognized (permanent)");
    assert!(matches!(nobody, Err(EchoError::Associate(AssociateError::Connect(_)))), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_files_and_bytes_and_dcmtk_keeps_the_same_attributes() {
    let sources = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let small = Slice::ct(1, 64).write(sources.path());
    let large = Slice::ct(2, 2048).write(sources.path());
    let in_memory = std::fs::read(Slice::ct(3, 32).write(sources.path())).unwrap();
    let storescp = Storescp::start(target.path(), &["+B"]).await;
    let instances: Vec<InstanceSource> = vec![small.into(), large.clone().into(), in_memory.into()];

    let outcomes = store(&destination(storescp.port, "PACS"), &instances, &ScuConfig::default())
        .await
        .unwrap();

    let results: Vec<_> = outcomes.iter().map(|outcome| &outcome.result).collect();
    assert!(results.iter().all(|result| matches!(result, StoreResult::Stored)), "{results:?}");
    assert_eq!(outcomes[1].sop_instance_uid.as_ref().unwrap().as_str(), "2.25.1000.2");
    let received = files_in(target.path());
    assert_eq!(received.len(), 3);
    let dataset = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let offset = read_file(path).unwrap().dataset_offset as usize;
        bytes[offset..].to_vec()
    };
    let copy = received.iter().find(|path| path.to_string_lossy().ends_with("1000.2")).unwrap();
    assert!(dataset(copy) == dataset(&large), "the data set travels byte by byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewrites_as_implicit_for_a_peer_that_takes_nothing_else() {
    let sources = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let path = Slice::ct(1, 64).write(sources.path());
    let storescp = Storescp::start(target.path(), &["+xi", "+B"]).await;
    let instances = [InstanceSource::File(path.clone())];

    let outcomes = store(&destination(storescp.port, "PACS"), &instances, &ScuConfig::default())
        .await
        .unwrap();

    assert!(matches!(outcomes[0].result, StoreResult::Stored), "{outcomes:?}");
    let received = files_in(target.path());
    let open = |path: &Path| dicom::object::open_file(path).unwrap();
    let (sent, got) = (open(&path), open(&received[0]));
    assert_eq!(got.meta().transfer_syntax(), uids::IMPLICIT_VR_LITTLE_ENDIAN);
    assert_eq!(sent.iter().count(), got.iter().count());
    for element in sent.iter() {
        let copy = got.element(element.header().tag).unwrap();
        assert_eq!(element.to_bytes().unwrap(), copy.to_bytes().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_compressed_instances_in_the_syntax_that_they_have() {
    let sources = tempfile::tempdir().unwrap();
    let plain = Slice::ct(1, 64).write(sources.path());
    let compressed = sources.path().join("compressed.dcm");
    let arguments = [plain.to_str().unwrap(), compressed.to_str().unwrap()];
    let converted = dcmtk("dcmcjpls", &arguments).await;
    assert!(converted.status.success(), "{}", text(&converted));
    let target = tempfile::tempdir().unwrap();
    let any_syntax = Storescp::start(target.path(), &["+xa", "+B"]).await;
    let native_only = Storescp::start(target.path(), &["+x="]).await;
    let instances: Vec<InstanceSource> = vec![compressed.into(), plain.into()];

    let scu_config = ScuConfig::default();
    let taken =
        store(&destination(any_syntax.port, "PACS"), &instances, &scu_config).await.unwrap();
    let refused =
        store(&destination(native_only.port, "PACS"), &instances, &scu_config).await.unwrap();

    assert!(taken.iter().all(|outcome| matches!(outcome.result, StoreResult::Stored)), "{taken:?}");
    assert!(
        matches!(refused[0].result, StoreResult::TransferSyntaxRefused),
        "{:?}",
        refused[0].result
    );
    assert!(matches!(refused[1].result, StoreResult::Stored), "{:?}", refused[1].result);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_sop_class_is_told_apart_from_a_refused_instance() {
    let sources = tempfile::tempdir().unwrap();
    let segmentation = Slice { sop_class_uid: uids::SEGMENTATION_STORAGE, ..Slice::ct(1, 16) };
    let unreadable = sources.path().join("broken.dcm");
    std::fs::write(&unreadable, b"not a DICOM file at all").unwrap();
    let instances: Vec<InstanceSource> = vec![
        segmentation.write(sources.path()).into(),
        unreadable.into(),
        Slice::ct(2, 16).write(sources.path()).into(),
    ];
    let listening = Listening::start(config()).await;
    let destination = destination(listening.address.port(), "PROSECTOR");
    let memory = listening.memory.clone();

    let mut results = Vec::new();
    for answer in [None, Some(StoreStatus::OutOfResources), Some(StoreStatus::CannotUnderstand)] {
        *memory.answer.lock().unwrap() = answer;
        results.push(store(&destination, &instances, &ScuConfig::default()).await.unwrap());
    }
    listening.stop().await;

    for outcomes in &results {
        assert!(matches!(outcomes[0].result, StoreResult::SopClassRefused), "{outcomes:?}");
        assert_eq!(outcomes[0].result.disposition(), StoreDisposition::TryOtherForm);
        assert!(matches!(outcomes[1].result, StoreResult::Unreadable(_)), "{outcomes:?}");
    }
    assert!(matches!(results[0][2].result, StoreResult::Stored));
    assert!(matches!(results[1][2].result, StoreResult::Busy(Status(0xA700))));
    assert!(matches!(results[2][2].result, StoreResult::Rejected(Status(0xC000))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_aborts_leaves_the_rest_to_be_sent_again() {
    let sources = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let instances: Vec<InstanceSource> =
        (1..=3).map(|number| Slice::ct(number, 256).write(sources.path()).into()).collect();

    for option in ["--abort-after", "--abort-during"] {
        let storescp = Storescp::start(target.path(), &[option]).await;
        let destination = destination(storescp.port, "PACS");
        let outcomes = store(&destination, &instances, &ScuConfig::default()).await.unwrap();

        assert!(matches!(outcomes[0].result, StoreResult::Unanswered(_)), "{option}: {outcomes:?}");
        assert!(matches!(outcomes[1].result, StoreResult::NotSent), "{option}: {outcomes:?}");
        for outcome in &outcomes {
            assert_eq!(outcome.result.disposition(), StoreDisposition::Retry);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_in_time_is_left() {
    let sources = tempfile::tempdir().unwrap();
    let listening = Listening::start(config()).await;
    *listening.memory.delay.lock().unwrap() = Duration::from_secs(5);
    let instances = [InstanceSource::File(Slice::ct(1, 16).write(sources.path()))];
    let impatient =
        ScuConfig { response_timeout: Duration::from_millis(200), ..ScuConfig::default() };

    let outcomes =
        store(&destination(listening.address.port(), "PROSECTOR"), &instances, &impatient)
            .await
            .unwrap();

    assert!(
        matches!(outcomes[0].result, StoreResult::Unanswered(AssociateError::TimedOut)),
        "{outcomes:?}"
    );
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_sender_and_our_listener_understand_each_other() {
    let sources = tempfile::tempdir().unwrap();
    let instances: Vec<InstanceSource> =
        (1..=20).map(|number| Slice::ct(number, 128).write(sources.path()).into()).collect();
    let listening = Listening::start(config()).await;
    let small_pdus = ScuConfig { max_sent_pdu_bytes: 1000, ..ScuConfig::default() };

    for scu_config in [ScuConfig::default(), small_pdus] {
        let destination = destination(listening.address.port(), "PROSECTOR");
        let outcomes = store(&destination, &instances, &scu_config).await.unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome.result, StoreResult::Stored)));
    }
    let memory = listening.stop().await;

    let kept = memory.kept.lock().unwrap();
    assert_eq!(kept.len(), 40);
    for (first, second) in kept[..20].iter().zip(&kept[20..]) {
        assert_eq!(first.received.dataset_sha256, second.received.dataset_sha256);
    }
    let name = kept[7].received.header.dataset.get(tags::INSTANCE_NUMBER).unwrap();
    assert_eq!(name.to_str().unwrap(), "8");
}
