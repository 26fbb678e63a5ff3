//! How long does a window take, how near is that to what the machine can do, and in how much memory?
//!
//! A program of its own instead of a timing harness: one full window takes seconds and gigabytes, and
//! its peak memory has to be that of a process which does nothing else.
//!
//! ```text
//! cargo bench -p prosector-model --bench window -- [nano|pro] [H W D] [--targets N] [--repeat N]
//!     [--threads N] [--direct]
//! ```
#![expect(clippy::print_stdout, reason = "the report is the program's result")]

use std::{
    fs,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use prosector_model::{
    Architecture, Convolution, GeneratedTensors, MaskStrip, Network, generated_input,
};

struct Options {
    architecture: Architecture,
    shape: [usize; 3],
    targets: usize,
    repeat: usize,
    threads: usize,
    convolution: Convolution,
}

fn main() {
    let options = options();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    pool.expect("threads can be started").install(|| measure(&options));
}

fn options() -> Options {
    let mut options = Options {
        architecture: nano(),
        shape: [96; 3],
        targets: 8,
        repeat: 3,
        threads: 0,
        convolution: Convolution::Winograd,
    };
    let mut axis = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> usize {
            arguments.next().and_then(|value| value.parse().ok()).expect("the option has a number")
        };
        match argument.as_str() {
            "--bench" | "nano" => (),
            "pro" => options.architecture = pro(),
            "--targets" => options.targets = number(),
            "--repeat" => options.repeat = number(),
            "--threads" => options.threads = number(),
            "--direct" => options.convolution = Convolution::Direct,
            side => {
                options.shape[axis] = side.parse().expect("a side of the window is a number");
                axis += 1;
            }
        }
    }
    options
}

fn measure(options: &Options) {
    let Options { architecture, shape, targets, .. } = options;
    let begin = Instant::now();
    let weights = GeneratedTensors::default();
    let network = Network::load(&weights, architecture, options.convolution)
        .expect("generated tensors fit every architecture");
    println!(
        "{} on {} threads, loaded in {:.2} s",
        network.instructions(),
        rayon::current_num_threads(),
        begin.elapsed().as_secs_f64()
    );
    let window = generated_input("input.bench", shape.iter().product());
    let queries = generated_input("queries.bench", targets * architecture.query_width);
    let flops = vision_flops(architecture, *shape);
    let plane = shape[1] * shape[2];
    let mut sums = vec![vec![0.0_f32; targets * plane]; shape[0]];
    for _ in 0..options.repeat {
        let cpu = cpu_time();
        let begin = Instant::now();
        let features = network
            .encode(&window, *shape, &AtomicBool::new(false))
            .expect("the shape fits the token grid");
        let encoded = begin.elapsed();
        let embeddings =
            network.mask_embeddings(&features, &queries).expect("queries come in rows");
        let decoded = begin.elapsed();
        let accumulate = |sums: &mut Vec<f32>, strip: MaskStrip<'_>| {
            let start = strip.w.start * shape[2];
            let count = strip.w.len() * shape[2];
            for (target, values) in strip.probabilities.chunks_exact(count).enumerate() {
                let sums = &mut sums[target * plane + start..][..count];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += value;
                }
            }
        };
        network
            .masks(&features, &embeddings, &mut sums, accumulate)
            .expect("embeddings come in rows");
        let total = begin.elapsed();
        let used = cpu_time().saturating_sub(cpu);
        println!(
            "window {:.2} s, {:.2} CPU s, {:.2} Mvoxel/s, {:.0} GFLOP/s wall, {:.0} per CPU second",
            total.as_secs_f64(),
            used.as_secs_f64(),
            shape.iter().product::<usize>() as f64 / total.as_secs_f64() / 1e6,
            flops / total.as_secs_f64() / 1e9,
            flops / used.as_secs_f64() / 1e9,
        );
        let stages = features.timings().iter();
        let stages: Vec<String> = stages
            .map(|stage| format!("{} {:.2}", stage.name, stage.duration.as_secs_f64()))
            .collect();
        println!(
            "  {}, queries {:.2}, masks {:.2}",
            stages.join(", "),
            decoded.saturating_sub(encoded).as_secs_f64(),
            total.saturating_sub(decoded).as_secs_f64()
        );
    }
    println!("peak resident memory {:.2} GB", peak_resident_bytes() as f64 / 1e9);
}

/// Floating-point operations of the vision network by the direct algorithm, one input channel.
fn vision_flops(architecture: &Architecture, shape: [usize; 3]) -> f64 {
    let channels = &architecture.channels;
    let voxels = |resolution: usize| -> f64 {
        shape.iter().map(|&side| (side >> resolution) as f64).product()
    };
    let mut products = 0.0;
    for (resolution, &outputs) in channels.iter().enumerate() {
        let inputs = if resolution == 0 { 1 } else { channels[resolution - 1] };
        let units = inputs + (architecture.encoder_units - 1) * outputs;
        products += 27.0 * (units * outputs) as f64 * voxels(resolution);
        if resolution + 1 < channels.len() {
            let units = 2 * outputs + (architecture.decoder_units - 1) * outputs;
            products += 27.0 * (units * outputs) as f64 * voxels(resolution);
            products += (channels[resolution + 1] * outputs) as f64 * voxels(resolution);
        }
    }
    2.0 * products
}

/// Peak resident memory of this process, zero where the system does not tell.
fn peak_resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) << 10
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

fn nano() -> Architecture {
    Architecture {
        input_channels: 3,
        channels: vec![64, 64, 128, 256, 512, 768],
        encoder_units: 2,
        decoder_units: 2,
        token_hidden: 768,
        query_width: 768,
        query_heads: 8,
        query_layers: 6,
        query_feed_forward: 2048,
        mask_hidden: 256,
    }
}

fn pro() -> Architecture {
    Architecture {
        channels: vec![128, 128, 256, 512, 1024, 1536],
        encoder_units: 3,
        decoder_units: 3,
        token_hidden: 1536,
        mask_hidden: 384,
        ..nano()
    }
}
