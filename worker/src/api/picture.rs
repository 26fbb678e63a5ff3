//! Pictures of a job's result: three planes at once, or one slice after another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dicom_io::secondary_capture::{Overlay, Plane, render, render_slice, slice_count};
use dicom_io::series::read_stacks;
use dicom_types::{Mask, Modality, Volume};
use prosector_storage::{JobDetail, JobId, ResultForm, ResultSummary};
use tokio::sync::Semaphore;

use super::{Facts, Refusal};
use crate::protocol::{Protocol, Target, resolve};
use crate::segment::{NOTICE, png_of, series_of};

/// Bytes of volumes that are kept for the next slice.
const KEPT_BYTES: usize = 512 << 20;

/// A volume with what was found in it.
#[derive(Debug)]
pub(crate) struct Scene {
    volume: Volume,
    modality: Modality,
    /// In the order of their numbers.
    pub(super) layers: Vec<Layer>,
}

/// A segment of the result.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(super) number: u16,
    pub(super) label: String,
    pub(super) rgb: [u8; 3],
    mask: Mask,
}

impl Scene {
    /// How many slices there are of a plane.
    pub(super) fn slices(&self, plane: Plane) -> usize {
        slice_count(self.volume.geometry(), plane)
    }

    fn overlays(&self, hidden: &[u16]) -> Vec<Overlay<'_>> {
        let shown = self.layers.iter().filter(|layer| !hidden.contains(&layer.number));
        shown.map(|l| Overlay { label: &l.label, rgb: l.rgb, mask: &l.mask }).collect()
    }

    fn bytes(&self) -> usize {
        4 * self.volume.values().len()
    }
}

/// Scenes that were looked at last.
#[derive(Debug)]
pub(crate) struct Pictures {
    scenes: Mutex<VecDeque<(JobId, Arc<Scene>)>>,
    /// One volume is read at a time: the worker wants the disks and the cores too.
    reading: Semaphore,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { scenes: Mutex::default(), reading: Semaphore::new(1) }
    }
}

impl Pictures {
    /// The volume and the segments of a job that has a segmentation.
    pub(super) async fn scene(
        &self,
        facts: &Facts,
        job: &JobDetail,
    ) -> Result<Arc<Scene>, Refusal> {
        let id = job.summary.job_id;
        if let Some(scene) = self.kept(id) {
            return Ok(scene);
        }
        let _turn = self.reading.acquire().await.map_err(|_| Refusal::Internal)?;
        if let Some(scene) = self.kept(id) {
            return Ok(scene);
        }
        let scene = Arc::new(read_scene(facts, job).await?);
        let mut scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        scenes.push_front((id, Arc::clone(&scene)));
        while scenes.len() > 1 && scenes.iter().map(|(_, s)| s.bytes()).sum::<usize>() > KEPT_BYTES
        {
            scenes.pop_back();
        }
        Ok(scene)
    }

    fn kept(&self, id: JobId) -> Option<Arc<Scene>> {
        let mut scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        let place = scenes.iter().position(|(job, _)| *job == id)?;
        let found = scenes.remove(place)?;
        scenes.push_front(found);
        scenes.front().map(|(_, scene)| Arc::clone(scene))
    }
}

/// Three planes with every target and a legend, as PNG.
pub(super) async fn preview(scene: Arc<Scene>) -> Result<Vec<u8>, Refusal> {
    draw(move || {
        // Unions of other targets would hide them.
        const UNIONS: [&str; 3] = ["body", "lung", "kidney"];
        let hidden: Vec<u16> = scene
            .layers
            .iter()
            .filter(|layer| scene.layers.len() > 1 && UNIONS.contains(&layer.label.as_str()))
            .map(|layer| layer.number)
            .collect();
        png_of(&render(&scene.volume, scene.modality, &scene.overlays(&hidden), NOTICE))
    })
    .await
}

/// One slice without the hidden targets, as PNG.
pub(super) async fn slice(
    scene: Arc<Scene>,
    plane: Plane,
    number: usize,
    hidden: Vec<u16>,
) -> Result<Vec<u8>, Refusal> {
    draw(move || {
        let overlays = scene.overlays(&hidden);
        png_of(&render_slice(&scene.volume, scene.modality, &overlays, plane, number))
    })
    .await
}

async fn draw(
    picture: impl FnOnce() -> Result<Vec<u8>, png::EncodingError> + Send + 'static,
) -> Result<Vec<u8>, Refusal> {
    let drawn = tokio::task::spawn_blocking(picture).await.map_err(|_| Refusal::Internal)?;
    drawn.map_err(|_| Refusal::Internal)
}

/// The result that pictures show: the binary segmentation, else the label map.
pub(super) fn shown(job: &JobDetail) -> Option<&ResultSummary> {
    let kept = |form: ResultForm| {
        job.results.iter().find(move |result| result.form == form && result.purged_at.is_none())
    };
    kept(ResultForm::Seg).or_else(|| kept(ResultForm::Labelmap))
}

async fn read_scene(facts: &Facts, job: &JobDetail) -> Result<Scene, Refusal> {
    let result = shown(job).ok_or(Refusal::NotFound("the job has no segmentation to show"))?;
    let bytes = facts.spool.read(&result.spool_key).await?;
    let instances = facts.store.job_instances(job.summary.job_id).await?;
    if instances.iter().any(|instance| instance.purged_at.is_some()) {
        return Err(Refusal::NotFound("the images of the job are no longer kept"));
    }
    let files = facts.spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await?;
    let colours = colours(facts, job).await?;
    let read = tokio::task::spawn_blocking(move || -> Option<Scene> {
        let stack = series_of(read_stacks(files.paths())).pop()?.stacks.into_iter().next()?;
        let segments = dicom_io::seg::read(&bytes, &stack).ok()?;
        let volume = stack.load().ok()?;
        let layers = segments
            .into_iter()
            .map(|segment| Layer {
                number: segment.number,
                rgb: colour(&colours, &segment.label),
                label: segment.label,
                mask: segment.mask,
            })
            .collect();
        Some(Scene { volume, modality: stack.modality, layers })
    });
    let scene = read.await.map_err(|_| Refusal::Internal)?;
    scene.ok_or(Refusal::NotFound("the images or the segmentation of the job cannot be read"))
}

/// The targets of the protocol that made the job, for their colours.
async fn colours(facts: &Facts, job: &JobDetail) -> Result<Vec<Target>, Refusal> {
    let revision = facts.store.protocol_revision(&job.summary.protocol_revision).await?;
    let protocol = revision.and_then(|revision| Protocol::of_definition(&revision.definition).ok());
    Ok(protocol.map(|protocol| protocol.targets).unwrap_or_default())
}

fn colour(targets: &[Target], label: &str) -> [u8; 3] {
    let own = targets.iter().find(|target| target.prompt == label).map(|target| target.rgb);
    own.or_else(|| resolve(label).ok()?.first().map(|target| target.rgb))
        .unwrap_or_else(|| Target::free_text(label).rgb)
}
