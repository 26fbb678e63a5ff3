//! Voxel values: representations, rescaling, transfer syntaxes, damaged pixel data.

use std::path::{Path, PathBuf};

use charls::{CharLS, FrameInfo};
use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, VR};
use dicom::dictionary_std::{tags, uids};
use dicom::object::{InMemDicomObject, open_file};
use dicom_io::series::{DecodeFrameError, ReadSeriesError, read_stacks};
use proptest::prelude::*;

use super::fixture::{
    AXIAL, COLUMNS, EnhancedFrame, Files, ROWS, axial, enhanced_mr, fragments, number,
    plane_values, sequence, text, uid,
};
use super::geometry::assert_values_are_in_place;

const HEIGHTS: [f64; 3] = [0.0, 3.0, 6.0];

fn fixtures(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    files.sort();
    files
}

fn values(files: &[PathBuf]) -> Vec<f32> {
    let report = read_stacks(files);
    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    report.stacks[0].load().unwrap().into_values()
}

/// Sum of values that are whole numbers.
fn sum(values: &[f32]) -> i64 {
    values.iter().map(|&value| value as i64).sum()
}

/// Slices of one row whose stored words are `words`, one each.
fn slices_of_words(words: &[u16], describe: impl Fn(&mut InMemDicomObject)) -> Files {
    let mut files = Files::new();
    for (i, mut dataset) in axial(&HEIGHTS).into_iter().take(words.len()).enumerate() {
        number(&mut dataset, tags::ROWS, 1);
        number(&mut dataset, tags::COLUMNS, 1);
        let word = PrimitiveValue::from(words[i]);
        dataset.put(DataElement::new(tags::PIXEL_DATA, VR::OW, word));
        describe(&mut dataset);
        files.add(dataset);
    }
    files
}

#[test]
fn every_slice_is_rescaled_by_its_own_slope() {
    let mut datasets = axial(&HEIGHTS);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::RESCALE_SLOPE, VR::DS, &format!("{}", i as f64 * 0.5 + 0.5));
        text(dataset, tags::RESCALE_INTERCEPT, VR::DS, "-3.25");
    }

    let files = Files::of(datasets);

    let stored = HEIGHTS.map(|z| plane_values(AXIAL, [-10.0, 20.0, z]));
    let expected: Vec<f32> = stored
        .iter()
        .enumerate()
        .flat_map(|(i, plane)| {
            plane.iter().map(move |&v| (f64::from(v) * (i as f64 * 0.5 + 0.5) - 3.25) as f32)
        })
        .collect();
    assert_eq!(values(&files.paths), expected);
}

#[test]
fn every_frame_is_rescaled_by_its_own_functional_group() {
    let frames: Vec<_> = HEIGHTS
        .iter()
        .enumerate()
        .map(|(i, &z)| EnhancedFrame {
            orientation: AXIAL,
            position: [-10.0, 20.0, z],
            stack_id: "1",
            echo_time_ms: 1.0,
            slope: i as f64 + 1.0,
        })
        .collect();

    let files = Files::of([enhanced_mr(&frames)]);

    let expected: Vec<f32> = frames
        .iter()
        .flat_map(|frame| {
            let stored = plane_values(AXIAL, frame.position);
            stored.into_iter().map(|v| (f64::from(v) * frame.slope) as f32)
        })
        .collect();
    assert_eq!(values(&files.paths), expected);
}

#[test]
fn a_modality_table_replaces_the_rescale() {
    let files = slices_of_words(&[9, 11, 500], |dataset| {
        let mut lut = InMemDicomObject::new_empty();
        let descriptor = PrimitiveValue::U16([3, 10, 16].as_slice().into());
        lut.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor));
        let data = PrimitiveValue::U16([100, 200, 40000].as_slice().into());
        lut.put(DataElement::new(tags::LUT_DATA, VR::OW, data));
        sequence(dataset, tags::MODALITY_LUT_SEQUENCE, vec![lut]);
        text(dataset, tags::RESCALE_SLOPE, VR::DS, "7");
    });

    assert_eq!(values(&files.paths), [100.0, 200.0, 40000.0]);
}

#[test]
fn bits_above_the_stored_ones_do_not_count() {
    let twelve_bits = |is_signed| {
        move |dataset: &mut InMemDicomObject| {
            number(dataset, tags::BITS_STORED, 12);
            number(dataset, tags::HIGH_BIT, 11);
            number(dataset, tags::PIXEL_REPRESENTATION, is_signed);
        }
    };

    let signed = slices_of_words(&[0x0800, 0xF001, 0x0FFF], twelve_bits(1));
    let unsigned = slices_of_words(&[0x0800, 0xF001, 0x0FFF], twelve_bits(0));

    assert_eq!(values(&signed.paths), [-2048.0, 1.0, -1.0]);
    assert_eq!(values(&unsigned.paths), [2048.0, 1.0, 4095.0]);
}

#[test]
fn neither_inversion_nor_padding_changes_a_value() {
    let files = slices_of_words(&[1, 0xF830, 3], |dataset| {
        text(dataset, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
        let padding = PrimitiveValue::from(-2000_i16);
        dataset.put(DataElement::new(tags::PIXEL_PADDING_VALUE, VR::SS, padding));
    });

    assert_eq!(values(&files.paths), [1.0, -2000.0, 3.0]);
}

#[test]
fn refuses_pixels_that_it_cannot_interpret() {
    let mut reasons = Vec::new();
    for (tag, value) in [
        (tags::BITS_ALLOCATED, 12),
        (tags::BITS_STORED, 17),
        (tags::BITS_STORED, 0),
        (tags::HIGH_BIT, 3),
        (tags::PIXEL_REPRESENTATION, 2),
        (tags::ROWS, 0),
    ] {
        let files = slices_of_words(&[1, 2], |dataset| number(dataset, tag, value));
        reasons.push(files.read().refusals[0].reason.to_string());
    }
    let files = slices_of_words(&[1, 2], |dataset| {
        dataset.remove_element(tags::PIXEL_DATA);
        let pixels = PrimitiveValue::from(1.0_f32);
        dataset.put(DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, pixels));
    });
    reasons.push(files.read().refusals[0].reason.to_string());
    let files = slices_of_words(&[1, 2], |dataset| {
        number(dataset, tags::ROWS, 65535);
        number(dataset, tags::COLUMNS, 65535);
    });
    reasons.push(files.read().refusals[0].reason.to_string());
    let files = slices_of_words(&[1, 2], |dataset| {
        text(dataset, tags::RESCALE_SLOPE, VR::DS, "0");
    });
    reasons.push(files.read().refusals[0].reason.to_string());

    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn native_syntaxes_agree() {
    for syntax in [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        let mut files = Files::new();
        for dataset in axial(&HEIGHTS) {
            files.add_in(dataset, syntax);
        }

        let report = files.read();

        assert!(report.refusals.is_empty(), "{syntax}: {:?}", report.refusals);
        assert_values_are_in_place(&report.stacks[0]);
    }
}

#[test]
fn five_compressions_of_one_series_agree() {
    let reference = values(&fixtures("mr-five-syntaxes/rle"));

    for syntax in ["jpegls", "jpeg-lossless", "j2k", "htj2k"] {
        assert!(values(&fixtures(&format!("mr-five-syntaxes/{syntax}"))) == reference, "{syntax}");
    }
    let sum = sum(&reference);
    // pydicom 3.0.2 with pylibjpeg, sum of both pixel arrays.
    assert_eq!(sum, 16_630_039);
}

#[test]
fn joins_the_fragments_of_a_frame() {
    let values = values(&fixtures("mr-fragmented-jpeg-lossless"));

    let sum = sum(&values);
    // pydicom 3.0.2 with pylibjpeg, sum of both pixel arrays.
    assert_eq!(sum, 85_436);
}

#[test]
fn the_header_decides_the_sign_of_a_codestream() {
    let file = fixtures("j2k-other-signedness").remove(0);
    let mut files = Files::new();
    for z in [72.1446, 75.1446] {
        let mut dataset = InMemDicomObject::clone(&open_file(&file).unwrap());
        dataset.remove_element(tags::SOP_INSTANCE_UID);
        let position = format!("-110.2153\\-98.1898\\{z}");
        text(&mut dataset, tags::IMAGE_POSITION_PATIENT, VR::DS, &position);
        files.add_in(dataset, uids::JPEG2000_LOSSLESS);
    }

    let values = values(&files.paths);

    let sum = sum(&values);
    // pydicom 3.0.2, twice the sum of its corrected pixel array.
    assert_eq!(sum, -345_210_516);
    assert!(values.iter().all(|&v| (-4096.0..4096.0).contains(&v)));
}

/// A plane as JPEG-LS.
fn jpeg_ls(plane: &[i16]) -> Vec<u8> {
    let info = FrameInfo {
        width: COLUMNS.into(),
        height: ROWS.into(),
        bits_per_sample: 16,
        component_count: 1,
    };
    let bytes: Vec<u8> = plane.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let mut encoded = CharLS::default().encode(info, 0, &bytes).unwrap();
    encoded.resize(encoded.len().next_multiple_of(2), 0);
    encoded
}

/// Values as RLE, every byte a literal.
fn rle(plane: &[i16]) -> Vec<u8> {
    let segment = |shift: u32| -> Vec<u8> {
        let bytes: Vec<u8> = plane.iter().map(|&value| (value as u16 >> shift) as u8).collect();
        let mut segment: Vec<u8> = bytes
            .chunks(128)
            .flat_map(|chunk| [&[(chunk.len() - 1) as u8], chunk].concat())
            .collect();
        segment.resize(segment.len().next_multiple_of(2), 0x80);
        segment
    };
    let (high, low) = (segment(8), segment(0));
    let mut frame: Vec<u8> = [2, 64, 64 + high.len() as u32].map(u32::to_le_bytes).concat();
    frame.resize(64, 0);
    [frame, high, low].concat()
}

/// Cuts `bytes` at even places.
fn cut(bytes: &[u8], pieces: usize) -> Vec<Vec<u8>> {
    let length = bytes.len().div_ceil(pieces).next_multiple_of(2);
    bytes.chunks(length).map(<[u8]>::to_vec).collect()
}

fn axial_frames() -> Vec<EnhancedFrame> {
    let frame = |&z: &f64| EnhancedFrame {
        orientation: AXIAL,
        position: [-10.0, 20.0, z],
        stack_id: "1",
        echo_time_ms: 1.0,
        slope: 1.0,
    };
    HEIGHTS.iter().map(frame).collect()
}

#[test]
fn tells_frames_apart_by_every_kind_of_table() {
    let frames = axial_frames();
    let planes: Vec<_> = frames.iter().map(|frame| plane_values(AXIAL, frame.position)).collect();
    let by_fragment: Vec<_> = planes.iter().map(|plane| vec![rle(plane)]).collect();
    let in_pieces = |encode: fn(&[i16]) -> Vec<u8>| -> Vec<Vec<Vec<u8>>> {
        planes.iter().enumerate().map(|(i, plane)| cut(&encode(plane), i + 2)).collect()
    };
    let offsets = |frames: &[Vec<Vec<u8>>]| -> Vec<u32> {
        let size = |frame: &Vec<Vec<u8>>| frame.iter().map(|f| f.len() as u32 + 8).sum::<u32>();
        frames
            .iter()
            .scan(0, |end, frame| {
                let start = *end;
                *end += size(frame);
                Some(start)
            })
            .collect()
    };
    let rle_pieces = in_pieces(rle);
    let jpeg_ls_pieces = in_pieces(jpeg_ls);
    let cases = [
        ("a fragment a frame", uids::RLE_LOSSLESS, &by_fragment, vec![], vec![]),
        ("basic table", uids::RLE_LOSSLESS, &rle_pieces, offsets(&rle_pieces), vec![]),
        ("extended table", uids::RLE_LOSSLESS, &rle_pieces, vec![], offsets(&rle_pieces)),
        ("start of image", uids::JPEGLS_LOSSLESS, &jpeg_ls_pieces, vec![], vec![]),
    ];
    for (name, syntax, pieces, basic, extended) in cases {
        let mut dataset = enhanced_mr(&frames);
        fragments(&mut dataset, basic, pieces.concat());
        if !extended.is_empty() {
            let table: Vec<u8> =
                extended.iter().flat_map(|&offset| u64::from(offset).to_le_bytes()).collect();
            let table = PrimitiveValue::from(table);
            dataset.put(DataElement::new(tags::EXTENDED_OFFSET_TABLE, VR::OV, table));
        }
        let mut files = Files::new();
        files.add_in(dataset, syntax);

        let report = files.read();

        assert!(report.refusals.is_empty(), "{name}: {:?}", report.refusals);
        assert_values_are_in_place(&report.stacks[0]);
    }
}

#[test]
fn an_offset_table_that_lies_is_an_error() {
    let frames = axial_frames();
    let pieces: Vec<_> = frames
        .iter()
        .flat_map(|frame| cut(&rle(&plane_values(AXIAL, frame.position)), 2))
        .collect();
    for table in [vec![], vec![0, 4, 8], vec![8, 16, 24], vec![0, 1 << 30, 2 << 30], vec![0, 0, 0]]
    {
        let mut dataset = enhanced_mr(&frames);
        fragments(&mut dataset, table.clone(), pieces.clone());
        let mut files = Files::new();
        files.add_in(dataset, uids::RLE_LOSSLESS);

        let loaded = files.read().stacks[0].load();

        assert!(
            matches!(
                loaded,
                Err(ReadSeriesError::Decode { source: DecodeFrameError::Fragments { .. }, .. })
            ),
            "{table:?}"
        );
    }
}

#[test]
fn pixel_data_that_breaks_off_is_refused_and_padding_is_not() {
    let mut datasets = axial(&HEIGHTS);
    let words = |n: usize| PrimitiveValue::U16(vec![1; n].into());
    let whole = usize::from(ROWS) * usize::from(COLUMNS);
    datasets[0].put(DataElement::new(tags::PIXEL_DATA, VR::OW, words(whole + 9)));
    datasets[2].put(DataElement::new(tags::PIXEL_DATA, VR::OW, words(whole - 1)));
    let files = Files::of(datasets);

    let report = files.read();

    assert_eq!(report.stacks[0].geometry.shape()[0], 2);
    assert_eq!(
        report.refusals[0].reason.to_string(),
        format!("pixel data of instance {} breaks off: 68 bytes of 70", uid(3))
    );

    // The same for a file that ends before its element does.
    let bytes = std::fs::read(&files.paths[1]).unwrap();
    std::fs::write(&files.paths[1], &bytes[..bytes.len() - 10]).unwrap();
    let report = files.read();
    assert!(report.refusals.iter().any(|refusal| matches!(
        refusal.reason,
        ReadSeriesError::Truncated { expected: 70, found: 60, .. }
    )));
}

#[test]
fn a_damaged_codestream_is_an_error_that_names_its_instance() {
    for (name, syntax) in [
        ("rle", uids::RLE_LOSSLESS),
        ("jpegls", uids::JPEGLS_LOSSLESS),
        ("jpeg-lossless", uids::JPEG_LOSSLESS_SV1),
        ("j2k", uids::JPEG2000_LOSSLESS),
        ("htj2k", uids::HTJ2K_LOSSLESS),
    ] {
        let paths = fixtures(&format!("mr-five-syntaxes/{name}"));
        let file = open_file(&paths[1]).unwrap();
        let whole = file.element(tags::PIXEL_DATA).unwrap().fragments().unwrap().concat();
        let mut header_only = whole.clone();
        header_only.truncate(80);
        let mut half = whole.clone();
        half.truncate(whole.len() / 2 / 2 * 2);
        for (damage, data) in
            [("half", half), ("header", header_only), ("zeros", vec![0; 500]), ("none", vec![])]
        {
            let mut files = Files::new();
            files.add_in(InMemDicomObject::clone(&open_file(&paths[0]).unwrap()), syntax);
            let mut damaged = InMemDicomObject::clone(&file);
            fragments(&mut damaged, vec![], vec![data]);
            files.add_in(damaged, syntax);

            let loaded = files.read().stacks[0].load();

            let Err(ReadSeriesError::Decode { instance, .. }) = loaded else {
                panic!("{name}, {damage}: {:?}", loaded.map(|_| "decoded"))
            };
            let expected = file.element(tags::SOP_INSTANCE_UID).unwrap().to_str().unwrap();
            assert_eq!(
                instance.sop_instance_uid.unwrap().as_str(),
                expected.trim_end_matches('\0'),
                "{name}, {damage}"
            );
        }
    }
}

#[test]
fn a_codestream_of_another_size_is_an_error() {
    for (name, syntax) in [
        ("rle", uids::RLE_LOSSLESS),
        ("jpegls", uids::JPEGLS_LOSSLESS),
        ("jpeg-lossless", uids::JPEG_LOSSLESS_SV1),
        ("j2k", uids::JPEG2000_LOSSLESS),
    ] {
        let mut files = Files::new();
        for path in fixtures(&format!("mr-five-syntaxes/{name}")) {
            let mut dataset = InMemDicomObject::clone(&open_file(path).unwrap());
            number(&mut dataset, tags::ROWS, 300);
            files.add_in(dataset, syntax);
        }

        let loaded = files.read().stacks[0].load();

        assert!(matches!(loaded, Err(ReadSeriesError::Decode { .. })), "{name}");
    }
}

/// A JPEG file of 7x5 pixels written by Pillow 13 with quality 95.
const JPEG_BASELINE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043000201010101010201010102020202020403020202\
    020504040304060506060605060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0aff\
    c0000b080005000701011100ffc4001f0000010501010101010100000000000000000102030405060708090a0b\
    ffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a108\
    2342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a53545556\
    5758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9\
    aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7\
    f8f9faffda0008010100003f00fcf7fd95fc3d65f628f8ff009647b7b57fffd9";

#[test]
fn reads_jpeg_baseline() {
    let jpeg: Vec<u8> = JPEG_BASELINE
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    let mut files = Files::new();
    for mut dataset in axial(&HEIGHTS) {
        number(&mut dataset, tags::BITS_ALLOCATED, 8);
        number(&mut dataset, tags::BITS_STORED, 8);
        number(&mut dataset, tags::HIGH_BIT, 7);
        number(&mut dataset, tags::PIXEL_REPRESENTATION, 0);
        let padded = [jpeg.clone(), vec![0]].concat();
        fragments(&mut dataset, vec![], vec![padded]);
        files.add_in(dataset, uids::JPEG_BASELINE8_BIT);
    }

    let values = values(&files.paths);

    assert!(files.read().stacks[0].lossy_image_compression);
    for (i, &value) in values.iter().enumerate() {
        let (row, column) = (i / 7 % 5, i % 7);
        // What was encoded; the loss is two at most.
        let original = (20 + 10 * column + 3 * row) as f32;
        assert!((value - original).abs() <= 2.0, "[{row}, {column}]: {value}, {original}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(damaged_files()))]

    #[test]
    fn a_damaged_file_is_an_error_or_a_volume(
        syntax in prop::sample::select(vec!["rle", "jpegls", "jpeg-lossless", "j2k", "htj2k"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        near_the_pixels in any::<bool>(),
    ) {
        let paths = fixtures(&format!("mr-five-syntaxes/{syntax}"));
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(&paths[1]).unwrap();
        let pixels = bytes.windows(4).position(|tag| tag == [0xE0, 0x7F, 0x10, 0x00]).unwrap();
        let first = if near_the_pixels { pixels } else { 0 };
        let last = if near_the_pixels { (pixels + 400).min(bytes.len()) } else { bytes.len() };
        for (index, byte) in damage {
            bytes[first + index.index(last - first)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(first + cut.index(bytes.len() - first));
        }
        let damaged = folder.path().join("damaged.dcm");
        std::fs::write(&damaged, bytes).unwrap();

        let report = read_stacks(&[paths[0].clone(), damaged]);

        for stack in &report.stacks {
            if let Ok(volume) = stack.load() {
                prop_assert_eq!(volume.values().len(), stack.geometry.voxels());
            }
        }
        let files: usize = report.stacks.iter().map(|stack| stack.slices.len()).sum::<usize>()
            + report.refusals.iter().map(|refusal| refusal.instances.len()).sum::<usize>()
            + report.duplicates.len();
        prop_assert_eq!(files, 2);
    }
}

/// Cases of the damage test; a longer campaign sets `PROSECTOR_FUZZ_CASES`.
fn damaged_files() -> u32 {
    let cases = std::env::var("PROSECTOR_FUZZ_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

#[test]
fn a_syntax_without_a_decoder_is_refused() {
    let mut datasets = axial(&HEIGHTS);
    for dataset in &mut datasets {
        fragments(dataset, vec![], vec![vec![0; 16]]);
    }
    let mut files = Files::new();
    for dataset in datasets {
        files.add_in(dataset, uids::MPEG2MPML);
    }

    let report = files.read();

    assert!(report.stacks.is_empty());
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::TransferSyntax { .. }));
    assert!(!dicom_io::series::can_decode(uids::MPEG2MPML));
    assert!(!dicom_io::series::can_decode(uids::JPEG_EXTENDED12_BIT));
    assert!(dicom_io::series::can_decode(uids::HTJ2K_LOSSLESS));
}
