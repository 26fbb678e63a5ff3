//! How long does a segmentation take to build, to check and to write, beside highdicom, and in how much memory?
//!
//! Ellipsoids on made-up CT slices of 512×512: 20 segments on 100 slices, 104 on 300, 451 on 200. Wall and CPU
//! milliseconds, median (least to most) of five repetitions, on one thread; CPU time is the comparable number on a
//! machine that others use too. Where `PROSECTOR_TEST_PYTHON` names an interpreter with highdicom, it builds and writes
//! the first case from the same slices, repetition by repetition in turn with us. Memory is the peak of the process while
//! the object is built and checked, less what the masks took before.
//!
//! ```text
//! cargo bench -p dicom-io --bench seg
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use dicom_io::coded_concept::CodedConcept;
use dicom_io::seg::{
    LongString, SegIdentity, SegProvenance, SegmentConcept, SegmentDescription, SegmentInput,
    Segmentation, SegmentationOutcome, SegmentationType, build, build_labelmap, check,
    check_labelmap,
};
use dicom_io::series::{Stack, read_stacks};
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Mask, MaskBox, Modality, Volume};

const REPETITIONS: usize = 5;
const SIDE: usize = 512;

/// Slices, segments, half of the slices that a segment spans, and whether highdicom builds it too.
const CASES: [(usize, usize, f64, bool); 3] =
    [(100, 20, 16.9, true), (300, 104, 49.9, false), (200, 451, 5.9, false)];

fn main() {
    println!("each: wall ms, CPU ms; median (least-most) of {REPETITIONS}");
    for &(slices, segments, half_span, with_peer) in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let stack = stack(slices, folder.path());
        let descriptions: Vec<_> = (0..segments).map(description).collect();
        let overlapping: Vec<_> = (0..segments).map(|k| ellipsoid(k, slices, half_span)).collect();
        for kind in [SegmentationType::Binary, SegmentationType::Labelmap] {
            let masks = match kind {
                SegmentationType::Binary => overlapping.clone(),
                SegmentationType::Labelmap => disjoint(&overlapping),
            };
            let inputs: Vec<_> = descriptions
                .iter()
                .zip(&masks)
                .map(|(description, mask)| SegmentInput { description, mask })
                .collect();
            let name = if kind == SegmentationType::Binary { "binary" } else { "labelmap" };
            println!("\n{name}: {slices} slices, {segments} segments");
            let peer = with_peer.then(|| Peer::start(folder.path(), segments, half_span, name));
            run(kind, &stack, &inputs, folder.path(), peer.flatten());
        }
    }
}

fn run(
    kind: SegmentationType,
    stack: &Stack,
    inputs: &[SegmentInput<'_>],
    folder: &Path,
    mut peer: Option<Peer>,
) {
    let file = folder.join("seg.bin");
    let (mut builds, mut writes, mut checks, mut peers) =
        (Times::default(), Times::default(), Times::default(), Times::default());
    let before = peak_megabytes(true);
    let mut last = None;
    for _ in 0..REPETITIONS {
        drop(last.take());
        let object = builds.of(|| segmentation(kind, stack, inputs));
        writes.of(|| std::fs::write(&file, &object.bytes).unwrap());
        checks.of(|| match kind {
            SegmentationType::Binary => check(&object.bytes, stack, inputs).unwrap(),
            SegmentationType::Labelmap => check_labelmap(&object.bytes, stack, inputs).unwrap(),
        });
        last = Some(object);
        if let Some(peer) = &mut peer {
            peers.0.push(peer.build_and_write());
        }
    }
    let memory = peak_megabytes(false) - before;
    let object = last.unwrap();
    let megabytes = object.bytes.len() as f64 / 1e6;
    println!("  object  {} frames, {megabytes:.1} MB; peak memory {memory:.0} MB", object.frames);
    for (what, times) in [("build", &builds), ("write", &writes), ("check", &checks)] {
        println!("  {what:7} {times}");
    }
    if !peers.0.is_empty() {
        println!("  highdicom, build and write  {peers}");
        let ours = |part: usize| builds.median(part) + writes.median(part);
        let ratio = |part: usize| peers.median(part) / ours(part);
        println!("  highdicom / ours: wall {:.1}, CPU {:.1}", ratio(0), ratio(1));
    }
}

/// Wall and CPU milliseconds of repetitions.
#[derive(Default)]
struct Times(Vec<[f64; 2]>);

impl Times {
    fn of<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let (start, cpu) = (Instant::now(), cpu_ms());
        let done = run();
        self.0.push([start.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu]);
        done
    }

    fn sorted(&self, part: usize) -> Vec<f64> {
        let mut times: Vec<f64> = self.0.iter().map(|times| times[part]).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn median(&self, part: usize) -> f64 {
        self.sorted(part)[self.0.len() / 2]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (part, what) in ["wall", "CPU"].into_iter().enumerate() {
            let times = self.sorted(part);
            let (median, least, most) = (self.median(part), times[0], times[times.len() - 1]);
            write!(f, "{what} {median:.1} ({least:.1}-{most:.1}) ms  ")?;
        }
        Ok(())
    }
}

/// CPU time of this thread, milliseconds.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// The most memory that the process had, since it was last told to begin anew, megabytes.
fn peak_megabytes(begin_anew: bool) -> f64 {
    if begin_anew {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}

/// Every voxel in the first mask that has it alone.
fn disjoint(masks: &[Mask]) -> Vec<Mask> {
    let shape = masks[0].shape();
    let place = |[s, r, c]: [usize; 3]| (s * shape[1] + r) * shape[2] + c;
    let mut taken = vec![u16::MAX; shape.iter().product()];
    for (number, mask) in masks.iter().enumerate().rev() {
        mask.for_each(|voxel| taken[place(voxel)] = number as u16);
    }
    let own = |(number, mask): (usize, &Mask)| {
        within(shape, mask.extent(), |voxel| {
            mask.contains(voxel) && taken[place(voxel)] == number as u16
        })
    };
    masks.iter().enumerate().map(own).collect()
}

fn segmentation(
    kind: SegmentationType,
    stack: &Stack,
    inputs: &[SegmentInput<'_>],
) -> Segmentation {
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
    let built = match kind {
        SegmentationType::Binary => build(stack, inputs, &identity, &provenance),
        SegmentationType::Labelmap => build_labelmap(stack, inputs, &identity, &provenance),
    };
    match built.unwrap() {
        SegmentationOutcome::Object(object) => object,
        SegmentationOutcome::AllEmpty => panic!("ellipsoids have voxels"),
    }
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
    let shape = [slices, SIDE, SIDE];
    let start = std::array::from_fn(|i| (center[i] - radius[i]).max(0.0) as usize);
    let end = std::array::from_fn(|i| ((center[i] + radius[i]) as usize + 1).min(shape[i]));
    within(shape, MaskBox { start, end }, |voxel| {
        let square = |i: usize| ((voxel[i] as f64 - center[i]) / radius[i]).powi(2);
        square(0) + square(1) + square(2) < 1.0
    })
}

/// The voxels of a box for which `inside` holds.
fn within(shape: [usize; 3], extent: MaskBox, inside: impl Fn([usize; 3]) -> bool) -> Mask {
    let [slices, rows, columns] = extent.shape();
    let words_per_row = columns.div_ceil(64);
    let mut words = vec![0_u64; slices * rows * words_per_row];
    for (line, row) in words.chunks_mut(words_per_row).enumerate() {
        for column in 0..columns {
            let [s, r, c] = extent.start;
            let voxel = [s + line / rows, r + line % rows, c + column];
            row[column / 64] |= u64::from(inside(voxel)) << (column % 64);
        }
    }
    Mask::from_words(shape, extent, words).unwrap().shrunk()
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

/// highdicom, which builds and writes the same object each time that it is asked to.
struct Peer {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Peer {
    fn start(folder: &Path, segments: usize, half_span: f64, kind: &str) -> Option<Self> {
        let Some(python) = std::env::var_os("PROSECTOR_TEST_PYTHON") else {
            println!("  PROSECTOR_TEST_PYTHON is not set: highdicom is left out");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/bench_highdicom.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(folder)
            .args([segments.to_string(), half_span.to_string(), kind.to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Some(Self { process, answers })
    }

    /// Wall and CPU milliseconds.
    fn build_and_write(&mut self) -> [f64; 2] {
        self.process.stdin.as_mut().unwrap().write_all(b"again\n").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut times = answer.split_whitespace().map(|time| time.parse().unwrap());
        [times.next().unwrap(), times.next().unwrap()]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
