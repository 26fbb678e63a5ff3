//! How long does a series of 500 slices take from files to a volume, headers included?
//!
//! `PROSECTOR_BENCH_SERIES` names the folder that `benches/make_series.py` has written.

use std::path::PathBuf;

use dicom_io::series::read_stacks;
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

fn files(syntax: &str) -> Vec<PathBuf> {
    let root = std::env::var_os("PROSECTOR_BENCH_SERIES")
        .expect("PROSECTOR_BENCH_SERIES names the output of benches/make_series.py");
    let entries = std::fs::read_dir(PathBuf::from(root).join(syntax)).expect("a folder of files");
    entries.map(|entry| entry.expect("a file").path()).collect()
}

const SYNTAXES: [&str; 5] = ["native", "rle", "jpeg-ls", "jpeg-lossless", "jpeg-2000"];

#[divan::bench(args = SYNTAXES, sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>, syntax: &str) {
    let files = files(syntax);
    bencher.counter(BytesCount::new(500_usize * 512 * 512 * 2)).bench(|| {
        let report = read_stacks(&files);
        let stack = report.stacks.first().expect("one volume");
        assert_eq!(stack.geometry.shape(), [500, 512, 512]);
        stack.load().expect("a sound series")
    });
}

#[divan::bench(args = SYNTAXES, sample_count = 5, sample_size = 1)]
fn headers(bencher: Bencher<'_, '_>, syntax: &str) {
    let files = files(syntax);
    bencher.bench(|| read_stacks(&files));
}
