//! What does a whole volume cost beside the network, in time and in memory?
//!
//! A synthetic CT is prepared, windows of probabilities of round organs are summed in place of a network's, and the sums
//! are restored to masks. A program of its own, so that its peak memory is that of the stages alone.
//!
//! ```text
//! cargo bench -p prosector-model --bench volume -- [SLICES ROWS COLUMNS] [--targets N] [--threads N] [--bodies X]
//!     [--fast] [--fill] [--memory MIB] [--scratch DIR] [--repeat N]
//! ```
//!
//! `--bodies` is the sum of all targets' boxes over the body's; `--fill` lets every target fill the volume.
#![expect(clippy::print_stdout, reason = "the report is the program's result")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, ops::Range};

use dicom_types::{GridGeometry, Volume};
use prosector_model::{Mode, Preprocessing, SegmenterOptions, Stages};

/// Spacing of the scan, `[slice, row, column]`.
const SPACING_MM: [f64; 3] = [1.0, 0.8, 0.8];

#[derive(Debug)]
struct Options {
    shape: [usize; 3],
    targets: usize,
    threads: usize,
    bodies: f64,
    mode: Mode,
    fills: bool,
    memory_mib: Option<u64>,
    scratch: Option<PathBuf>,
    repeat: usize,
}

fn main() {
    let options = options();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    pool.expect("threads can be started").install(|| measure(&options));
}

fn options() -> Options {
    let mut options = Options {
        shape: [600, 512, 512],
        targets: 104,
        threads: 0,
        bodies: 1.5,
        mode: Mode::Reference,
        fills: false,
        memory_mib: None,
        scratch: None,
        repeat: 1,
    };
    let mut axis = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option has a value");
        match argument.as_str() {
            "--bench" => (),
            "--fast" => options.mode = Mode::Fast,
            "--fill" => options.fills = true,
            "--targets" => options.targets = value().parse().expect("a number of targets"),
            "--threads" => options.threads = value().parse().expect("a number of threads"),
            "--repeat" => options.repeat = value().parse().expect("a number of repetitions"),
            "--bodies" => options.bodies = value().parse().expect("a number of bodies"),
            "--memory" => options.memory_mib = Some(value().parse().expect("a number of MiB")),
            "--scratch" => options.scratch = Some(value().into()),
            side => {
                options.shape[axis] = side.parse().expect("a side of the volume");
                axis += 1;
            }
        }
    }
    options
}

/// An elliptic cylinder of tissue in air, with a grain that makes no two neighbours equal.
fn scan(shape: [usize; 3]) -> Volume {
    let [slices, rows, columns] = shape;
    let steps = [[0.0, 0.0, SPACING_MM[0]], [0.0, SPACING_MM[1], 0.0], [SPACING_MM[2], 0.0, 0.0]];
    let geometry = GridGeometry::new(shape, [0.0; 3], steps).expect("a straight grid");
    let mut values = Vec::with_capacity(geometry.voxels());
    for slice in 0..slices {
        for row in 0..rows {
            for column in 0..columns {
                let x = (column as f32 + 0.5) / columns as f32 * 2.0 - 1.0;
                let y = (row as f32 + 0.5) / rows as f32 * 2.0 - 1.0;
                let is_body = x * x / 0.9 + y * y / 0.6 < 1.0;
                let grain = ((slice * 7 + row * 13 + column * 29) % 64) as f32;
                values.push(if is_body { 20.0 + grain } else { -1000.0 + grain });
            }
        }
    }
    Volume::new(geometry, values).expect("as many values as voxels")
}

/// A target: an ellipsoid inside its box, centre and half axes in voxels of the prepared volume.
struct Organ {
    centre: [f32; 3],
    radius: [f32; 3],
}

impl Organ {
    /// Organs all over the volume whose boxes sum to `bodies` of it.
    fn spread(shape: [usize; 3], count: usize, bodies: f64) -> Vec<Self> {
        // Boxes of several sizes: 1/2, 1 and 3/2 of the mean.
        let mean = (bodies / count as f64).min(0.6);
        (0..count)
            .map(|index| {
                let share = mean * [0.5, 1.0, 1.5][index % 3];
                let side = share.cbrt().min(1.0) as f32;
                let radius = shape.map(|n| 0.5 * side * n as f32);
                // Low-discrepancy places, all of the box inside.
                let place = |axis: usize| {
                    let golden = [0.819_172_5_f32, 0.671_043_6, 0.549_700_5][axis];
                    let at = (0.5 + golden * index as f32).fract();
                    radius[axis] + at * (shape[axis] as f32 - 2.0 * radius[axis])
                };
                Self { centre: std::array::from_fn(place), radius }
            })
            .collect()
    }

    fn fill(&self, [h, w]: [usize; 2], d: Range<usize>, row: &mut [f32]) {
        let along =
            |axis: usize, index: usize| (index as f32 - self.centre[axis]) / self.radius[axis];
        let rest = 1.0 - along(0, h).powi(2) - along(1, w).powi(2);
        if rest <= 0.0 {
            return;
        }
        let half = rest.sqrt() * self.radius[2];
        let first = (self.centre[2] - half).max(d.start as f32) as usize;
        let last = ((self.centre[2] + half) as usize + 1).min(d.end);
        for index in first.max(d.start)..last {
            let inside = rest - along(2, index).powi(2);
            row[index - d.start] = 1.0 / (1.0 + (-20.0 * inside).exp());
        }
    }
}

fn measure(options: &Options) {
    let volume = scan(options.shape);
    let million = volume.geometry().voxels() as f64 / 1e6;
    let before = resident_bytes("VmRSS:");
    println!(
        "{:?}, {million:.0} million voxels on {} threads; the volume itself and the program: {:.2} GB",
        options.shape,
        rayon::current_num_threads(),
        before / 1e9
    );
    for _ in 0..options.repeat {
        once(options, &volume, million);
        println!(
            "peak resident memory {:.2} GB, {:.2} beside the volume",
            resident_bytes("VmHWM:") / 1e9,
            (resident_bytes("VmHWM:") - before) / 1e9
        );
    }
}

fn once(options: &Options, volume: &Volume, million: f64) {
    let settings = Preprocessing {
        spacing_mm: [1.0, 1.0, 3.0],
        window: [288, 288, 96],
        ct_clip_hu: [-500.0, 1000.0],
        other_clip_percentiles: [0.5, 99.5],
    };
    let segmenter = SegmenterOptions {
        threads: NonZeroUsize::new(options.threads),
        accumulator_bytes: options.memory_mib.map(|mib| mib << 20),
        scratch: options.scratch.clone(),
        ..SegmenterOptions::default()
    };
    let clock = Clock::start();
    let stages = Stages::prepare(volume, options.targets, options.mode, &settings, &segmenter);
    let mut stages = stages.expect("the scan has a body");
    let prepared = clock.stop("prepare", million);

    let organs = Organ::spread(stages.shape(), options.targets, options.bodies);
    let clock = Clock::start();
    for window in 0..stages.windows() {
        let add = stages.add(window, |target, place, d, row| {
            if options.fills {
                row.fill(0.75);
            } else {
                organs[target].fill(place, d, row);
            }
        });
        add.expect("the sums find room");
    }
    let summed = clock.stop("sum", million);
    println!(
        "  {:?} voxels in {} windows; a target adds {:.1} ms to a window; {:.2} GB on the disk",
        stages.shape(),
        stages.windows(),
        summed.as_secs_f64() * 1e3 / (options.targets * stages.windows()) as f64,
        stages.spilled_bytes() as f64 / 1e9
    );

    let clock = Clock::start();
    let masks = stages.restore().expect("the grid is regular");
    let restored = clock.stop("restore", million);
    let body: usize = {
        let crop = stages.shape();
        let [columns, rows, slices] =
            [crop[0] as f64 / SPACING_MM[2], crop[1] as f64 / SPACING_MM[1], crop[2] as f64 * 3.0];
        (columns * rows * slices) as usize
    };
    let boxes: usize =
        masks.iter().map(|mask| mask.extent().shape().iter().product::<usize>()).sum();
    let voxels: u64 = masks.iter().map(dicom_types::Mask::count).sum();
    println!(
        "  boxes sum to {:.2} bodies, {voxels} voxels in all; a target adds {:.1} ms",
        boxes as f64 / body as f64,
        restored.as_secs_f64() * 1e3 / options.targets as f64
    );
    println!(
        "prepare and restore: {:.2} s for 100 million source voxels",
        (prepared + restored).as_secs_f64() / million * 100.0
    );
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    fn stop(self, stage: &str, million: f64) -> Duration {
        let wall = self.wall.elapsed();
        let cpu = cpu_time().saturating_sub(self.cpu);
        println!(
            "{stage}: {:.2} s, {:.2} CPU s, {:.2} CPU s for 100 million source voxels",
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            cpu.as_secs_f64() / million * 100.0
        );
        wall
    }
}

/// A figure of this process's memory, zero where the system does not tell.
fn resident_bytes(figure: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) * 1024.0
}

/// Processor time of all threads, zero where the system does not tell.
fn cpu_time() -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let status = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, may hold spaces; what follows its bracket does not.
    let fields = status.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
