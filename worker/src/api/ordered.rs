//! Jobs on demand: any prompts on a series that was received.

use dicom_types::SeriesInstanceUid;
use prosector_storage::{JobId, Ordered, Priority, Store};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Facts, Refusal};
use crate::config::RawProtocol;
use crate::open_packs::digest_of;
use crate::protocol::{PHANTOM_PACK, Protocol, Target, resolve};
use crate::segment::{Order, SeriesSource, new_job, series_of};

/// What results call the protocol of a job that was ordered.
const ON_REQUEST: &str = "on-request";
/// Targets in one order.
const MOST_TARGETS: usize = 128;
/// Characters of a prompt: what Segment Label (LO) holds.
const LONGEST_PROMPT: usize = 64;

/// An order, as REST and the page take it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The series, which must have been received.
    pub(super) series_instance_uid: String,
    /// Prompts, SNOMED CT codes or sets; what the vocabulary does not know goes to the text encoder as it is.
    pub(super) targets: Vec<String>,
    /// Name of the model pack; default: that of the first protocol.
    pub(super) model: Option<String>,
    /// `RAS` or `ASR`.
    pub(super) orientation: Option<String>,
    /// `stat`, `urgent`, `routine` or `backfill`; default `urgent`: somebody is waiting.
    pub(super) priority: Option<String>,
    /// Destinations of the configuration; default none: the result is fetched from here.
    #[serde(default)]
    pub(super) destinations: Vec<String>,
}

/// Makes the job, or finds the one that the same order made before.
pub(super) async fn order(
    facts: &Facts,
    store: &Store,
    wanted: &Wanted,
) -> Result<(JobId, Ordered), Refusal> {
    let series: SeriesInstanceUid = wanted
        .series_instance_uid
        .parse()
        .map_err(|_| Refusal::Malformed("series_instance_uid is not a UID"))?;
    let protocol = protocol(facts, wanted)?;
    let packs = std::sync::Arc::clone(&facts.packs);
    let model = protocol.model.clone();
    let pack = tokio::task::spawn_blocking(move || packs.get(&model))
        .await
        .map_err(|_| Refusal::Internal)?
        .map_err(|error| Refusal::Unprocessable(format!("{:#}", anyhow::Error::new(error))))?;
    let source = read_series(facts, &series).await?;
    let Some(stack) = source.volume() else {
        let reasons = source.reasons().join("; ");
        return Err(Refusal::Unprocessable(format!("the series is no volume: {reasons}")));
    };
    if Order::of_protocol(&protocol, stack).targets.is_empty() {
        return Err(Refusal::Unprocessable("no target is for a patient of this sex".to_owned()));
    }
    let job = new_job(stack, &protocol, digest_of(&pack));
    store.register_protocol(&protocol.revision()).await?;
    match store.order_job(&series, &job).await? {
        Ordered::UnknownSeries => Err(Refusal::NotFound("nothing was received of this series")),
        ordered => Ok((job.job_id, ordered)),
    }
}

/// What was received of a series.
pub(super) async fn read_series(
    facts: &Facts,
    series: &SeriesInstanceUid,
) -> Result<SeriesSource, Refusal> {
    let instances = facts.store.series_instances(series).await?;
    if instances.is_empty() {
        return Err(Refusal::NotFound("nothing was received of this series"));
    }
    if instances.iter().any(|instance| instance.purged_at.is_some()) {
        return Err(Refusal::NotFound("the images of this series are no longer kept"));
    }
    let files = facts.spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await?;
    let wanted = Some(series.clone());
    let read = tokio::task::spawn_blocking(move || {
        let sources = series_of(dicom_io::series::read_stacks(files.paths()));
        sources.into_iter().find(|source| source.series_instance_uid == wanted)
    });
    let source = read.await.map_err(|_| Refusal::Internal)?;
    source.ok_or(Refusal::Unavailable("the series cannot be read from the spool"))
}

fn protocol(facts: &Facts, wanted: &Wanted) -> Result<Protocol, Refusal> {
    if !(1..=MOST_TARGETS).contains(&wanted.targets.len()) {
        return Err(Refusal::Unprocessable(format!("targets: name 1 to {MOST_TARGETS}")));
    }
    let known = &facts.config.destinations;
    if let Some(name) = wanted.destinations.iter().find(|n| known.iter().all(|d| d.name != **n)) {
        return Err(Refusal::Unprocessable(format!("no destination is called {name:?}")));
    }
    let model = wanted
        .model
        .clone()
        .or_else(|| facts.protocols.get().first().map(|protocol| protocol.model.clone()));
    let model = model.unwrap_or_else(|| PHANTOM_PACK.to_owned());
    // A pack by its name alone: a path would let a request look around on the disk.
    if !crate::packs::names(&facts.config.model.packs).contains(&model) {
        return Err(Refusal::Unprocessable(format!("no model pack is called {model:?}")));
    }
    let raw = RawProtocol {
        name: Some(ON_REQUEST.to_owned()),
        matches: Some(Map::new()),
        model: Some(model),
        targets: wanted.targets.iter().map(|text| target(text)).collect::<Result<_, _>>()?,
        priority: Some(
            wanted.priority.clone().unwrap_or_else(|| Priority::Urgent.as_str().to_owned()),
        ),
        orientation: wanted.orientation.clone(),
        destinations: wanted.destinations.clone(),
        ..RawProtocol::default()
    };
    let definition = serde_json::to_string(&raw).map_err(|_| Refusal::Internal)?;
    let unprocessable = |error: anyhow::Error| Refusal::Unprocessable(format!("{error:#}"));
    Protocol::of_definition(&definition).map_err(unprocessable)
}

/// What the vocabulary knows stands as it is; any other text brings a code of our own.
fn target(text: &str) -> Result<Value, Refusal> {
    let text = text.trim();
    if text.is_empty()
        || text.chars().count() > LONGEST_PROMPT
        || text.chars().any(char::is_control)
    {
        let rule = format!(
            "a target has 1 to {LONGEST_PROMPT} characters, none of them a control character"
        );
        return Err(Refusal::Unprocessable(rule));
    }
    match resolve(text) {
        Ok(_) => Ok(json!(text)),
        Err(error) if error.is_about_text() => {
            let concept = Target::free_text(text).concept;
            let code = |code: &dicom_io::coded_concept::CodedConcept| json!({ "value": code.value(), "scheme": code.scheme_designator(), "meaning": code.meaning() });
            Ok(json!({
                "prompt": text,
                "category": code(&concept.property_category),
                "type": code(&concept.property_type),
            }))
        }
        Err(error) => Err(Refusal::Unprocessable(error.to_string())),
    }
}
