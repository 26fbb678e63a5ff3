//! Small DICOM files made in code.

use std::path::PathBuf;

use dicom::core::smallvec::SmallVec;
use dicom::core::value::{DataSetSequence, PixelFragmentSequence, PrimitiveValue};
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::{tags, uids};
use dicom::object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_io::series::{SeriesReport, read_stacks};

pub(super) const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
pub(super) const ROWS: u16 = 5;
pub(super) const COLUMNS: u16 = 7;
/// Row spacing, column spacing.
pub(super) const SPACING: [f64; 2] = [2.0, 1.5];

/// Files of a test, removed when it ends.
pub(super) struct Files {
    folder: tempfile::TempDir,
    pub(super) paths: Vec<PathBuf>,
}

impl Files {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), paths: Vec::new() }
    }

    /// Files of `datasets`, explicit little endian.
    pub(super) fn of(datasets: impl IntoIterator<Item = InMemDicomObject>) -> Self {
        let mut files = Self::new();
        for dataset in datasets {
            files.add(dataset);
        }
        files
    }

    pub(super) fn add(&mut self, dataset: InMemDicomObject) {
        self.add_in(dataset, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    }

    /// Writes a data set; gives it a SOP Instance UID and Instance Number by its place unless it has them.
    pub(super) fn add_in(&mut self, mut dataset: InMemDicomObject, transfer_syntax_uid: &str) {
        let number = self.paths.len() + 1;
        if dataset.get(tags::SOP_INSTANCE_UID).is_none() {
            text(&mut dataset, tags::SOP_INSTANCE_UID, VR::UI, &uid(number));
        }
        if dataset.get(tags::INSTANCE_NUMBER).is_none() {
            text(&mut dataset, tags::INSTANCE_NUMBER, VR::IS, &number.to_string());
        }
        let path = self.folder.path().join(format!("{number:03}.dcm"));
        let meta = FileMetaTableBuilder::new().transfer_syntax(transfer_syntax_uid);
        dataset.with_meta(meta).unwrap().write_to_file(&path).unwrap();
        self.paths.push(path);
    }

    pub(super) fn read(&self) -> SeriesReport {
        read_stacks(&self.paths)
    }
}

/// SOP Instance UID of the `number`-th file, from 1.
pub(super) fn uid(number: usize) -> String {
    format!("1.2.826.0.1.3680043.10.99.{number}")
}

pub(super) fn text(dataset: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    dataset.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

pub(super) fn number(dataset: &mut InMemDicomObject, tag: Tag, value: u16) {
    dataset.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

pub(super) fn decimals(values: &[f64]) -> String {
    values.iter().map(|v| format!("{v:.6}")).collect::<Vec<_>>().join("\\")
}

pub(super) fn sequence(dataset: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    dataset.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// The value of a voxel: a plane through patient space that gives every position of a test its own value.
pub(super) fn value_at(position_mm: [f64; 3]) -> f64 {
    let [x, y, z] = position_mm;
    (100.0 * x + 21.0 * y + 5.0 * z).round()
}

/// Patient position of a pixel.
pub(super) fn pixel_position_mm(
    orientation: [f64; 6],
    position: [f64; 3],
    [row, column]: [u16; 2],
) -> [f64; 3] {
    let [row_spacing, column_spacing] = SPACING;
    [0, 1, 2].map(|axis| {
        position[axis]
            + orientation[axis] * column_spacing * f64::from(column)
            + orientation[axis + 3] * row_spacing * f64::from(row)
    })
}

/// What every image of the tests has: identity, matrix, 16 bits signed.
pub(super) fn image(sop_class_uid: &str, modality: &str) -> InMemDicomObject {
    let mut dataset = InMemDicomObject::new_empty();
    text(&mut dataset, tags::SOP_CLASS_UID, VR::UI, sop_class_uid);
    text(&mut dataset, tags::MODALITY, VR::CS, modality);
    text(&mut dataset, tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.1");
    text(&mut dataset, tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.2");
    text(&mut dataset, tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.3");
    text(&mut dataset, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
    text(&mut dataset, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    number(&mut dataset, tags::SAMPLES_PER_PIXEL, 1);
    number(&mut dataset, tags::ROWS, ROWS);
    number(&mut dataset, tags::COLUMNS, COLUMNS);
    number(&mut dataset, tags::BITS_ALLOCATED, 16);
    number(&mut dataset, tags::BITS_STORED, 16);
    number(&mut dataset, tags::HIGH_BIT, 15);
    number(&mut dataset, tags::PIXEL_REPRESENTATION, 1);
    dataset
}

/// A single-frame CT slice whose values are those of [`value_at`].
pub(super) fn ct_slice(orientation: [f64; 6], position: [f64; 3]) -> InMemDicomObject {
    slice(image(uids::CT_IMAGE_STORAGE, "CT"), orientation, position)
}

/// A single-frame MR slice whose values are those of [`value_at`].
pub(super) fn mr_slice(orientation: [f64; 6], position: [f64; 3]) -> InMemDicomObject {
    slice(image(uids::MR_IMAGE_STORAGE, "MR"), orientation, position)
}

fn slice(
    mut dataset: InMemDicomObject,
    orientation: [f64; 6],
    position: [f64; 3],
) -> InMemDicomObject {
    text(&mut dataset, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &decimals(&orientation));
    text(&mut dataset, tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&position));
    text(&mut dataset, tags::PIXEL_SPACING, VR::DS, &decimals(&SPACING));
    native_pixels(&mut dataset, &plane_values(orientation, position));
    dataset
}

/// Axial CT slices at heights `z`, in this order.
pub(super) fn axial(z: &[f64]) -> Vec<InMemDicomObject> {
    z.iter().map(|&z| ct_slice(AXIAL, [-10.0, 20.0, z])).collect()
}

/// Axial MR slices at heights `z`, in this order.
pub(super) fn axial_mr(z: &[f64]) -> Vec<InMemDicomObject> {
    z.iter().map(|&z| mr_slice(AXIAL, [-10.0, 20.0, z])).collect()
}

/// Values of [`value_at`] over an image.
pub(super) fn plane_values(orientation: [f64; 6], position: [f64; 3]) -> Vec<i16> {
    (0..ROWS)
        .flat_map(|row| (0..COLUMNS).map(move |column| [row, column]))
        .map(|pixel| value_at(pixel_position_mm(orientation, position, pixel)) as i16)
        .collect()
}

pub(super) fn native_pixels(dataset: &mut InMemDicomObject, values: &[i16]) {
    let words: SmallVec<[u16; 2]> = values.iter().map(|&value| value as u16).collect();
    dataset.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words)));
}

/// Encapsulated pixel data: a basic offset table and fragments as they are.
pub(super) fn fragments(
    dataset: &mut InMemDicomObject,
    offset_table: Vec<u32>,
    fragments: Vec<Vec<u8>>,
) {
    let sequence = PixelFragmentSequence::new(offset_table, SmallVec::from(fragments));
    dataset.put(DataElement::new(tags::PIXEL_DATA, VR::OB, sequence));
}

/// One frame of an enhanced object.
pub(super) struct EnhancedFrame {
    pub(super) orientation: [f64; 6],
    pub(super) position: [f64; 3],
    pub(super) stack_id: &'static str,
    pub(super) echo_time_ms: f64,
    pub(super) slope: f64,
}

/// An Enhanced MR object; values are those of [`value_at`], rescaled by each frame's own slope.
pub(super) fn enhanced_mr(frames: &[EnhancedFrame]) -> InMemDicomObject {
    let mut dataset = image(uids::ENHANCED_MR_IMAGE_STORAGE, "MR");
    text(&mut dataset, tags::NUMBER_OF_FRAMES, VR::IS, &frames.len().to_string());
    let mut measures = InMemDicomObject::new_empty();
    text(&mut measures, tags::PIXEL_SPACING, VR::DS, &decimals(&SPACING));
    text(&mut measures, tags::SLICE_THICKNESS, VR::DS, "3");
    let mut shared = InMemDicomObject::new_empty();
    sequence(&mut shared, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
    sequence(&mut dataset, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    let per_frame = frames.iter().map(functional_groups).collect();
    sequence(&mut dataset, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
    let values: Vec<i16> =
        frames.iter().flat_map(|frame| plane_values(frame.orientation, frame.position)).collect();
    native_pixels(&mut dataset, &values);
    dataset
}

fn functional_groups(frame: &EnhancedFrame) -> InMemDicomObject {
    let mut groups = InMemDicomObject::new_empty();
    let mut group = |tag: Tag, fill: &dyn Fn(&mut InMemDicomObject)| {
        let mut item = InMemDicomObject::new_empty();
        fill(&mut item);
        sequence(&mut groups, tag, vec![item]);
    };
    group(tags::PLANE_POSITION_SEQUENCE, &|item| {
        text(item, tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&frame.position));
    });
    group(tags::PLANE_ORIENTATION_SEQUENCE, &|item| {
        text(item, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &decimals(&frame.orientation));
    });
    group(tags::FRAME_CONTENT_SEQUENCE, &|item| {
        text(item, tags::STACK_ID, VR::SH, frame.stack_id);
    });
    group(tags::MR_ECHO_SEQUENCE, &|item| {
        let echo_time = PrimitiveValue::from(frame.echo_time_ms);
        item.put(DataElement::new(tags::EFFECTIVE_ECHO_TIME, VR::FD, echo_time));
    });
    group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, &|item| {
        text(item, tags::RESCALE_SLOPE, VR::DS, &frame.slope.to_string());
        text(item, tags::RESCALE_INTERCEPT, VR::DS, "0");
    });
    groups
}
