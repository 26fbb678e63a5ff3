//! Our objects deflated and run-length encoded: pydicom and highdicom find the same pixels, dciodvfy nothing to say.

use std::process::Command;

use dicom_io::compression::{CompressError, Compression};
use dicom_io::read_back::{Comparison, ReadBack};

use super::example::Example;
use super::labelmap::labelmap;
use super::series::TestSeries;

/// pydicom and highdicom read the same from both files.
fn others_read_the_same(native: &[u8], compressed: &[u8]) -> std::path::PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    let files = [folder.join("native.dcm"), folder.join("compressed.dcm")];
    std::fs::write(&files[0], native).unwrap();
    std::fs::write(&files[1], compressed).unwrap();
    let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_compressed.py");
    let output = Command::new(python).arg(script).args(&files).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{complaint}", String::from_utf8_lossy(&output.stdout));
    folder
}

#[test]
fn a_deflated_binary_segmentation_is_valid_and_the_same() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());
    let native = example.build(&series.stack).bytes;

    let deflated = Compression::Deflated.file(&native).unwrap();

    assert!(deflated.len() < native.len());
    assert_eq!(ReadBack::of_file(&deflated).unwrap().compare(&native), Comparison::Same);
    let folder = others_read_the_same(&native, &deflated);
    // Debian's dciodvfy does not inflate.
    let inflated = folder.join("inflated.dcm");
    let converted = Command::new("/usr/bin/dcmconv")
        .arg("+te")
        .args([&folder.join("compressed.dcm"), &inflated])
        .status()
        .expect("dcmconv is missing: install dcmtk");
    assert!(converted.success());
    let verified = Command::new("/usr/bin/dciodvfy")
        .arg(&inflated)
        .output()
        .expect("dciodvfy is missing: install dicom3tools");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(said.contains("Segmentation") && !said.contains("Error"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_label_map_of_one_and_of_two_bytes_is_the_same_in_every_syntax() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let narrow = Example::disjoint(shape);
    let mut wide = Example::disjoint(shape);
    wide.repeat(300, |k| {
        dicom_types::Mask::from_fn(shape, |[s, r, c]| (s * shape[1] + r) * shape[2] + c == 7 * k)
    });

    for example in [narrow, wide] {
        let native = labelmap(&series.stack, &example).bytes;
        for compression in [Compression::Rle, Compression::Deflated] {
            let compressed = compression.file(&native).unwrap();

            let read = ReadBack::of_file(&compressed).unwrap();
            assert_eq!(read.compare(&native), Comparison::Same, "{compression:?}");
            std::fs::remove_dir_all(others_read_the_same(&native, &compressed)).unwrap();
            assert_eq!(compression.file(&native).unwrap(), compressed);
        }
    }
}

#[test]
fn a_binary_segmentation_is_not_run_length_encoded() {
    let series = TestSeries::oblique();
    let native = Example::new(series.stack.geometry.shape()).build(&series.stack).bytes;

    assert!(matches!(Compression::Rle.file(&native), Err(CompressError::Pixels)));
    let class = "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap();
    assert!(!Compression::Rle.is_for(&class) && Compression::Deflated.is_for(&class));
}
