//! How long does a segmentation take to build, to check and to write, beside highdicom?
//!
//! Ellipsoids on made-up CT slices of 512×512: 20 segments on 100 slices, 104 segments on 300. Medians of five
//! repetitions; one thread. Where `PROSECTOR_TEST_PYTHON` names an interpreter with highdicom, it builds and writes the
//! first case from the same slices in the same run.
//!
//! ```text
//! cargo bench -p dicom-io --bench seg
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_io::coded_concept::CodedConcept;
use dicom_io::seg::{
    LongString, SegIdentity, SegProvenance, SegmentConcept, SegmentDescription, SegmentInput,
    Segmentation, SegmentationOutcome, build, check,
};
use dicom_io::series::{Stack, read_stacks};
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Mask, Modality, Volume};

const REPETITIONS: usize = 5;
const SIDE: usize = 512;

/// Slices, segments, and half of the slices that a segment spans.
const CASES: [(usize, usize, f64); 2] = [(100, 20, 16.9), (300, 104, 49.9)];

fn main() {
    println!("slices segments frames  megabytes  build ms  check ms  write ms  highdicom ms");
    for (index, &(slices, segments, half_span)) in CASES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let stack = stack(slices, folder.path());
        let descriptions: Vec<_> = (0..segments).map(description).collect();
        let masks: Vec<_> = (0..segments).map(|k| ellipsoid(k, slices, half_span)).collect();
        let inputs: Vec<_> = descriptions
            .iter()
            .zip(&masks)
            .map(|(description, mask)| SegmentInput { description, mask })
            .collect();

        let build_ms = median_ms(|| drop(segmentation(&stack, &inputs)));
        let object = segmentation(&stack, &inputs);
        let check_ms = median_ms(|| check(&object.bytes, &stack, &inputs).unwrap());
        let file = folder.path().join("seg.bin");
        let write_ms = median_ms(|| std::fs::write(&file, &object.bytes).unwrap());
        let highdicom = if index == 0 {
            highdicom_ms(folder.path(), segments, half_span)
        } else {
            "-".to_owned()
        };
        let megabytes = object.bytes.len() as f64 / 1e6;
        let frames = object.frames;
        println!(
            "{slices:6} {segments:8} {frames:6} {megabytes:10.1} {build_ms:9.1} {check_ms:9.1} \
             {write_ms:9.1}  {highdicom}"
        );
    }
}

fn segmentation(stack: &Stack, inputs: &[SegmentInput<'_>]) -> Segmentation {
    let identity = SegIdentity {
        job_id: uuid::Uuid::from_u128(1),
        created: time::OffsetDateTime::UNIX_EPOCH,
        series_number: 1,
    };
    let provenance = SegProvenance {
        software_version: "bench".to_owned(),
        model_name: "bench".to_owned(),
        model_version: "1".to_owned(),
        pack_digest: "0".repeat(64),
        protocol_name: "bench".to_owned(),
        protocol_revision: "1".to_owned(),
        device_serial_number: "bench".to_owned(),
        notice: "bench".to_owned(),
    };
    match build(stack, inputs, &identity, &provenance).unwrap() {
        SegmentationOutcome::Object(object) => object,
        SegmentationOutcome::AllEmpty => panic!("ellipsoids have voxels"),
    }
}

fn median_ms(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..REPETITIONS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[REPETITIONS / 2].as_secs_f64() * 1e3
}

fn stack(slices: usize, folder: &Path) -> Stack {
    let steps = [[0.0, 0.0, 1.5], [0.0, 0.75, 0.0], [0.75, 0.0, 0.0]];
    let geometry = GridGeometry::new([slices, SIDE, SIDE], [-192.0, -192.0, 0.0], steps).unwrap();
    let volume = Volume::new(geometry, vec![0.0; geometry.voxels()]).unwrap();
    let series = SyntheticSeries {
        modality: Modality::Ct,
        study_instance_uid: "1.2.3.1".parse().unwrap(),
        series_instance_uid: "1.2.3.2".parse().unwrap(),
        frame_of_reference_uid: "1.2.3.3".parse().unwrap(),
        patient_name: "Bench^Phantom",
        patient_id: "B-1",
        accession_number: "B-1",
        series_number: 1,
        description: "bench",
        body_part_examined: "ABDOMEN",
        date: "20250615",
    };
    let instances = write_series(&volume, &series).unwrap();
    let paths: Vec<PathBuf> = instances
        .into_iter()
        .enumerate()
        .map(|(index, instance)| {
            let path = folder.join(format!("{index:03}.dcm"));
            std::fs::write(&path, instance.bytes).unwrap();
            path
        })
        .collect();
    read_stacks(&paths).stacks.remove(0)
}

/// The same shapes as in `tests/python/bench_highdicom.py`.
fn ellipsoid(k: usize, slices: usize, half_span: f64) -> Mask {
    let center = [
        half_span.ceil() + ((13 * k) % (slices - 2 * half_span.ceil() as usize)) as f64,
        90.0 + (37 * k % 330) as f64,
        90.0 + (61 * k % 330) as f64,
    ];
    let radius = [half_span, 40.0 + (7 * k % 40) as f64, 40.0 + (11 * k % 40) as f64];
    Mask::from_fn([slices, SIDE, SIDE], |voxel| {
        let square = |i: usize| ((voxel[i] as f64 - center[i]) / radius[i]).powi(2);
        square(0) + square(1) + square(2) < 1.0
    })
}

fn description(k: usize) -> SegmentDescription {
    let concept = |value, meaning| CodedConcept::new(value, "SCT", meaning).unwrap();
    SegmentDescription {
        label: LongString::fitted(&format!("target {k}")),
        prompt: format!("target {k}"),
        concept: SegmentConcept {
            property_category: concept("91723000", "Anatomical Structure"),
            property_type: concept("10200004", "Liver"),
            property_type_modifier: None,
            anatomic_region: None,
            anatomic_region_modifier: None,
        },
        rgb: [200, 100, 50],
    }
}

/// Median of highdicom's building and writing of the same object.
fn highdicom_ms(folder: &Path, segments: usize, half_span: f64) -> String {
    let Some(python) = std::env::var_os("PROSECTOR_TEST_PYTHON") else {
        return "PROSECTOR_TEST_PYTHON is not set".to_owned();
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/bench_highdicom.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder)
        .args([segments.to_string(), half_span.to_string(), REPETITIONS.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
