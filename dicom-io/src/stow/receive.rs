//! STOW-RS as an origin server (PS3.18 10.5): instances of one HTTP request on the way that those of an association
//! take.

use std::sync::Arc;

use dicom_types::{SopClassUid, SopInstanceUid, StudyInstanceUid};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::multipart::{Event, Multipart, MultipartError, boundary_of};
use crate::dimse::{FailureReason, StoreStatus};
use crate::part10::locate_dataset;
use crate::scp::{AssociationInfo, InstanceReceiver, Receiving, Refusal, ScpConfig, StoreRequest};

/// Instances of a request that are being made durable while the next one is read.
const UNDER_WAY: usize = 16;
/// Most instances of a request: each has a line in the answer.
const MAX_INSTANCES: usize = 100_000;
/// Failure Reason for a transfer syntax that is not taken (PS3.18 table I.2-2).
const TRANSFER_SYNTAX_NOT_SUPPORTED: FailureReason = FailureReason(0xC122);

/// What became of one part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StowedInstance {
    /// SOP class and instance, where its File Meta Information names both.
    pub instance: Option<(SopClassUid, SopInstanceUid)>,
    /// Durable, or why not.
    pub outcome: Result<(), FailureReason>,
    /// Bytes of its data set.
    pub dataset_bytes: u64,
}

impl StowedInstance {
    fn failed(reason: FailureReason) -> Self {
        Self { instance: None, outcome: Err(reason), dataset_bytes: 0 }
    }
}

/// Why a request as a whole is not followed. Nothing of it was kept, unless the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StowRequestError {
    /// Another Content-Type than `multipart/related` with parts of `application/dicom`.
    #[error("not multipart/related with parts of application/dicom")]
    MediaType,
    /// The body has no part, or is no multipart body.
    #[error("no multipart body with instances in it")]
    Malformed,
    /// The client was silent for too long.
    #[error("client was silent for too long")]
    TimedOut,
    /// The client went away.
    #[error("connection lost")]
    ConnectionLost,
}

/// Takes the instances of a request; one outcome for each, in their order.
///
/// What is taken, how large it may be and how long the client may be silent is what `config` says for associations.
/// `association` stands for the request wherever an association is named. Memory is bounded by some buffers for each of
/// the instances under way, whatever the request holds.
///
/// # Errors
/// [`StowRequestError`]; after [`StowRequestError::TimedOut`] and [`StowRequestError::ConnectionLost`] instances that
/// came before may have been kept.
pub async fn receive<R, B>(
    receiver: &Arc<R>,
    config: &Arc<ScpConfig>,
    association: &Arc<AssociationInfo>,
    study: Option<&StudyInstanceUid>,
    content_type: &str,
    mut body: B,
) -> Result<Vec<StowedInstance>, StowRequestError>
where
    R: InstanceReceiver,
    B: Body<Data = Bytes> + Unpin,
{
    let boundary = boundary_of(content_type).ok_or(StowRequestError::MediaType)?;
    let mut multipart = Multipart::new(&boundary);
    let mut intake = Intake {
        receiver: Arc::clone(receiver),
        config: Arc::clone(config),
        association: Arc::clone(association),
        study: study.cloned(),
        finished: Vec::new(),
        under_way: JoinSet::new(),
        part: None,
    };
    let mut is_whole = false;
    loop {
        let frame = timeout(config.timeouts.stall, body.frame());
        let Some(frame) = frame.await.map_err(|_| StowRequestError::TimedOut)? else { break };
        let frame = frame.map_err(|_| StowRequestError::ConnectionLost)?;
        let Ok(bytes) = frame.into_data() else { continue };
        multipart.push(&bytes);
        match intake.take(&mut multipart).await {
            Ok(is_end) => is_whole |= is_end,
            Err(_) if intake.finished.is_empty() => return Err(StowRequestError::Malformed),
            Err(_) => break,
        }
    }
    intake.end(is_whole).await
}

/// What a request has brought so far.
struct Intake<R: InstanceReceiver> {
    receiver: Arc<R>,
    config: Arc<ScpConfig>,
    association: Arc<AssociationInfo>,
    study: Option<StudyInstanceUid>,
    /// Outcomes by part; those under way are processing failures until they end.
    finished: Vec<StowedInstance>,
    under_way: JoinSet<(usize, Result<(), FailureReason>)>,
    part: Option<Part<R>>,
}

/// The part that is being read.
enum Part<R: InstanceReceiver> {
    /// Its File Meta Information is not all there; bytes so far, and how many are worth another look.
    Front {
        bytes: Vec<u8>,
        worth_a_look: usize,
    },
    Dataset {
        receiving: Box<Receiving<R::Sink>>,
        request: StoreRequest,
        dataset_bytes: u64,
    },
    /// The rest is read past.
    Refused,
}

impl<R: InstanceReceiver> Intake<R> {
    /// Takes what the parser has; whether the last boundary was among it.
    async fn take(&mut self, multipart: &mut Multipart) -> Result<bool, MultipartError> {
        let mut is_end = false;
        while let Some(event) = multipart.next()? {
            match event {
                Event::Part { media_type } => {
                    self.finished.push(StowedInstance::failed(FailureReason::PROCESSING_FAILURE));
                    self.part = Some(Part::Front { bytes: Vec::new(), worth_a_look: 1 });
                    if !matches!(media_type.as_str(), "" | "application/dicom") {
                        self.refuse(&refusal(StoreStatus::CannotUnderstand)).await;
                    } else if self.finished.len() > MAX_INSTANCES {
                        self.refuse(&refusal(StoreStatus::OutOfResources)).await;
                    }
                }
                Event::Data(range) => self.data(multipart.bytes(range)).await,
                Event::PartEnd => self.part_end().await,
                Event::End => is_end = true,
            }
        }
        Ok(is_end)
    }

    async fn data(&mut self, bytes: &[u8]) {
        match &mut self.part {
            Some(Part::Front { bytes: front, worth_a_look }) => {
                front.extend_from_slice(bytes);
                if front.len() >= *worth_a_look {
                    *worth_a_look = 2 * front.len();
                    let front = std::mem::take(front);
                    self.look(front, false).await;
                }
            }
            Some(Part::Dataset { receiving, request, dataset_bytes }) => {
                *dataset_bytes += bytes.len() as u64;
                let taken = if *dataset_bytes > self.config.limits.max_dataset_bytes {
                    Err(refusal(StoreStatus::CannotUnderstand))
                } else {
                    receiving.take(request, bytes).await
                };
                if let Err(refusal) = taken {
                    self.refuse(&refusal).await;
                }
            }
            Some(Part::Refused) | None => {}
        }
    }

    /// Looks whether `front` holds all of the File Meta Information, and opens a sink where it does.
    async fn look(&mut self, front: Vec<u8>, is_whole: bool) {
        let start = match locate_dataset(&front, is_whole) {
            Ok(Some(start)) => start,
            Ok(None) => {
                let worth_a_look = 2 * front.len();
                self.part = Some(Part::Front { bytes: front, worth_a_look });
                return;
            }
            Err(_) => return self.refuse(&refusal(StoreStatus::CannotUnderstand)).await,
        };
        let (Some(sop_class_uid), Some(sop_instance_uid)) =
            (start.sop_class_uid, start.sop_instance_uid)
        else {
            return self.refuse(&refusal(StoreStatus::CannotUnderstand)).await;
        };
        if let Some(last) = self.finished.last_mut() {
            last.instance = Some((sop_class_uid.clone(), sop_instance_uid.clone()));
        }
        let request = StoreRequest {
            association: Arc::clone(&self.association),
            sop_class_uid,
            sop_instance_uid,
            transfer_syntax_uid: start.transfer_syntax_uid,
            move_originator_ae_title: None,
        };
        if !self.config.storage_sop_classes.contains(&request.sop_class_uid) {
            let refusal = refusal(StoreStatus::SopClassNotSupported);
            self.receiver.instance_refused(&request, refusal.status).await;
            return self.refuse(&refusal).await;
        }
        if !self.config.storage_transfer_syntaxes.contains(&request.transfer_syntax_uid) {
            self.receiver.instance_refused(&request, StoreStatus::CannotUnderstand).await;
            self.part = Some(Part::Refused);
            self.outcome(Err(TRANSFER_SYNTAX_NOT_SUPPORTED));
            return;
        }
        match Receiving::open(self.receiver.as_ref(), &request, self.study.clone()).await {
            Ok(receiving) => {
                let receiving = Box::new(receiving);
                self.part = Some(Part::Dataset { receiving, request, dataset_bytes: 0 });
                if let Some(rest) = front.get(start.offset..).filter(|rest| !rest.is_empty()) {
                    Box::pin(self.data(rest)).await;
                }
            }
            Err(refusal) => {
                self.receiver.instance_refused(&request, refusal.status).await;
                self.refuse(&refusal).await;
            }
        }
    }

    /// Ends the part that is being read; making it durable goes on beside the next one.
    async fn part_end(&mut self) {
        if let Some(Part::Front { bytes, .. }) = &mut self.part {
            let front = std::mem::take(bytes);
            self.look(front, true).await;
        }
        let Some(Part::Dataset { receiving, request, dataset_bytes }) = self.part.take() else {
            return;
        };
        let Some(place) = self.finished.len().checked_sub(1) else { return };
        self.finished[place].dataset_bytes = dataset_bytes;
        while self.under_way.len() >= UNDER_WAY {
            self.one_done().await;
        }
        let (receiver, config) = (Arc::clone(&self.receiver), Arc::clone(&self.config));
        self.under_way.spawn(async move {
            match receiving.finish(&request, dataset_bytes, &config).await {
                Ok(()) => (place, Ok(())),
                Err(Refusal { status, .. }) => {
                    receiver.instance_refused(&request, status).await;
                    (place, Err(FailureReason(status.status().0)))
                }
            }
        });
    }

    async fn one_done(&mut self) {
        if let Some(Ok((place, outcome))) = self.under_way.join_next().await {
            self.finished[place].outcome = outcome;
        }
    }

    /// Gives up the part that is being read; its sink leaves nothing behind.
    async fn refuse(&mut self, refusal: &Refusal) {
        if let Some(Part::Dataset { request, .. }) = self.part.replace(Part::Refused) {
            self.receiver.instance_refused(&request, refusal.status).await;
        }
        self.outcome(Err(FailureReason(refusal.status.status().0)));
    }

    fn outcome(&mut self, outcome: Result<(), FailureReason>) {
        if let Some(last) = self.finished.last_mut() {
            last.outcome = outcome;
        }
    }

    /// Waits for what is under way. A body that breaks off costs the instance that it broke off in.
    async fn end(mut self, is_whole: bool) -> Result<Vec<StowedInstance>, StowRequestError> {
        if !is_whole && self.part.is_some() {
            self.refuse(&refusal(StoreStatus::CannotUnderstand)).await;
        }
        while !self.under_way.is_empty() {
            self.one_done().await;
        }
        if self.finished.is_empty() {
            return Err(StowRequestError::Malformed);
        }
        Ok(self.finished)
    }
}

fn refusal(status: StoreStatus) -> Refusal {
    Refusal::new(status, status.as_str())
}

/// The Store Instances Response Module (PS3.18 table I.2-1) in the DICOM JSON model.
pub fn response(instances: &[StowedInstance]) -> Value {
    let mut referenced = Vec::new();
    let mut failed = Vec::new();
    let mut others = Vec::new();
    for StowedInstance { instance, outcome, .. } in instances {
        let mut item = Map::new();
        if let Some((sop_class_uid, sop_instance_uid)) = instance {
            item.insert("00081150".into(), attribute("UI", &json!(sop_class_uid.as_str())));
            item.insert("00081155".into(), attribute("UI", &json!(sop_instance_uid.as_str())));
        }
        if let Err(reason) = outcome {
            item.insert("00081197".into(), attribute("US", &json!(reason.0)));
        }
        let list = match (instance, outcome) {
            (_, Ok(())) => &mut referenced,
            (Some(_), Err(_)) => &mut failed,
            (None, Err(_)) => &mut others,
        };
        list.push(Value::Object(item));
    }
    let mut response = Map::new();
    // Retrieve URL (0008,1190) is of type 2, and nothing can be retrieved here.
    response.insert("00081190".into(), json!({ "vr": "UR" }));
    for (tag, list) in [("00081198", failed), ("00081199", referenced), ("0008119A", others)] {
        if !list.is_empty() {
            response.insert(tag.into(), json!({ "vr": "SQ", "Value": list }));
        }
    }
    Value::Object(response)
}

fn attribute(representation: &str, value: &Value) -> Value {
    json!({ "vr": representation, "Value": [value] })
}
