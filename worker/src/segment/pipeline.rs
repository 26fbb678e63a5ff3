//! The stages of a job in their order.

use std::time::{Duration, Instant};

use dicom_io::series::{ReadSeriesError, Stack};
use dicom_types::{Mask, Volume};
use prosector_model::{
    Control, LoadSegmenterError, Pack, SegmentError, SegmentRequest, Segmentation, Segmenter,
    SegmenterOptions,
};

use super::encode::{EncodeError, Encoded, Found, JobIdentity, PackIdentity, encode};
use super::order::Order;
use crate::protocol::Forms;

/// A pack made ready to compute, and the stages of a job around it.
///
/// [`Pipeline::run`] takes the stages one after the other; the service takes them on threads of their own, so that one
/// job loads while another is on the device and a third is encoded.
#[derive(Debug)]
pub(crate) struct Pipeline {
    segmenter: Segmenter,
    pack: PackIdentity,
}

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    /// The voxels could not be read.
    #[error("cannot load the volume")]
    Load(#[from] ReadSeriesError),
    /// The network gave no masks.
    #[error("cannot segment the volume")]
    Segment(#[from] SegmentError),
    /// The masks did not become an object that may be sent.
    #[error("cannot write the result")]
    Encode(#[from] EncodeError),
}

/// What came of one volume.
#[derive(Debug)]
pub(crate) struct Segmented {
    /// The volume, for pictures.
    pub(crate) volume: Volume,
    /// A mask per target, on the grid of the stack.
    pub(crate) masks: Vec<Mask>,
    /// The checked objects and what was measured.
    pub(crate) encoded: Encoded,
    /// Where the time went, in the order of the stages.
    pub(crate) stages: Vec<(&'static str, Duration)>,
}

/// What a person should know of a segmentation beside what it found.
pub(crate) fn remark(segmentation: &Segmentation) -> Option<&'static str> {
    (segmentation.windows == 0).then_some("no voxel is above zero: there is nothing to look at")
}

impl Pipeline {
    /// Loads the network of `pack`.
    ///
    /// # Errors
    /// [`LoadSegmenterError`]
    pub(crate) fn new(pack: &Pack, options: SegmenterOptions) -> Result<Self, LoadSegmenterError> {
        let segmenter = Segmenter::new(pack, options)?;
        let pack = PackIdentity {
            name: pack.manifest().name.clone(),
            digest: (*pack.digest().as_bytes()).into(),
        };
        Ok(Self { segmenter, pack })
    }

    /// The pack.
    pub(crate) fn pack(&self) -> &PackIdentity {
        &self.pack
    }

    /// The stage on the device: masks on the grid of `stack`, in the order of the order's targets.
    ///
    /// # Errors
    /// [`SegmentError`]
    pub(crate) fn infer(
        &self,
        stack: &Stack,
        volume: &Volume,
        order: &Order,
        control: &Control,
    ) -> Result<Segmentation, SegmentError> {
        let prompts: Vec<&str> =
            order.targets.iter().map(|target| target.prompt.as_str()).collect();
        let request = SegmentRequest {
            volume,
            modality: order.modality_of(stack),
            orientation: order.orientation,
            prompts: &prompts,
            mode: order.mode,
        };
        let estimate = self.segmenter.estimate(&request)?;
        tracing::info!(series.uid = %stack.series_instance_uid, "expecting at most {estimate}");
        self.segmenter.segment(&request, control)
    }

    /// Runs every stage of one job, whose results are written in these `forms`. `enter` hears which stage begins.
    ///
    /// # Errors
    /// [`PipelineError`]
    pub(crate) fn run(
        &self,
        stack: &Stack,
        order: &Order,
        forms: &Forms,
        job: &JobIdentity,
        control: &Control,
        enter: &dyn Fn(&'static str),
    ) -> Result<Segmented, PipelineError> {
        enter("load");
        let start = Instant::now();
        let volume = stack.load()?;
        let load_time = start.elapsed();

        enter("infer");
        let segmentation = self.infer(stack, &volume, order, control)?;
        if let Some(remark) = remark(&segmentation) {
            tracing::warn!(series.uid = %stack.series_instance_uid, "{remark}");
        }
        let Segmentation { masks, times, .. } = segmentation;

        enter("encode");
        let found = Found { stack, volume: &volume, order, masks: &masks };
        let mut encoded = encode(found, std::slice::from_ref(forms), job, &self.pack)?;
        encoded.keep_preferred(forms);

        let stages = vec![
            ("load", load_time),
            ("embed", times.embed),
            ("preprocess", times.preprocess),
            ("vision", times.encode),
            ("masks", times.decode),
            ("restore", times.restore),
            ("build", encoded.build_time),
            ("check", encoded.check_time),
        ];
        Ok(Segmented { volume, masks, encoded, stages })
    }
}
