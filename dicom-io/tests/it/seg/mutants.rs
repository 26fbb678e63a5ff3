//! Objects with one fault each, all of which the check must hold back.

use std::fmt::Write;

use dicom::core::dictionary::DataDictionary;
use dicom::core::ops::{ApplyOp, AttributeAction, AttributeOp, AttributeSelector};
use dicom::core::value::{DataSetSequence, PrimitiveValue};
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::{StandardDataDictionary, tags};
use dicom::object::{FileDicomObject, InMemDicomObject, from_reader};
use dicom_io::seg::{SegMismatch, SegmentationType, check, check_labelmap};

use super::example::Example;
use super::labelmap::labelmap;
use super::series::TestSeries;

/// A parsed segmentation that can be spoilt and written again.
struct Mutant {
    object: FileDicomObject<InMemDicomObject>,
    rows: usize,
    columns: usize,
    kind: SegmentationType,
}

impl Mutant {
    fn of(bytes: &[u8], shape: [usize; 3], kind: SegmentationType) -> Self {
        Self { object: from_reader(bytes).unwrap(), rows: shape[1], columns: shape[2], kind }
    }

    fn selector(&self, path: &str) -> AttributeSelector {
        let mut path = path.to_owned();
        // The first segment of a label map is the background.
        if self.kind == SegmentationType::Labelmap && path.starts_with("SegmentSequence[") {
            let (number, rest) = path["SegmentSequence[".len()..].split_once(']').unwrap();
            let next = number.parse::<usize>().unwrap() + 1;
            path = format!("SegmentSequence[{next}]{rest}");
        }
        StandardDataDictionary.parse_selector(&path).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.object.write_all(&mut bytes).unwrap();
        bytes
    }

    /// Sets an attribute, named by a path such as `SegmentSequence[0].SegmentLabel`.
    fn set(&mut self, path: &str, value: &str) {
        let action = AttributeAction::SetStr(value.to_owned().into());
        self.apply(path, action);
    }

    fn set_number(&mut self, path: &str, value: PrimitiveValue) {
        self.apply(path, AttributeAction::Set(value));
    }

    fn remove(&mut self, path: &str) {
        self.apply(path, AttributeAction::Remove);
    }

    fn apply(&mut self, path: &str, action: AttributeAction) {
        let selector = self.selector(path);
        self.object.apply(AttributeOp { selector, action }).unwrap();
    }

    fn get(&self, path: &str) -> String {
        self.object.value_at(self.selector(path)).unwrap().to_str().unwrap().into_owned()
    }

    fn swap(&mut self, a: &str, b: &str) {
        let (at_a, at_b) = (self.get(a), self.get(b));
        self.set(a, &at_b);
        self.set(b, &at_a);
    }

    fn frames(&self) -> usize {
        self.object.element(tags::NUMBER_OF_FRAMES).unwrap().to_int().unwrap()
    }

    /// Changes the three numbers of Image Position (Patient) in every frame.
    fn move_frames(&mut self, change: impl Fn([f64; 3]) -> [f64; 3]) {
        for frame in 0..self.frames() {
            let path = position(frame);
            let numbers: Vec<f64> =
                self.get(&path).split('\\').map(|v| v.parse().unwrap()).collect();
            let moved = change(numbers.try_into().unwrap());
            self.set(&path, &moved.map(|v| format!("{v:.6}")).join("\\"));
        }
    }

    /// Changes the items of a sequence at the top level.
    fn items(&mut self, tag: Tag, change: impl FnOnce(&mut Vec<InMemDicomObject>)) {
        let mut items = self.object.element(tag).unwrap().items().unwrap().to_vec();
        change(&mut items);
        self.object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
    }

    /// Changes the items of the frames and their number.
    fn per_frame(&mut self, change: impl FnOnce(&mut Vec<InMemDicomObject>)) {
        let mut count = 0;
        self.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, |items| {
            change(items);
            count = items.len();
        });
        self.set("NumberOfFrames", &count.to_string());
    }

    /// Pixels as numbers, `frames` of `rows` times `columns`: 0 and 1, or those of a label map.
    fn frames_of_pixels(&self) -> Vec<Vec<u8>> {
        let bytes = self.object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        let pixels = self.rows * self.columns;
        let value = |pixel: usize| match self.kind {
            SegmentationType::Binary => bytes[pixel / 8] >> (pixel % 8) & 1,
            SegmentationType::Labelmap => bytes[pixel],
        };
        (0..self.frames())
            .map(|frame| (frame * pixels..(frame + 1) * pixels).map(value).collect())
            .collect()
    }

    fn put_frames(&mut self, frames: &[Vec<u8>]) {
        let values = frames.concat();
        self.put_pixels(match self.kind {
            SegmentationType::Binary => packed(&values),
            SegmentationType::Labelmap => values,
        });
    }

    /// Changes pixels.
    fn pixels(&mut self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut frames = self.frames_of_pixels();
        change(&mut frames);
        self.put_frames(&frames);
    }

    /// Puts every pixel elsewhere in its frame.
    fn rearrange(&mut self, source: impl Fn(usize, usize) -> (usize, usize)) {
        let (rows, columns) = (self.rows, self.columns);
        self.pixels(|frames| {
            for frame in frames {
                *frame = (0..rows * columns)
                    .map(|pixel| {
                        let (row, column) = source(pixel / columns, pixel % columns);
                        frame[row * columns + column]
                    })
                    .collect();
            }
        });
    }

    fn put_pixels(&mut self, mut bytes: Vec<u8>) {
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        self.object.put(DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PrimitiveValue::U8(bytes.into()),
        ));
    }
}

fn packed(bits: &[u8]) -> Vec<u8> {
    bits.chunks(8).map(|bits| bits.iter().enumerate().map(|(i, bit)| bit << i).sum()).collect()
}

fn position(frame: usize) -> String {
    format!(
        "PerFrameFunctionalGroupsSequence[{frame}].PlanePositionSequence[0].ImagePositionPatient"
    )
}

fn source(frame: usize, attribute: &str) -> String {
    format!(
        "PerFrameFunctionalGroupsSequence[{frame}].DerivationImageSequence[0].SourceImageSequence[0].{attribute}"
    )
}

const ORIENTATION: &str =
    "SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient";
const SPACING: &str = "SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing";

/// The two directions of the plane, changed.
fn turn(mutant: &mut Mutant, change: impl FnOnce([f64; 3], [f64; 3]) -> ([f64; 3], [f64; 3])) {
    let v: Vec<f64> = mutant.get(ORIENTATION).split('\\').map(|v| v.parse().unwrap()).collect();
    let (along_row, along_column) = change([v[0], v[1], v[2]], [v[3], v[4], v[5]]);
    let texts: Vec<_> = along_row.iter().chain(&along_column).map(|v| format!("{v:.10}")).collect();
    mutant.set(ORIENTATION, &texts.join("\\"));
}

type Spoil = fn(&mut Mutant);

/// A name and a fault each.
const FAULTS: &[(&str, Spoil)] = &[
    ("pixels mirrored left to right", |m| {
        let columns = m.columns;
        m.rearrange(|r, c| (r, columns - 1 - c));
    }),
    ("pixels mirrored top to bottom", |m| {
        let rows = m.rows;
        m.rearrange(|r, c| (rows - 1 - r, c));
    }),
    ("pixels turned by half a turn", |m| {
        let (rows, columns) = (m.rows, m.columns);
        m.rearrange(|r, c| (rows - 1 - r, columns - 1 - c));
    }),
    ("pixels shifted by a column", |m| {
        let columns = m.columns;
        m.rearrange(|r, c| (r, (c + 1) % columns));
    }),
    ("pixels shifted by a row", |m| {
        let rows = m.rows;
        m.rearrange(|r, c| ((r + 1) % rows, c));
    }),
    ("slices of the pixels in reverse order", |m| m.pixels(|frames| frames.reverse())),
    ("pixels of two frames swapped", |m| m.pixels(|frames| frames.swap(1, 2))),
    ("one voxel too many", |m| m.pixels(|frames| frames[0][0] = 1)),
    ("one voxel too few", |m| {
        m.pixels(|frames| *frames[2].iter_mut().find(|voxel| **voxel > 0).unwrap() = 0);
    }),
    ("frames padded to whole bytes", |m| {
        m.pixels(|frames| {
            for frame in frames {
                frame.resize(frame.len().div_ceil(8) * 8, 0);
            }
        });
    }),
    ("first pixel in the most significant bit", |m| {
        let bytes = m.object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        m.put_pixels(bytes.into_iter().map(u8::reverse_bits).collect());
    }),
    ("pixel data cut short", |m| {
        let bytes = m.object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        m.put_pixels(bytes[..bytes.len() - 2].to_vec());
    }),
    ("rows and columns exchanged", |m| {
        m.set_number("Rows", PrimitiveValue::from(m.columns as u16));
        m.set_number("Columns", PrimitiveValue::from(m.rows as u16));
    }),
    ("rows run the other way", |m| turn(m, |row, column| (row.map(|v| -v), column))),
    ("columns run the other way", |m| turn(m, |row, column| (row, column.map(|v| -v)))),
    ("directions of rows and columns exchanged", |m| turn(m, |row, column| (column, row))),
    ("plane turned by one degree", |m| {
        turn(m, |row, column| {
            let (sin, cos) = 1.0_f64.to_radians().sin_cos();
            let turned =
                |a: [f64; 3], b: [f64; 3], s: f64| std::array::from_fn(|i| cos * a[i] + s * b[i]);
            (turned(row, column, sin), turned(column, row, -sin))
        });
    }),
    ("row and column spacing exchanged", |m| {
        let spacing = m.get(SPACING);
        let (row, column) = spacing.split_once('\\').unwrap();
        let exchanged = format!("{column}\\{row}");
        m.set(SPACING, &exchanged);
    }),
    ("spacing two percent too large", |m| {
        let spacing: Vec<f64> = m.get(SPACING).split('\\').map(|v| v.parse().unwrap()).collect();
        let scaled: Vec<_> = spacing.iter().map(|v| format!("{}", v * 1.02)).collect();
        m.set(SPACING, &scaled.join("\\"));
    }),
    ("frames a hundredth of a millimetre off", |m| m.move_frames(|[x, y, z]| [x + 0.01, y, z])),
    ("frames one slice higher", |m| {
        let positions: Vec<_> = (0..m.frames()).map(|frame| m.get(&position(frame))).collect();
        for (frame, text) in positions[1..3].iter().enumerate() {
            m.set(&position(frame), text);
        }
    }),
    ("frames one slice higher, references too", |m| {
        for frame in 0..2 {
            for path in [position(frame), source(frame, "ReferencedSOPInstanceUID")] {
                let next =
                    m.get(&path.replacen(&format!("[{frame}]"), &format!("[{}]", frame + 1), 1));
                m.set(&path, &next);
            }
        }
        let dimension = |frame: usize| {
            format!(
                "PerFrameFunctionalGroupsSequence[{frame}].FrameContentSequence[0].DimensionIndexValues"
            )
        };
        for frame in 0..2 {
            let value = PrimitiveValue::U32([1, frame as u32 + 2].as_slice().into());
            m.set_number(&dimension(frame), value);
        }
    }),
    ("left and right of the patient exchanged", |m| m.move_frames(|[x, y, z]| [-x, y, z])),
    ("head and feet of the patient exchanged", |m| m.move_frames(|[x, y, z]| [x, y, -z])),
    ("position missing in a frame", |m| m.remove(&position(1))),
    ("another patient's id", |m| m.set("PatientID", "P-2")),
    ("another patient's name", |m| m.set("PatientName", "Phantom^Other")),
    ("another birth date", |m| m.set("PatientBirthDate", "19700101")),
    ("another sex", |m| m.set("PatientSex", "F")),
    ("another issuer of the patient id", |m| m.set("IssuerOfPatientID", "elsewhere")),
    ("another study", |m| m.set("StudyInstanceUID", "1.2.3.4.5")),
    ("another accession number", |m| m.set("AccessionNumber", "A-2")),
    ("another frame of reference", |m| m.set("FrameOfReferenceUID", "1.2.3.4.5")),
    ("another character set", |m| m.set("SpecificCharacterSet", "ISO_IR 144")),
    ("the source's own series", |m| m.set("SeriesInstanceUID", "1.2.3.2")),
    ("another referenced series", |m| {
        m.set("ReferencedSeriesSequence[0].SeriesInstanceUID", "1.2.3.4.5");
    }),
    ("another referenced instance", |m| {
        let path =
            "ReferencedSeriesSequence[0].ReferencedInstanceSequence[1].ReferencedSOPInstanceUID";
        m.set(path, "1.2.3.4.5");
    }),
    ("a frame refers to the slice beside", |m| {
        m.swap(&source(0, "ReferencedSOPInstanceUID"), &source(1, "ReferencedSOPInstanceUID"));
    }),
    ("a frame refers to a frame number", |m| m.set(&source(0, "ReferencedFrameNumber"), "1")),
    ("a frame refers to another class", |m| {
        m.set(&source(0, "ReferencedSOPClassUID"), "1.2.840.10008.5.1.4.1.1.4");
    }),
    ("labels of two segments exchanged", |m| {
        m.swap("SegmentSequence[0].SegmentLabel", "SegmentSequence[1].SegmentLabel");
    }),
    ("codes of two segments exchanged", |m| {
        for part in ["CodeValue", "CodeMeaning"] {
            let path = |segment: usize| {
                format!("SegmentSequence[{segment}].SegmentedPropertyTypeCodeSequence[0].{part}")
            };
            m.swap(&path(0), &path(1));
        }
    }),
    ("right kidney for the left", |m| {
        let path = "SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0]\
            .SegmentedPropertyTypeModifierCodeSequence[0]";
        m.set(&format!("{path}.CodeValue"), "24028007");
        m.set(&format!("{path}.CodeMeaning"), "Right");
    }),
    ("side missing", |m| {
        m.remove(
            "SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0]\
            .SegmentedPropertyTypeModifierCodeSequence",
        );
    }),
    ("another coding scheme", |m| {
        let path = "SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator";
        m.set(path, "SRT");
    }),
    ("another region", |m| {
        m.set("SegmentSequence[1].AnatomicRegionSequence[0].CodeValue", "78961009");
    }),
    ("another colour", |m| {
        let value = PrimitiveValue::U16([1, 2, 3].as_slice().into());
        m.set_number("SegmentSequence[0].RecommendedDisplayCIELabValue", value);
    }),
    ("segment numbers of two frames exchanged", |m| {
        let path = |frame: usize| {
            format!(
                "PerFrameFunctionalGroupsSequence[{frame}]\
                .SegmentIdentificationSequence[0].ReferencedSegmentNumber"
            )
        };
        let last = m.frames() - 1;
        m.set_number(&path(0), PrimitiveValue::from(4_u16));
        m.set_number(&path(last), PrimitiveValue::from(1_u16));
    }),
    ("segment number beyond the last", |m| {
        let path = "PerFrameFunctionalGroupsSequence[0]\
            .SegmentIdentificationSequence[0].ReferencedSegmentNumber";
        m.set_number(path, PrimitiveValue::from(5_u16));
    }),
    ("segment numbers out of order", |m| {
        m.set_number("SegmentSequence[0].SegmentNumber", PrimitiveValue::from(2_u16));
        m.set_number("SegmentSequence[1].SegmentNumber", PrimitiveValue::from(1_u16));
    }),
    ("a segment missing", |m| {
        m.items(tags::SEGMENT_SEQUENCE, |items| drop(items.pop()));
    }),
    ("a frame missing", |m| {
        let mut frames = m.frames_of_pixels();
        m.per_frame(|items| drop(items.remove(0)));
        frames.remove(0);
        m.put_frames(&frames);
    }),
    ("a frame twice", |m| {
        let mut frames = m.frames_of_pixels();
        m.per_frame(|items| items.insert(0, items[0].clone()));
        frames.insert(0, frames[0].clone());
        m.put_frames(&frames);
    }),
    ("number of frames wrong", |m| m.set("NumberOfFrames", "3")),
    ("dimension index of a frame wrong", |m| {
        let value = PrimitiveValue::U32([1, 3].as_slice().into());
        let path =
            "PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].DimensionIndexValues";
        m.set_number(path, value);
    }),
    ("another kind of segmentation", |m| m.set("SegmentationType", "FRACTIONAL")),
    ("eight bits a pixel", |m| m.set_number("BitsAllocated", PrimitiveValue::from(8_u16))),
    ("another instance in the meta group", |m| {
        let meta = m.object.meta_mut();
        "1.2.3.4.5".clone_into(&mut meta.media_storage_sop_instance_uid);
        meta.update_information_group_length();
    }),
];

/// Faults that only a label map can have.
const LABELMAP_FAULTS: &[(&str, Spoil)] = &[
    ("labels of two targets exchanged in the pixels", |m| {
        m.pixels(|frames| {
            for value in frames.iter_mut().flatten() {
                *value = [0, 2, 1, 3, 4][usize::from(*value)];
            }
        });
    }),
    ("a label that no segment describes", |m| {
        m.pixels(|frames| *frames[0].iter_mut().find(|value| **value == 0).unwrap() = 9);
    }),
    ("the background described as a target", |m| {
        m.items(tags::SEGMENT_SEQUENCE, |items| drop(items.remove(0)));
    }),
    ("sixteen bits a pixel", |m| m.set_number("BitsAllocated", PrimitiveValue::from(16_u16))),
];

/// Faults that only a binary segmentation can have.
const BINARY_ALONE: [&str; 4] = [
    "frames padded to whole bytes",
    "segment numbers of two frames exchanged",
    "segment number beyond the last",
    "eight bits a pixel",
];

/// What the check says of each fault, one line each.
fn table<'a>(
    faults: impl Iterator<Item = &'a (&'static str, Spoil)>,
    sound: &dyn Fn() -> Mutant,
    checked: &dyn Fn(&[u8]) -> Result<(), SegMismatch>,
) -> String {
    assert_eq!(checked(&sound().bytes()), Ok(()), "written again without a fault");
    let mut table = String::new();
    for (name, spoil) in faults {
        let mut mutant = sound();
        spoil(&mut mutant);
        let found = checked(&mutant.bytes());
        let said = found.map_or_else(|mismatch| mismatch.to_string(), |()| "NOT FOUND".to_owned());
        writeln!(table, "{name}: {said}").unwrap();
    }
    assert!(!table.contains("NOT FOUND"), "{table}");
    table
}

#[test]
fn every_fault_is_held_back() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let example = Example::new(shape);
    let bytes = example.build(&series.stack).bytes;

    let table =
        table(FAULTS.iter(), &|| Mutant::of(&bytes, shape, SegmentationType::Binary), &|bytes| {
            check(bytes, &series.stack, &example.segments())
        });

    insta::assert_snapshot!(table);
}

#[test]
fn every_fault_of_a_label_map_is_held_back() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let example = Example::disjoint(shape);
    let bytes = labelmap(&series.stack, &example).bytes;

    let table = table(
        FAULTS.iter().chain(LABELMAP_FAULTS).filter(|fault| !BINARY_ALONE.contains(&fault.0)),
        &|| Mutant::of(&bytes, shape, SegmentationType::Labelmap),
        &|bytes| check_labelmap(bytes, &series.stack, &example.segments()),
    );

    insta::assert_snapshot!(table);
}

#[test]
fn the_object_of_one_series_is_held_back_from_another() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let example = Example::new(shape);
    let bytes = example.build(&series.stack).bytes;
    let mut moved = series.stack.clone();
    moved.slices.reverse();

    let found = check(&bytes, &moved, &example.segments());

    assert!(matches!(found, Err(SegMismatch::Position { .. })), "{found:?}");
}

#[test]
fn bytes_that_are_no_object_are_an_error_and_no_panic() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());
    let bytes = example.build(&series.stack).bytes;
    let segments = example.segments();

    for length in (0..bytes.len() - 1).step_by(97) {
        assert!(check(&bytes[..length], &series.stack, &segments).is_err(), "{length} bytes");
    }
}
