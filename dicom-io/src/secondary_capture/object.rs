//! Pictures as an object: Multi-frame True Color Secondary Capture (PS3.3 A.8.5).

use std::collections::HashSet;

use dicom::core::Tag;
use dicom::dictionary_std::tags;
use dicom_types::SopInstanceUid;

use super::Preview;
use crate::ResultObject;
use crate::seg::frames::concept;
use crate::seg::modules::{MAX_LONG_TEXT, truncated};
use crate::seg::origin::Origin;
use crate::seg::sop::read_source;
use crate::seg::text::printable;
use crate::seg::writer::{DataSetWriter, ElementWriter, Vr};
use crate::seg::{BuildSegError, LongString, SegIdentity, SegProvenance};
use crate::series::Stack;

/// Multi-frame True Color Secondary Capture Image Storage.
pub const SOP_CLASS_UID: &str = "1.2.840.10008.5.1.4.1.1.7.4";
/// Word that goes into the UIDs of captures.
const KIND: &str = "picture";
/// Page Number Vector (0018,2001).
const PAGE_NUMBER_VECTOR: Tag = Tag(0x0018, 0x2001);
/// Frame Increment Pointer (0028,0009).
const FRAME_INCREMENT_POINTER: Tag = Tag(0x0028, 0x0009);
/// Image Comments (0020,4000).
const IMAGE_COMMENTS: Tag = Tag(0x0020, 0x4000);

/// Writes `pictures`, all of the size of the first, as the frames of one object. `targets` are the texts that the model
/// was given, for whoever asks the file how it came about. The same inputs give the same bytes.
///
/// # Errors
/// [`BuildSegError`] when there is no picture or too much of it, or when the source instance cannot be read for what
/// is copied from it.
pub fn build(
    stack: &Stack,
    pictures: &[Preview],
    targets: &[&str],
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<ResultObject, BuildSegError> {
    let pixel_bytes = pixel_bytes(pictures)?;
    let source = read_source(stack)?;
    let origin = Origin { stack, source: &source, identity, provenance };
    let sop_instance_uid = identity.sop_instance_uid(KIND);
    let mut dataset = DataSetWriter::new();
    origin.put_patient_and_study(&mut dataset);
    origin.put_series(&mut dataset, "OT", KIND);
    origin.put_equipment(&mut dataset);
    origin.put_references(&mut dataset);
    origin.put_lossy(&mut dataset);
    dataset.put(|w| write_sources(stack, w));
    // The planes are the patient's, and no frame says where in the frame of reference it lies.
    dataset.remove(tags::POSITION_REFERENCE_INDICATOR);
    // Planes of a whole torso have no body part that is either paired or not: the side is unknown (PS3.3 C.7.3.1).
    dataset.remove(tags::BODY_PART_EXAMINED);
    dataset.text(tags::LATERALITY, *b"CS", "");
    put_image(&mut dataset, &sop_instance_uid, pictures, targets, provenance);

    let series = identity.series_instance_uid(KIND);
    let mut object = ResultObject::of_dataset(SOP_CLASS_UID, series, sop_instance_uid, dataset);
    let mut header = ElementWriter::new();
    header.header(tags::PIXEL_DATA, Vr(*b"OB"), pixel_bytes);
    object.bytes.extend_from_slice(&header.into_bytes());
    let end = object.bytes.len() + pixel_bytes as usize;
    object.bytes.reserve_exact(pixel_bytes as usize);
    for picture in pictures {
        object.bytes.extend_from_slice(&picture.rgb);
    }
    object.bytes.resize(end, 0);
    Ok(object)
}

/// The images that the pictures were made from (PS3.3 C.12.4).
fn write_sources(stack: &Stack, writer: &mut ElementWriter) {
    let mut seen = HashSet::new();
    let purpose = concept("121322", "DCM", "Source image for image processing operation");
    writer.sequence(tags::SOURCE_IMAGE_SEQUENCE, |w| {
        for slice in stack.slices.iter().filter(|slice| seen.insert(&slice.sop_instance_uid)) {
            w.item(|w| {
                let (class, uid) = (&slice.sop_class_uid, &slice.sop_instance_uid);
                w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", class.as_str());
                w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", uid.as_str());
                w.concept(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &purpose);
            });
        }
    });
}

/// Even number of bytes that the frames take.
fn pixel_bytes(pictures: &[Preview]) -> Result<u32, BuildSegError> {
    let max = usize::from(u16::MAX);
    let first = pictures.first().ok_or(BuildSegError::NoPicture)?;
    for (what, found) in [("rows", first.height), ("columns", first.width)] {
        if found > max {
            return Err(BuildSegError::TooMany { what, found, max });
        }
    }
    let is_alike = |picture: &Preview| {
        (picture.width, picture.height) == (first.width, first.height)
            && picture.rgb.len() == 3 * first.width * first.height
    };
    if !pictures.iter().all(is_alike) {
        return Err(BuildSegError::UnevenPictures);
    }
    let bytes = pictures.len() as u64 * first.rgb.len() as u64;
    u32::try_from(bytes.next_multiple_of(2))
        .ok()
        .filter(|length| *length < u32::MAX)
        .ok_or(BuildSegError::TooLarge { frames: pictures.len(), bytes })
}

fn put_image(
    dataset: &mut DataSetWriter,
    sop_instance_uid: &SopInstanceUid,
    pictures: &[Preview],
    targets: &[&str],
    provenance: &SegProvenance,
) {
    dataset.text(tags::SOP_CLASS_UID, *b"UI", SOP_CLASS_UID);
    dataset.text(tags::SOP_INSTANCE_UID, *b"UI", sop_instance_uid.as_str());
    dataset.text(tags::SERIES_DESCRIPTION, *b"LO", "Automatic segmentation (AI): pictures");
    dataset.text(tags::CONVERSION_TYPE, *b"CS", "WSD");
    dataset.text(tags::IMAGE_TYPE, *b"CS", "DERIVED\\SECONDARY");
    dataset.text(tags::INSTANCE_NUMBER, *b"IS", "1");
    dataset.text(tags::PATIENT_ORIENTATION, *b"CS", "");
    // No name, number or date of the patient is drawn.
    dataset.text(tags::BURNED_IN_ANNOTATION, *b"CS", "NO");
    let derivation = LongString::fitted(&format!("AI segmentation. {}", provenance.notice));
    dataset.text(tags::DERIVATION_DESCRIPTION, *b"ST", derivation.as_str());
    let comments = printable(&format!("{TARGETS}{}", targets.join("; ")));
    dataset.text(IMAGE_COMMENTS, *b"LT", truncated(&comments, MAX_LONG_TEXT));

    let size = |length: usize| length as u16;
    dataset.us(tags::SAMPLES_PER_PIXEL, 3);
    dataset.text(tags::PHOTOMETRIC_INTERPRETATION, *b"CS", "RGB");
    dataset.us(tags::PLANAR_CONFIGURATION, 0);
    dataset.us(tags::ROWS, pictures.first().map_or(0, |picture| size(picture.height)));
    dataset.us(tags::COLUMNS, pictures.first().map_or(0, |picture| size(picture.width)));
    dataset.us(tags::BITS_ALLOCATED, 8);
    dataset.us(tags::BITS_STORED, 8);
    dataset.us(tags::HIGH_BIT, 7);
    dataset.us(tags::PIXEL_REPRESENTATION, 0);

    let pages: Vec<String> = (1..=pictures.len()).map(|page| page.to_string()).collect();
    dataset.text(tags::NUMBER_OF_FRAMES, *b"IS", &pictures.len().to_string());
    dataset.put(|w| w.at(FRAME_INCREMENT_POINTER, PAGE_NUMBER_VECTOR));
    dataset.put(|w| w.texts(PAGE_NUMBER_VECTOR, *b"IS", &pages));
}

/// In front of the targets in Image Comments.
pub(crate) const TARGETS: &str = "Targets: ";
