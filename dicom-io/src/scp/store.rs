//! One C-STORE operation, from its command to the status of its response.

use std::sync::Arc;

use dicom_types::{AeTitle, SopClassUid, StudyInstanceUid, TransferSyntaxUid};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::policy::ScpConfig;
use super::receiver::{
    AssociationInfo, InstanceReceiver, InstanceSink, ReceivedInstance, StoreRequest,
};
use crate::dimse::{Attributes, CommandSet, StoreStatus};
use crate::header::{HeaderLimits, HeaderReader, InstanceHeader, ReadHeaderError};
use crate::part10::FileMeta;

/// Small fragments are gathered up to this size before the sink gets them.
const CHUNK_BYTES: usize = 256 * 1024;

/// Fragments of this size go to the sink as they are.
const LARGE_FRAGMENT_BYTES: usize = 64 * 1024;

/// An instance on its way in.
pub(super) struct StoreOperation<R: InstanceReceiver> {
    receiver: Arc<R>,
    request: Option<StoreRequest>,
    state: State<R::Sink>,
    dataset_bytes: u64,
    max_dataset_bytes: u64,
}

enum State<S> {
    Receiving(Box<Receiving<S>>),
    /// The rest of the data set is read and thrown away.
    Refused(Refusal),
}

/// An instance whose data set comes piece by piece: hashed, its header read, the rest handed on.
pub(crate) struct Receiving<S> {
    sink: S,
    /// The study that it must be of, where the way in is that of one study.
    study: Option<StudyInstanceUid>,
    header: HeaderProgress,
    hasher: Sha256,
    chunk: Vec<u8>,
    file_bytes: u64,
}

enum HeaderProgress {
    Reading(Box<HeaderReader>),
    Done(Box<InstanceHeader>),
    /// Turned out to be no good; the operation is refused and never comes back here.
    Failed,
}

/// A status other than success and a comment for the sender, free of payload.
pub(crate) struct Refusal {
    pub(crate) status: StoreStatus,
    pub(crate) comment: String,
}

impl Refusal {
    pub(crate) fn new(status: StoreStatus, comment: impl Into<String>) -> Self {
        Self { status, comment: comment.into() }
    }
}

/// How an operation ended.
pub(super) struct StoreResult {
    pub(super) status: StoreStatus,
    pub(super) comment: String,
    pub(super) dataset_bytes: u64,
}

impl<R: InstanceReceiver> StoreOperation<R> {
    /// Checks the command and opens a sink.
    pub(super) async fn begin(
        receiver: Arc<R>,
        config: &ScpConfig,
        association: Arc<AssociationInfo>,
        command: &CommandSet,
        context: (&SopClassUid, &TransferSyntaxUid),
    ) -> Self {
        let max_dataset_bytes = config.limits.max_dataset_bytes;
        let mut operation = Self {
            receiver,
            request: None,
            state: State::Refused(Refusal::new(StoreStatus::ProcessingFailure, "")),
            dataset_bytes: 0,
            max_dataset_bytes,
        };
        match read_request(association, command, context) {
            Ok(request) => {
                let opened = Receiving::open(operation.receiver.as_ref(), &request, None).await;
                operation.state = match opened {
                    Ok(receiving) => State::Receiving(Box::new(receiving)),
                    Err(refusal) => State::Refused(refusal),
                };
                operation.request = Some(request);
            }
            Err(refusal) => operation.state = State::Refused(refusal),
        }
        operation
    }

    /// Takes the next fragment of the data set.
    pub(super) async fn push(&mut self, fragment: &[u8]) {
        self.dataset_bytes += fragment.len() as u64;
        let State::Receiving(receiving) = &mut self.state else { return };
        let taken = if self.dataset_bytes > self.max_dataset_bytes {
            Err(Refusal::new(StoreStatus::CannotUnderstand, "data set is too large"))
        } else {
            match &self.request {
                Some(request) => receiving.take(request, fragment).await,
                None => Err(Refusal::new(StoreStatus::ProcessingFailure, "no request")),
            }
        };
        if let Err(refusal) = taken {
            // Replacing the state drops the sink, which leaves nothing behind.
            self.state = State::Refused(refusal);
        }
    }

    /// Ends the data set and makes the instance durable.
    pub(super) async fn finish(self, config: &ScpConfig) -> StoreResult {
        let Self { receiver, request, state, dataset_bytes, .. } = self;
        let refusal = match state {
            State::Refused(refusal) => refusal,
            State::Receiving(receiving) => {
                let finished = match &request {
                    Some(request) => receiving.finish(request, dataset_bytes, config).await,
                    None => Err(Refusal::new(StoreStatus::ProcessingFailure, "no request")),
                };
                match finished {
                    Ok(()) => {
                        return StoreResult {
                            status: StoreStatus::Success,
                            comment: String::new(),
                            dataset_bytes,
                        };
                    }
                    Err(refusal) => refusal,
                }
            }
        };
        if let Some(request) = &request {
            receiver.instance_refused(request, refusal.status).await;
        }
        StoreResult { status: refusal.status, comment: refusal.comment, dataset_bytes }
    }

    /// The UID of the instance, where the command has one.
    pub(super) fn sop_instance_uid(&self) -> &str {
        self.request.as_ref().map_or("", |request| request.sop_instance_uid.as_str())
    }
}

impl<S: InstanceSink> Receiving<S> {
    /// Opens a sink and gives it our File Meta Information.
    pub(crate) async fn open<R: InstanceReceiver<Sink = S>>(
        receiver: &R,
        request: &StoreRequest,
        study: Option<StudyInstanceUid>,
    ) -> Result<Self, Refusal> {
        let header =
            HeaderReader::new(request.transfer_syntax_uid.clone(), HeaderLimits::for_receiving())
                .map_err(|error| unreadable(&error))?;
        let sink = receiver
            .begin(request)
            .await
            .map_err(|status| Refusal::new(status, status.as_str()))?;
        let meta = FileMeta {
            sop_class_uid: request.sop_class_uid.clone(),
            sop_instance_uid: request.sop_instance_uid.clone(),
            transfer_syntax_uid: request.transfer_syntax_uid.clone(),
            source_ae_title: Some(request.association.calling_ae_title.clone()),
        };
        Ok(Self {
            sink,
            study,
            header: HeaderProgress::Reading(Box::new(header)),
            hasher: Sha256::new(),
            chunk: meta.encode(),
            file_bytes: 0,
        })
    }

    /// Takes the next bytes of the data set.
    pub(crate) async fn take(
        &mut self,
        request: &StoreRequest,
        fragment: &[u8],
    ) -> Result<(), Refusal> {
        self.hasher.update(fragment);
        if let HeaderProgress::Reading(reader) = &mut self.header {
            reader.feed(fragment).map_err(|error| unreadable(&error))?;
            if reader.is_complete() {
                self.end_header(request)?;
            }
        }
        let is_large = fragment.len() >= LARGE_FRAGMENT_BYTES;
        if is_large || self.chunk.len() + fragment.len() > CHUNK_BYTES {
            self.flush().await?;
        }
        if is_large {
            return self.write(fragment).await;
        }
        self.chunk.extend_from_slice(fragment);
        Ok(())
    }

    /// Compares the instance that the data set names with the one that the command announced (PS3.4 table B.2-1).
    fn end_header(&mut self, request: &StoreRequest) -> Result<(), Refusal> {
        if matches!(self.header, HeaderProgress::Done(_)) {
            return Ok(());
        }
        let HeaderProgress::Reading(reader) =
            std::mem::replace(&mut self.header, HeaderProgress::Failed)
        else {
            return Err(Refusal::new(StoreStatus::CannotUnderstand, "no header"));
        };
        let header = reader.finish().map_err(|error| unreadable(&error))?;
        let is_announced = request.sop_class_uid == header.sop_class_uid
            && request.sop_instance_uid == header.sop_instance_uid;
        if self.study.as_ref().is_some_and(|study| *study != header.study_instance_uid) {
            return Err(Refusal::new(StoreStatus::DatasetMismatch, "instance of another study"));
        }
        if !is_announced {
            let comment = "data set and command name different instances";
            return Err(Refusal::new(StoreStatus::DatasetMismatch, comment));
        }
        self.header = HeaderProgress::Done(Box::new(header));
        Ok(())
    }

    /// Ends the data set and makes the instance durable.
    pub(crate) async fn finish(
        mut self: Box<Self>,
        request: &StoreRequest,
        dataset_bytes: u64,
        config: &ScpConfig,
    ) -> Result<(), Refusal> {
        self.end_header(request)?;
        self.flush().await?;
        let Self { sink, header, hasher, file_bytes, .. } = *self;
        let HeaderProgress::Done(header) = header else {
            return Err(Refusal::new(StoreStatus::CannotUnderstand, "no header"));
        };
        let received = ReceivedInstance {
            header: *header,
            dataset_sha256: hasher.finalize().into(),
            dataset_bytes,
            file_bytes,
        };
        let finished = timeout(config.timeouts.storage, sink.finish(received)).await;
        match finished {
            Ok(StoreStatus::Success) => Ok(()),
            Ok(status) => Err(Refusal::new(status, status.as_str())),
            Err(_) => Err(Refusal::new(StoreStatus::ProcessingFailure, "storage took too long")),
        }
    }

    async fn flush(&mut self) -> Result<(), Refusal> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let written = self.write(&chunk).await;
        chunk.clear();
        self.chunk = chunk;
        written
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.file_bytes += bytes.len() as u64;
        self.sink.write(bytes).await.map_err(|error| {
            tracing::error!(error = %error, "cannot write an instance");
            Refusal::new(StoreStatus::OutOfResources, "cannot write the instance")
        })
    }
}

fn read_request(
    association: Arc<AssociationInfo>,
    command: &CommandSet,
    (sop_class_uid, transfer_syntax_uid): (&SopClassUid, &TransferSyntaxUid),
) -> Result<StoreRequest, Refusal> {
    let requested_class = command.text(Attributes::AFFECTED_SOP_CLASS_UID);
    if requested_class != Some(sop_class_uid.as_str()) {
        let comment = "SOP class differs from the presentation context";
        return Err(Refusal::new(StoreStatus::SopClassNotSupported, comment));
    }
    let sop_instance_uid = command
        .text(Attributes::AFFECTED_SOP_INSTANCE_UID)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Refusal::new(StoreStatus::InvalidInstance, "SOP instance UID is malformed")
        })?;
    let move_originator_ae_title: Option<AeTitle> =
        command.text(Attributes::MOVE_ORIGINATOR_AE_TITLE).and_then(|text| text.parse().ok());
    Ok(StoreRequest {
        association,
        sop_class_uid: sop_class_uid.clone(),
        sop_instance_uid,
        transfer_syntax_uid: transfer_syntax_uid.clone(),
        move_originator_ae_title,
    })
}

fn unreadable(error: &ReadHeaderError) -> Refusal {
    Refusal::new(StoreStatus::CannotUnderstand, error.to_string())
}
