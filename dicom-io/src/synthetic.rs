//! Series of images made from a volume: phantoms for demonstrations and self-tests, never patients.

use dicom::core::smallvec::smallvec;
use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom_types::{
    FrameOfReferenceUid, GridGeometry, Modality, SeriesInstanceUid, SopClassUid, SopInstanceUid,
    StudyInstanceUid, Volume,
};

use crate::part10::FileMeta;

const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.4";
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Cosine of a right angle, as far as a decimal string can tell.
const RIGHT_ANGLE: f64 = 1e-4;

/// Why a volume cannot be written as a series.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum WriteSeriesError {
    /// Positron emission images need a dose module that phantoms have no use for.
    #[error("only CT and MR series can be made")]
    Modality,
    /// More than 65535 rows or columns.
    #[error("a plane of {rows} by {columns} pixels does not fit an image")]
    TooLarge {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
    /// Rows and columns that are not at right angles cannot be described by an orientation.
    #[error("rows and columns of the volume are not at right angles")]
    Skewed,
}

/// What a series says of itself.
#[derive(Debug, Clone)]
pub struct SyntheticSeries<'a> {
    /// CT (values in HU) or MR (values from 0 on).
    pub modality: Modality,
    /// The study.
    pub study_instance_uid: StudyInstanceUid,
    /// The series; the instances' identifiers derive from it.
    pub series_instance_uid: SeriesInstanceUid,
    /// The frame of reference.
    pub frame_of_reference_uid: FrameOfReferenceUid,
    /// Patient's Name (0010,0010) in its encoded form; plain ASCII.
    pub patient_name: &'a str,
    /// Patient ID (0010,0020).
    pub patient_id: &'a str,
    /// Accession Number (0008,0050).
    pub accession_number: &'a str,
    /// Series Number (0020,0011).
    pub series_number: u32,
    /// Series Description (0008,103E).
    pub description: &'a str,
    /// Body Part Examined (0018,0015), a defined term.
    pub body_part_examined: &'a str,
    /// Date of study, series and content, `YYYYMMDD`.
    pub date: &'a str,
}

/// One image as a Part 10 file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticInstance {
    /// Its SOP Instance UID.
    pub sop_instance_uid: SopInstanceUid,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Writes every slice of `volume` as a CT or MR Image Storage instance in Explicit VR Little Endian, 16 bit.
///
/// Slices need not be stacked along their normal: a gantry tilt stays as it is.
///
/// # Errors
/// [`WriteSeriesError`] for a volume that no such series can hold.
pub fn write_series(
    volume: &Volume,
    series: &SyntheticSeries<'_>,
) -> Result<Vec<SyntheticInstance>, WriteSeriesError> {
    let sop_class = match series.modality {
        Modality::Ct => CT_IMAGE,
        Modality::Mr => MR_IMAGE,
        Modality::Pt => return Err(WriteSeriesError::Modality),
    };
    let plane = Plane::of(volume.geometry())?;
    let stored = StoredValues::of(volume, series.modality);
    let mut shared = shared_attributes(series, &plane, &stored);
    text(&mut shared, tags::SOP_CLASS_UID, VR::UI, sop_class);

    let plane_pixels = plane.rows as usize * plane.columns as usize;
    let mut instances = Vec::with_capacity(volume.geometry().shape()[0]);
    for (index, values) in volume.values().chunks_exact(plane_pixels).enumerate() {
        let sop_instance_uid = instance_uid(&series.series_instance_uid, index);
        let position = volume.geometry().position_mm([index as f64, 0.0, 0.0]);
        let mut dataset = shared.clone();
        text(&mut dataset, tags::SOP_INSTANCE_UID, VR::UI, sop_instance_uid.as_str());
        text(&mut dataset, tags::INSTANCE_NUMBER, VR::IS, &(index + 1).to_string());
        text(&mut dataset, tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&position));
        let pixels: Vec<u16> =
            values.iter().map(|&value| stored.encode(value).cast_unsigned()).collect();
        let pixels = PrimitiveValue::U16(pixels.into());
        dataset.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
        instances.push(SyntheticInstance {
            bytes: part10(&dataset, sop_class, &sop_instance_uid),
            sop_instance_uid,
        });
    }
    Ok(instances)
}

/// The plane of every image of the series.
struct Plane {
    rows: u16,
    columns: u16,
    orientation: [f64; 6],
    /// Row spacing, then column spacing.
    pixel_spacing_mm: [f64; 2],
    thickness_mm: f64,
}

impl Plane {
    fn of(geometry: &GridGeometry) -> Result<Self, WriteSeriesError> {
        let [_, rows, columns] = geometry.shape();
        let (Ok(rows), Ok(columns)) = (u16::try_from(rows), u16::try_from(columns)) else {
            return Err(WriteSeriesError::TooLarge { rows, columns });
        };
        let [_, row_step, column_step] = geometry.steps_mm();
        let [_, row_mm, column_mm] = geometry.spacing_mm();
        let along_row = column_step.map(|v| v / column_mm);
        let along_column = row_step.map(|v| v / row_mm);
        let cosine: f64 = along_row.iter().zip(along_column).map(|(a, b)| a * b).sum();
        if cosine.abs() > RIGHT_ANGLE {
            return Err(WriteSeriesError::Skewed);
        }
        let mut orientation = [0.0; 6];
        orientation[..3].copy_from_slice(&along_row);
        orientation[3..].copy_from_slice(&along_column);
        Ok(Self {
            rows,
            columns,
            orientation,
            pixel_spacing_mm: [row_mm, column_mm],
            thickness_mm: geometry.plane_distance_mm(),
        })
    }
}

/// How values become 16-bit integers: as they are for HU, scaled to twelve bits for arbitrary units.
struct StoredValues {
    slope: f32,
}

impl StoredValues {
    const ARBITRARY_MAX: f32 = 4095.0;

    fn of(volume: &Volume, modality: Modality) -> Self {
        if modality == Modality::Ct {
            return Self { slope: 1.0 };
        }
        let largest = volume.values().iter().fold(0.0f32, |a, &b| a.max(b));
        Self { slope: if largest > 0.0 { largest / Self::ARBITRARY_MAX } else { 1.0 } }
    }

    fn encode(&self, value: f32) -> i16 {
        // The cast saturates, which is what a scanner does too.
        (value / self.slope).round() as i16
    }
}

fn shared_attributes(
    series: &SyntheticSeries<'_>,
    plane: &Plane,
    stored: &StoredValues,
) -> InMemDicomObject {
    let mut dataset = InMemDicomObject::new_empty();
    let texts = [
        (tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY\\AXIAL"),
        (tags::STUDY_DATE, VR::DA, series.date),
        (tags::SERIES_DATE, VR::DA, series.date),
        (tags::CONTENT_DATE, VR::DA, series.date),
        (tags::ACQUISITION_DATE, VR::DA, series.date),
        (tags::STUDY_TIME, VR::TM, "120000"),
        (tags::SERIES_TIME, VR::TM, "120000"),
        (tags::CONTENT_TIME, VR::TM, "120000"),
        (tags::ACQUISITION_TIME, VR::TM, "120000"),
        (tags::ACCESSION_NUMBER, VR::SH, series.accession_number),
        (tags::MODALITY, VR::CS, series.modality.as_str()),
        (tags::MANUFACTURER, VR::LO, "prosector"),
        (tags::MANUFACTURER_MODEL_NAME, VR::LO, "phantom"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
        (tags::SERIES_DESCRIPTION, VR::LO, series.description),
        (tags::STUDY_DESCRIPTION, VR::LO, "Synthetic torso"),
        (tags::PATIENT_NAME, VR::PN, series.patient_name),
        (tags::PATIENT_ID, VR::LO, series.patient_id),
        (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        (tags::PATIENT_SEX, VR::CS, "O"),
        (tags::BODY_PART_EXAMINED, VR::CS, series.body_part_examined),
        (tags::PATIENT_POSITION, VR::CS, "HFS"),
        (tags::STUDY_INSTANCE_UID, VR::UI, series.study_instance_uid.as_str()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series.series_instance_uid.as_str()),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, series.frame_of_reference_uid.as_str()),
        (tags::POSITION_REFERENCE_INDICATOR, VR::LO, ""),
        (tags::STUDY_ID, VR::SH, "1"),
        (tags::ACQUISITION_NUMBER, VR::IS, "1"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::RESCALE_INTERCEPT, VR::DS, "0"),
        (tags::RESCALE_TYPE, VR::LO, if series.modality == Modality::Ct { "HU" } else { "US" }),
    ];
    for (tag, vr, value) in texts {
        text(&mut dataset, tag, vr, value);
    }
    let numbers = [
        (tags::SLICE_THICKNESS, decimals(&[plane.thickness_mm])),
        (tags::IMAGE_ORIENTATION_PATIENT, decimals(&plane.orientation)),
        (tags::PIXEL_SPACING, decimals(&plane.pixel_spacing_mm)),
        (tags::RESCALE_SLOPE, decimals(&[f64::from(stored.slope)])),
    ];
    for (tag, value) in numbers {
        text(&mut dataset, tag, VR::DS, &value);
    }
    let series_number = series.series_number.to_string();
    text(&mut dataset, tags::SERIES_NUMBER, VR::IS, &series_number);
    let words = [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, plane.rows),
        (tags::COLUMNS, plane.columns),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 1),
    ];
    for (tag, value) in words {
        dataset.put(DataElement::new(tag, VR::US, PrimitiveValue::U16(smallvec![value])));
    }
    add_acquisition(&mut dataset, series.modality);
    dataset
}

/// Attributes that the CT and MR Image modules ask for (PS3.3 C.8.2.1 and C.8.3.1).
fn add_acquisition(dataset: &mut InMemDicomObject, modality: Modality) {
    let attributes: &[(dicom::core::Tag, VR, &str)] = if modality == Modality::Ct {
        &[(tags::KVP, VR::DS, "120")]
    } else {
        &[
            (tags::SCANNING_SEQUENCE, VR::CS, "RM"),
            (tags::SEQUENCE_VARIANT, VR::CS, "NONE"),
            (tags::SCAN_OPTIONS, VR::CS, ""),
            (tags::MR_ACQUISITION_TYPE, VR::CS, "3D"),
            (tags::ECHO_TIME, VR::DS, ""),
            (tags::ECHO_TRAIN_LENGTH, VR::IS, ""),
        ]
    };
    for &(tag, vr, value) in attributes {
        text(dataset, tag, vr, value);
    }
}

fn text(dataset: &mut InMemDicomObject, tag: dicom::core::Tag, vr: VR, value: &str) {
    let value = if value.is_empty() {
        PrimitiveValue::Empty
    } else {
        PrimitiveValue::Strs(value.split('\\').map(str::to_owned).collect())
    };
    dataset.put(DataElement::new(tag, vr, value));
}

/// Decimal strings of at most 16 characters (PS3.5 6.2), the closest that fit.
fn decimals(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|&value| decimal(value)).collect();
    texts.join("\\")
}

fn decimal(value: f64) -> String {
    const LONGEST: usize = 16;
    let shortest = format!("{value}");
    if shortest.len() <= LONGEST {
        return shortest;
    }
    (0..=12)
        .rev()
        .map(|digits| format!("{value:.digits$}"))
        .find(|text| text.len() <= LONGEST)
        .unwrap_or_else(|| format!("{value:.8e}"))
}

fn instance_uid(series: &SeriesInstanceUid, index: usize) -> SopInstanceUid {
    let name = format!("{series}\n{index}");
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes());
    format!("2.25.{}", id.as_u128()).parse().expect("a UUID makes a well-formed UID")
}

fn part10(
    dataset: &InMemDicomObject,
    sop_class: &str,
    sop_instance_uid: &SopInstanceUid,
) -> Vec<u8> {
    let sop_class_uid: SopClassUid = sop_class.parse().expect("a constant of the standard");
    let transfer_syntax_uid = EXPLICIT_LITTLE_ENDIAN.parse().expect("a constant of the standard");
    let meta = FileMeta {
        sop_class_uid,
        sop_instance_uid: sop_instance_uid.clone(),
        transfer_syntax_uid,
        source_ae_title: None,
    };
    let mut bytes = meta.encode();
    let syntax = dicom::transfer_syntax::entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    dataset
        .write_dataset_with_ts(&mut bytes, &syntax)
        .expect("a data set of text and numbers is written to memory");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> SyntheticSeries<'static> {
        SyntheticSeries {
            modality: Modality::Ct,
            study_instance_uid: "1.2.3".parse().unwrap(),
            series_instance_uid: "1.2.3.4".parse().unwrap(),
            frame_of_reference_uid: "1.2.3.5".parse().unwrap(),
            patient_name: "Phantom^Torso",
            patient_id: "PHANTOM",
            accession_number: "PH1",
            series_number: 1,
            description: "Phantom",
            body_part_examined: "ABDOMEN",
            date: "20260101",
        }
    }

    #[test]
    fn a_series_reads_back_as_the_volume_that_it_was_made_of() {
        let steps = [[0.0, 1.0, 5.0], [0.0, 0.75, 0.0], [-0.6, 0.0, 0.8]];
        let geometry = GridGeometry::new([3, 4, 5], [-10.25, 7.0, 100.0], steps).unwrap();
        let values = (0..60).map(|v| v as f32 * 17.0 - 500.0).collect();
        let volume = Volume::new(geometry, values).unwrap();

        let instances = write_series(&volume, &series()).unwrap();

        assert_eq!(instances.len(), 3);
        let object = dicom::object::from_reader(&instances[2].bytes[..]).unwrap();
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_multi_int::<u16>().unwrap();
        let values: Vec<f32> = pixels.iter().map(|&v| f32::from(v.cast_signed())).collect();
        assert_eq!(values, volume.values()[40..]);
        let position: Vec<f64> =
            object.element(tags::IMAGE_POSITION_PATIENT).unwrap().to_multi_float64().unwrap();
        assert_eq!(position, [-10.25, 9.0, 110.0]);
        let orientation: Vec<f64> =
            object.element(tags::IMAGE_ORIENTATION_PATIENT).unwrap().to_multi_float64().unwrap();
        assert_eq!(orientation, [-0.6, 0.0, 0.8, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn decimal_strings_fit_sixteen_characters() {
        for value in [1.0 / 3.0, -1.0 / 3.0, 1e-17, -123_456.789_012_345, 1e20, 0.1 + 0.2] {
            let text = decimal(value);
            assert!(text.len() <= 16, "{text}");
            let back: f64 = text.parse().unwrap();
            assert!((back - value).abs() <= 1e-9 * value.abs().max(1.0), "{text}");
        }
    }
}
