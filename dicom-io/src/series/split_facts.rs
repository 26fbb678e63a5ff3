//! The attributes by which the frames of a series are told apart.

use dicom::core::Tag;
use dicom::dictionary_std::tags;

use super::attributes::Attributes;
use super::image_type;

/// Attributes that may vary inside a volume as well as between volumes, in order of trust.
///
/// They split a group of parallel slices only where it is no volume as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distinction {
    /// Dimension Index Values without those that count positions.
    Dimensions,
    Acquisition,
    ImageType,
    GradientDirection,
    Contrast,
    InversionTime,
    FlipAngle,
    RepetitionTime,
    Kernel,
    Kvp,
    ReconstructionDiameter,
    FrameReferenceTime,
    TriggerTime,
    AcquisitionTime,
    ContentTime,
}

impl Distinction {
    pub(super) const ALL: [Self; 15] = [
        Self::Dimensions,
        Self::Acquisition,
        Self::ImageType,
        Self::GradientDirection,
        Self::Contrast,
        Self::InversionTime,
        Self::FlipAngle,
        Self::RepetitionTime,
        Self::Kernel,
        Self::Kvp,
        Self::ReconstructionDiameter,
        Self::FrameReferenceTime,
        Self::TriggerTime,
        Self::AcquisitionTime,
        Self::ContentTime,
    ];

    /// Whether neighbouring slices of one volume usually differ in it.
    pub(super) fn is_a_time(self) -> bool {
        matches!(
            self,
            Self::FrameReferenceTime
                | Self::TriggerTime
                | Self::AcquisitionTime
                | Self::ContentTime
        )
    }

    fn tag(self) -> Tag {
        match self {
            Self::Dimensions => tags::DIMENSION_INDEX_VALUES,
            Self::Acquisition => tags::ACQUISITION_NUMBER,
            Self::ImageType => tags::IMAGE_TYPE,
            Self::GradientDirection => tags::DIFFUSION_GRADIENT_ORIENTATION,
            Self::Contrast => tags::CONTRAST_BOLUS_AGENT,
            Self::InversionTime => tags::INVERSION_TIME,
            Self::FlipAngle => tags::FLIP_ANGLE,
            Self::RepetitionTime => tags::REPETITION_TIME,
            Self::Kernel => tags::CONVOLUTION_KERNEL,
            Self::Kvp => tags::KVP,
            Self::ReconstructionDiameter => tags::RECONSTRUCTION_DIAMETER,
            Self::FrameReferenceTime => tags::FRAME_REFERENCE_TIME,
            Self::TriggerTime => tags::TRIGGER_TIME,
            Self::AcquisitionTime => tags::ACQUISITION_TIME,
            Self::ContentTime => tags::CONTENT_TIME,
        }
    }
}

/// What tells a frame apart from others at the same position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SplitFacts {
    /// Always splits: echo time, b-value, temporal position, stack, part of the complex signal.
    pub(super) always: Vec<Option<String>>,
    /// Values of [`Distinction::ALL`], in that order.
    pub(super) sometimes: [Option<String>; Distinction::ALL.len()],
}

impl SplitFacts {
    /// Facts of a single-frame instance.
    pub(super) fn of_instance(dataset: Attributes<'_>) -> Self {
        let image_type = dataset.values(tags::IMAGE_TYPE);
        let contrast = image_type::contrasts(&image_type);
        let always = vec![
            contrast_text(&contrast),
            dataset.number(tags::ECHO_TIME).map(milliseconds),
            b_value(dataset).map(|b| format!("{b:.0}")),
            dataset.text(tags::TEMPORAL_POSITION_IDENTIFIER),
            dataset.text(tags::STACK_ID),
        ];
        let mut sometimes = Distinction::ALL.map(|distinction| dataset.text(distinction.tag()));
        let gradient = &mut sometimes[Distinction::GradientDirection as usize];
        if gradient.is_none() {
            *gradient = private_gradient(dataset);
        }
        Self { always, sometimes }
    }

    /// Facts of a frame of an enhanced instance, from its functional groups.
    ///
    /// `group` finds a macro by its sequence, per frame or shared; `positional` says for every dimension index whether
    /// it counts positions.
    pub(super) fn of_frame<'a>(
        dataset: Attributes<'a>,
        group: impl Fn(Tag) -> Option<Attributes<'a>>,
        positional: &[bool],
    ) -> Self {
        let content = group(tags::FRAME_CONTENT_SEQUENCE);
        let in_content = |tag| content.and_then(|content| content.text(tag));
        let diffusion = group(tags::MR_DIFFUSION_SEQUENCE);
        let direction = diffusion
            .and_then(|diffusion| diffusion.item(tags::DIFFUSION_GRADIENT_DIRECTION_SEQUENCE))
            .and_then(|item| item.text(tags::DIFFUSION_GRADIENT_ORIENTATION));
        let echo_time =
            group(tags::MR_ECHO_SEQUENCE).and_then(|echo| echo.number(tags::EFFECTIVE_ECHO_TIME));
        let frame_type = frame_type(&group);
        let component = group(tags::MR_IMAGE_FRAME_TYPE_SEQUENCE)
            .and_then(|item| item.text(tags::COMPLEX_IMAGE_COMPONENT));
        let always = vec![
            contrast_text(&image_type::contrasts(&frame_type)),
            component,
            echo_time.map(milliseconds),
            diffusion
                .and_then(|diffusion| diffusion.number(tags::DIFFUSION_B_VALUE))
                .map(|b| format!("{b:.0}")),
            in_content(tags::TEMPORAL_POSITION_INDEX),
            in_content(tags::STACK_ID),
        ];

        let timing = group(tags::MR_TIMING_AND_RELATED_PARAMETERS_SEQUENCE);
        let modifier = group(tags::MR_MODIFIER_SEQUENCE);
        let reconstruction = group(tags::CT_RECONSTRUCTION_SEQUENCE);
        let sometimes = Distinction::ALL.map(|distinction| match distinction {
            Distinction::Dimensions => content.and_then(|content| dimensions(content, positional)),
            Distinction::Acquisition => in_content(tags::FRAME_ACQUISITION_NUMBER),
            Distinction::ImageType => (!frame_type.is_empty()).then(|| frame_type.join("\\")),
            Distinction::GradientDirection => direction.clone(),
            Distinction::Contrast => group(tags::CONTRAST_BOLUS_USAGE_SEQUENCE)
                .and_then(|item| item.text(tags::CONTRAST_BOLUS_AGENT_PHASE)),
            Distinction::InversionTime => {
                modifier.and_then(|item| item.text(tags::INVERSION_TIMES))
            }
            Distinction::FlipAngle => timing.and_then(|item| item.text(tags::FLIP_ANGLE)),
            Distinction::RepetitionTime => timing.and_then(|item| item.text(tags::REPETITION_TIME)),
            Distinction::Kernel => {
                reconstruction.and_then(|item| item.text(tags::CONVOLUTION_KERNEL))
            }
            Distinction::Kvp => {
                group(tags::CTX_RAY_DETAILS_SEQUENCE).and_then(|item| item.text(tags::KVP))
            }
            Distinction::ReconstructionDiameter => {
                reconstruction.and_then(|item| item.text(tags::RECONSTRUCTION_DIAMETER))
            }
            Distinction::FrameReferenceTime => in_content(tags::FRAME_REFERENCE_DATE_TIME),
            Distinction::TriggerTime => group(tags::CARDIAC_SYNCHRONIZATION_SEQUENCE)
                .and_then(|item| item.text(tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME))
                .or_else(|| {
                    group(tags::TEMPORAL_POSITION_SEQUENCE)
                        .and_then(|item| item.text(tags::TEMPORAL_POSITION_TIME_OFFSET))
                }),
            Distinction::AcquisitionTime => in_content(tags::FRAME_ACQUISITION_DATE_TIME),
            Distinction::ContentTime => dataset.text(tags::CONTENT_TIME),
        });
        Self { always, sometimes }
    }
}

/// Frame Type, from whichever modality's macro is there.
pub(super) fn frame_type<'a>(group: &impl Fn(Tag) -> Option<Attributes<'a>>) -> Vec<String> {
    [
        tags::MR_IMAGE_FRAME_TYPE_SEQUENCE,
        tags::CT_IMAGE_FRAME_TYPE_SEQUENCE,
        tags::PET_FRAME_TYPE_SEQUENCE,
    ]
    .into_iter()
    .find_map(group)
    .map(|item| item.values(tags::FRAME_TYPE))
    .unwrap_or_default()
}

fn contrast_text(contrasts: &[String]) -> Option<String> {
    (!contrasts.is_empty()).then(|| contrasts.join("\\"))
}

/// Times are compared to the microsecond: scanners repeat them with more digits than they mean.
fn milliseconds(time: f64) -> String {
    format!("{time:.3}")
}

fn dimensions(content: Attributes<'_>, positional: &[bool]) -> Option<String> {
    let values = content.values(tags::DIMENSION_INDEX_VALUES);
    let kept: Vec<_> = values
        .into_iter()
        .enumerate()
        .filter(|&(i, _)| !positional.get(i).copied().unwrap_or(false))
        .map(|(_, value)| value)
        .collect();
    (!kept.is_empty()).then(|| kept.join("\\"))
}

/// Diffusion b-value, from the standard's attribute or the vendors' own of classic MR images.
fn b_value(dataset: Attributes<'_>) -> Option<f64> {
    let private = |group, creator, element| {
        let values = dataset.private(group, creator, element)?;
        values.first()?.parse::<f64>().ok()
    };
    dataset
        .number(tags::DIFFUSION_B_VALUE)
        .or_else(|| private(0x0019, "SIEMENS MR HEADER", 0x0C))
        .or_else(|| private(0x2001, "Philips Imaging DD 001", 0x03))
        // GE adds a multiple of a thousand million as a flag.
        .or_else(|| private(0x0043, "GEMS_PARM_01", 0x39).map(|b| b % 1e9))
        .or_else(|| private(0x0065, "Image Private Header", 0x09))
}

fn private_gradient(dataset: Attributes<'_>) -> Option<String> {
    let siemens = dataset.private(0x0019, "SIEMENS MR HEADER", 0x0E);
    let ge = || {
        let part = |element| dataset.private(0x0019, "GEMS_ACQU_01", element);
        let parts = [part(0xBB)?, part(0xBC)?, part(0xBD)?];
        Some(parts.concat())
    };
    let philips = || {
        let part = |element| dataset.private(0x2005, "Philips MR Imaging DD 001", element);
        let parts = [part(0xB0)?, part(0xB1)?, part(0xB2)?];
        Some(parts.concat())
    };
    siemens.or_else(ge).or_else(philips).map(|values| values.join("\\"))
}
