//! CT slices made up in code.

use std::path::{Path, PathBuf};

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, VR};
use dicom::dictionary_std::{tags, uids};
use dicom::object::{FileMetaTableBuilder, InMemDicomObject};

/// Attributes of one made-up slice.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) sop_class_uid: &'static str,
    pub(crate) number: u32,
    pub(crate) side: u16,
}

impl Slice {
    pub(crate) fn ct(number: u32, side: u16) -> Self {
        Self { sop_class_uid: uids::CT_IMAGE_STORAGE, number, side }
    }

    pub(crate) fn sop_instance_uid(&self) -> String {
        format!("2.25.1000.{}", self.number)
    }

    pub(crate) fn dataset(&self) -> InMemDicomObject {
        let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
        let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let count = usize::from(self.side) * usize::from(self.side);
        let mut state = self.number.wrapping_mul(0x9E37_79B9) | 1;
        let pixels: Vec<u16> = (0..count)
            .map(|index| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                1000 + (index % 512) as u16 + (state >> 28) as u16
            })
            .collect();
        InMemDicomObject::from_element_iter([
            text(tags::SOP_CLASS_UID, VR::UI, self.sop_class_uid),
            text(tags::SOP_INSTANCE_UID, VR::UI, &self.sop_instance_uid()),
            text(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.1"),
            text(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.1.1"),
            text(tags::MODALITY, VR::CS, "CT"),
            text(tags::PATIENT_ID, VR::LO, "PHANTOM"),
            text(tags::PATIENT_NAME, VR::PN, "Phantom^Torso"),
            text(tags::INSTANCE_NUMBER, VR::IS, &self.number.to_string()),
            text(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("0\\0\\{}", self.number)),
            text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
            text(tags::PIXEL_SPACING, VR::DS, "1\\1"),
            text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            text(tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
            text(tags::RESCALE_SLOPE, VR::DS, "1"),
            number(tags::SAMPLES_PER_PIXEL, 1),
            number(tags::ROWS, self.side),
            number(tags::COLUMNS, self.side),
            number(tags::BITS_ALLOCATED, 16),
            number(tags::BITS_STORED, 12),
            number(tags::HIGH_BIT, 11),
            number(tags::PIXEL_REPRESENTATION, 0),
            DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())),
        ])
    }

    /// Writes the slice as explicit little endian and returns its path.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{:05}.dcm", self.number));
        self.dataset()
            .with_meta(
                FileMetaTableBuilder::new()
                    .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
                    .media_storage_sop_class_uid(self.sop_class_uid)
                    .media_storage_sop_instance_uid(self.sop_instance_uid()),
            )
            .unwrap()
            .write_to_file(&path)
            .unwrap();
        path
    }
}
