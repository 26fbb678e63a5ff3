//! From the header of one file to its frames.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use dicom::dictionary_std::{tags, uids};
use dicom_types::{Modality, SeriesInstanceUid};

use super::attributes::Attributes;
use super::file::{FileHeader, read_header};
use super::frame::{Frame, InstanceFacts, Placement};
use super::functional_groups::{FrameGroups, frame_groups, positional_dimensions};
use super::image_type::no_cross_section;
use super::pixels::{Encoding, FrameLocation, PixelFile, PixelFormat, PixelSource, Rescale};
use super::plane::Plane;
use super::split_facts::SplitFacts;
use super::{InstanceName, ReadSeriesError, SourceFrame};

/// What a file turned out to be.
pub(super) struct ReadInstance {
    pub(super) name: InstanceName,
    pub(super) series_instance_uid: Option<SeriesInstanceUid>,
    /// One entry per frame, or the reason why the whole file is refused.
    pub(super) frames: Result<Vec<Result<Frame, FrameRefusal>>, ReadSeriesError>,
}

/// A frame that cannot be part of a volume.
pub(super) struct FrameRefusal {
    pub(super) name: InstanceName,
    pub(super) reason: ReadSeriesError,
}

/// The kinds of objects that hold cross-sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SingleFrame,
    Enhanced,
}

/// Reads one file.
pub(super) fn read_instance(path: &Path) -> ReadInstance {
    // The parser meets bytes of any origin here: should it panic, this file alone is refused.
    let header = catch_unwind(AssertUnwindSafe(|| read_header(path)));
    let no_name = InstanceName { sop_instance_uid: None, frame_number: None };
    match header {
        Ok(Ok(header)) => {
            let instance = Instance { path, header: &header };
            ReadInstance {
                name: instance.name(),
                series_instance_uid: Some(header.instance.series_instance_uid.clone()),
                frames: instance.frames(),
            }
        }
        Ok(Err(source)) => {
            let reason = ReadSeriesError::Header { instance: no_name.clone(), source };
            ReadInstance { name: no_name, series_instance_uid: None, frames: Err(reason) }
        }
        Err(_) => {
            let reason = ReadSeriesError::HeaderParser { instance: no_name.clone() };
            ReadInstance { name: no_name, series_instance_uid: None, frames: Err(reason) }
        }
    }
}

struct Instance<'a> {
    path: &'a Path,
    header: &'a FileHeader,
}

impl Instance<'_> {
    fn name(&self) -> InstanceName {
        InstanceName::new(&self.header.instance.sop_instance_uid, None)
    }

    fn dataset(&self) -> Attributes<'_> {
        Attributes(&self.header.instance.dataset)
    }

    fn missing(&self, attribute: &'static str) -> ReadSeriesError {
        ReadSeriesError::Attribute { instance: self.name(), attribute }
    }

    fn pixels_error(&self, what: &'static str) -> ReadSeriesError {
        ReadSeriesError::Pixels { instance: self.name(), what }
    }

    fn frames(&self) -> Result<Vec<Result<Frame, FrameRefusal>>, ReadSeriesError> {
        let header = &self.header.instance;
        let sop_class_uid = header.sop_class_uid.clone();
        let Some((kind, class_modality)) = classify(sop_class_uid.as_str()) else {
            return Err(ReadSeriesError::SopClass { instance: self.name(), sop_class_uid });
        };
        let modality = self.modality(class_modality)?;
        let image_type = self.dataset().values(tags::IMAGE_TYPE);
        if let Some(image_type) = no_cross_section(&image_type) {
            return Err(ReadSeriesError::ImageType { instance: self.name(), image_type });
        }
        let encoding = Encoding::of(header.transfer_syntax_uid.as_str())
            .ok_or_else(|| ReadSeriesError::TransferSyntax { instance: self.name() })?;
        let format = PixelFormat::read(self.dataset()).map_err(|what| self.pixels_error(what))?;
        let frames = self.number_of_frames(kind)?;
        let pixels = self.pixel_source(encoding, format, frames)?;

        let facts = Arc::new(InstanceFacts {
            study_instance_uid: header.study_instance_uid.clone(),
            series_instance_uid: header.series_instance_uid.clone(),
            frame_of_reference_uid: self.dataset().parsed(tags::FRAME_OF_REFERENCE_UID),
            modality,
            instance_number: self.dataset().parsed(tags::INSTANCE_NUMBER),
            rows: format.rows,
            columns: format.columns,
            lossy: encoding.is_always_lossy()
                || self.dataset().text(tags::LOSSY_IMAGE_COMPRESSION).as_deref() == Some("01"),
        });
        let source = SourceFrame {
            path: self.path.to_owned(),
            sop_class_uid,
            sop_instance_uid: header.sop_instance_uid.clone(),
            transfer_syntax_uid: header.transfer_syntax_uid.clone(),
            frame_number: None,
            image_position_patient: Default::default(),
            image_position_patient_mm: [0.0; 3],
            pixels: FrameLocation {
                source: Arc::new(pixels),
                index: 0,
                rescale: Rescale::IDENTITY,
            },
        };
        match kind {
            Kind::SingleFrame => Ok(vec![Ok(self.single_frame(&facts, source)?)]),
            Kind::Enhanced => Ok(self.enhanced_frames(&facts, &source, frames)),
        }
    }

    fn modality(&self, class_modality: Modality) -> Result<Modality, ReadSeriesError> {
        match self.header.instance.modality.as_deref() {
            Some(stated) if stated != class_modality.as_str() => {
                Err(ReadSeriesError::Modality { instance: self.name() })
            }
            _ => Ok(class_modality),
        }
    }

    fn number_of_frames(&self, kind: Kind) -> Result<u32, ReadSeriesError> {
        let stated = self.dataset().text(tags::NUMBER_OF_FRAMES);
        let frames = match stated {
            None => 1,
            Some(_) => self
                .dataset()
                .parsed::<u32>(tags::NUMBER_OF_FRAMES)
                .filter(|&frames| frames > 0)
                .ok_or_else(|| self.missing("Number of Frames"))?,
        };
        if kind == Kind::SingleFrame && frames > 1 {
            return Err(self.pixels_error("several frames without functional groups"));
        }
        let described = self.dataset().items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).count();
        if kind == Kind::Enhanced && described != frames as usize {
            return Err(self.missing("Per-Frame Functional Groups Sequence"));
        }
        Ok(frames)
    }

    fn pixel_source(
        &self,
        encoding: Encoding,
        format: PixelFormat,
        frames: u32,
    ) -> Result<PixelSource, ReadSeriesError> {
        let element = self.header.pixels.ok_or_else(|| self.pixels_error("there are none"))?;
        if element.tag != tags::PIXEL_DATA {
            return Err(self.pixels_error("floating point"));
        }
        if element.length.is_none() != encoding.is_encapsulated() {
            return Err(self.pixels_error("transfer syntax and encapsulation disagree"));
        }
        // Words of another width than 16 bits come in two orders there, and nothing tells which.
        if encoding == Encoding::NativeBig && format.bits_allocated != 16 {
            return Err(self.pixels_error("big endian with other than 16 bits"));
        }
        if encoding == Encoding::JpegLossy && format.bits_stored > 8 {
            return Err(self.pixels_error("JPEG with loss of more than 8 bits"));
        }
        let file = PixelFile {
            element,
            encoding,
            format,
            frames,
            dataset_offset: self.header.instance.dataset_offset,
        };
        let source = PixelSource::new(self.dataset(), file);
        if let Some((expected, found)) = source.missing_bytes() {
            return Err(ReadSeriesError::Truncated { instance: self.name(), expected, found });
        }
        Ok(source)
    }

    fn single_frame(
        &self,
        instance: &Arc<InstanceFacts>,
        source: SourceFrame,
    ) -> Result<Frame, ReadSeriesError> {
        let dataset = self.dataset();
        let position = dataset.decimals(tags::IMAGE_POSITION_PATIENT);
        let orientation = dataset.decimals(tags::IMAGE_ORIENTATION_PATIENT);
        let spacing = dataset.decimals(tags::PIXEL_SPACING);
        let placement = Placement {
            position: position.ok_or_else(|| self.missing("Image Position (Patient)"))?,
            orientation: orientation.ok_or_else(|| self.missing("Image Orientation (Patient)"))?,
            spacing: spacing.ok_or_else(|| self.missing("Pixel Spacing"))?,
            slice_thickness: dataset.text(tags::SLICE_THICKNESS),
        };
        let facts = SplitFacts::of_instance(dataset);
        let frame = NewFrame { name: self.name(), rescale_attributes: dataset, placement, facts };
        frame.build(instance, source)
    }

    fn enhanced_frames(
        &self,
        instance: &Arc<InstanceFacts>,
        source: &SourceFrame,
        frames: u32,
    ) -> Vec<Result<Frame, FrameRefusal>> {
        let positional = positional_dimensions(self.dataset());
        let groups = frame_groups(self.dataset(), frames as usize);
        let numbered = (1..=frames).filter_map(NonZeroU32::new).zip(groups);
        numbered
            .map(|(number, groups)| {
                let name = InstanceName::new(&source.sop_instance_uid, Some(number));
                let mut source = source.clone();
                source.frame_number = Some(number);
                source.pixels.index = number.get() - 1;
                enhanced_frame(name.clone(), groups, &positional, instance, source)
                    .map_err(|reason| FrameRefusal { name, reason })
            })
            .collect()
    }
}

fn enhanced_frame(
    name: InstanceName,
    groups: FrameGroups<'_>,
    positional: &[bool],
    instance: &Arc<InstanceFacts>,
    source: SourceFrame,
) -> Result<Frame, ReadSeriesError> {
    if let Some(image_type) = groups.no_cross_section() {
        return Err(ReadSeriesError::ImageType { instance: name, image_type });
    }
    let placement = groups
        .placement()
        .map_err(|attribute| ReadSeriesError::Attribute { instance: name.clone(), attribute })?;
    let facts = groups.split_facts(positional);
    let rescale_attributes = groups.rescale_attributes();
    NewFrame { name, rescale_attributes, placement, facts }.build(instance, source)
}

struct NewFrame<'a> {
    name: InstanceName,
    rescale_attributes: Attributes<'a>,
    placement: Placement,
    facts: SplitFacts,
}

impl NewFrame<'_> {
    fn build(
        self,
        instance: &Arc<InstanceFacts>,
        mut source: SourceFrame,
    ) -> Result<Frame, ReadSeriesError> {
        let Self { name, rescale_attributes, placement, facts } = self;
        let attribute =
            |attribute| ReadSeriesError::Attribute { instance: name.clone(), attribute };
        if placement.spacing.value.iter().any(|&spacing| spacing <= 0.0) {
            return Err(attribute("Pixel Spacing"));
        }
        let Some(plane) = Plane::new(&placement.orientation, &placement.spacing) else {
            return Err(ReadSeriesError::Orientation { instance: name });
        };
        let is_signed = source.pixels.source.file.format.is_signed;
        source.pixels.rescale = Rescale::read(rescale_attributes, is_signed).map_err(attribute)?;
        source.image_position_patient = placement.position.text;
        source.image_position_patient_mm = placement.position.value;
        Ok(Frame {
            instance: Arc::clone(instance),
            source,
            plane,
            orientation_text: placement.orientation.text,
            spacing_text: placement.spacing.text,
            slice_thickness: placement.slice_thickness,
            facts,
        })
    }
}

/// Kind and modality of the SOP classes that hold cross-sections in grey values.
fn classify(sop_class_uid: &str) -> Option<(Kind, Modality)> {
    match sop_class_uid {
        uids::CT_IMAGE_STORAGE => Some((Kind::SingleFrame, Modality::Ct)),
        uids::MR_IMAGE_STORAGE => Some((Kind::SingleFrame, Modality::Mr)),
        uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE => Some((Kind::SingleFrame, Modality::Pt)),
        uids::ENHANCED_CT_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE => {
            Some((Kind::Enhanced, Modality::Ct))
        }
        uids::ENHANCED_MR_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE => {
            Some((Kind::Enhanced, Modality::Mr))
        }
        uids::ENHANCED_PET_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE => {
            Some((Kind::Enhanced, Modality::Pt))
        }
        _ => None,
    }
}
