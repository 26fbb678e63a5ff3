//! Frames of enhanced multi-frame objects (PS3.3 C.7.6.16).

use dicom::core::Tag;
use dicom::dictionary_std::tags;

use super::attributes::Attributes;
use super::frame::Placement;
use super::image_type::no_cross_section;
use super::split_facts::{SplitFacts, frame_type};

/// The functional groups of one frame: its own, then the shared ones.
#[derive(Clone, Copy)]
pub(super) struct FrameGroups<'a> {
    dataset: Attributes<'a>,
    own: Option<Attributes<'a>>,
    shared: Option<Attributes<'a>>,
}

/// The functional groups of every frame, in frame order.
pub(super) fn frame_groups(dataset: Attributes<'_>, frames: usize) -> Vec<FrameGroups<'_>> {
    let shared = dataset.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    let mut items = dataset.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    (0..frames).map(|_| FrameGroups { dataset, own: items.next(), shared }).collect()
}

/// Which dimension indices count positions, so that they tell no stacks apart.
pub(super) fn positional_dimensions(dataset: Attributes<'_>) -> Vec<bool> {
    dataset
        .items(tags::DIMENSION_INDEX_SEQUENCE)
        .map(|item| {
            let pointer = item.0.get(tags::DIMENSION_INDEX_POINTER);
            let tag = pointer.and_then(|element| element.value().to_tag().ok());
            matches!(
                tag,
                Some(
                    tags::IMAGE_POSITION_PATIENT
                        | tags::IN_STACK_POSITION_NUMBER
                        | tags::SLICE_LOCATION
                )
            )
        })
        .collect()
}

impl<'a> FrameGroups<'a> {
    /// First item of a functional group macro.
    pub(super) fn group(self, sequence: Tag) -> Option<Attributes<'a>> {
        let own = self.own.and_then(|own| own.item(sequence));
        own.or_else(|| self.shared.and_then(|shared| shared.item(sequence)))
    }

    /// Position, orientation and spacing, or the name of the attribute that is missing or not legal.
    pub(super) fn placement(self) -> Result<Placement, &'static str> {
        let position = self
            .group(tags::PLANE_POSITION_SEQUENCE)
            .and_then(|item| item.decimals(tags::IMAGE_POSITION_PATIENT))
            .ok_or("Image Position (Patient)")?;
        let orientation = self
            .group(tags::PLANE_ORIENTATION_SEQUENCE)
            .and_then(|item| item.decimals(tags::IMAGE_ORIENTATION_PATIENT))
            .ok_or("Image Orientation (Patient)")?;
        let measures = self.group(tags::PIXEL_MEASURES_SEQUENCE);
        let spacing =
            measures.and_then(|item| item.decimals(tags::PIXEL_SPACING)).ok_or("Pixel Spacing")?;
        let slice_thickness = measures.and_then(|item| item.text(tags::SLICE_THICKNESS));
        Ok(Placement { position, orientation, spacing, slice_thickness })
    }

    /// The value of Frame Type that says that the frame is no cross-section.
    pub(super) fn no_cross_section(self) -> Option<&'static str> {
        no_cross_section(&frame_type(&|sequence| self.group(sequence)))
    }

    pub(super) fn split_facts(self, positional: &[bool]) -> SplitFacts {
        SplitFacts::of_frame(self.dataset, |sequence| self.group(sequence), positional)
    }

    /// Where the frame's rescale attributes stand: the macro, or the top level of objects that break the rule.
    pub(super) fn rescale_attributes(self) -> Attributes<'a> {
        self.group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE).unwrap_or(self.dataset)
    }
}
