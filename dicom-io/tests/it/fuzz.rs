//! The fuzz targets, shortly: every kept case, and mutations of it that are the same in every run.
//!
//! `ops/fuzz` is the long form.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dicom_io::fuzz::TARGETS;

/// Mutations of each target, as far as they fit into [`PATIENCE`].
const MUTATIONS: u32 = 20_000;
const PATIENCE: Duration = Duration::from_secs(2);

fn cases(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz").join(target);
    let mut cases: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    cases.sort();
    cases
}

/// A small generator: the run is the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    /// Changes `bytes` as transmission, malice and carelessness do: bits, lengths, cuts, repetitions, other cases.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const TELLING: [u32; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF];
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[place] = self.below(256) as u8,
                2 => {
                    let value = TELLING[self.below(TELLING.len())];
                    let value =
                        if self.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                    let width = [1, 2, 4][self.below(3)].min(bytes.len() - place);
                    bytes[place..place + width].copy_from_slice(&value[..width]);
                }
                3 => bytes.truncate(place),
                4 => {
                    let end = (place + self.below(64)).min(bytes.len());
                    bytes.drain(place..end);
                }
                5 => {
                    let end = (place + self.below(64)).min(bytes.len());
                    let again = bytes[place..end].to_vec();
                    bytes.splice(place..place, again);
                }
                _ => {
                    let from = self.below(other.len());
                    let end = (from + self.below(256)).min(other.len());
                    bytes.splice(place..place, other[from..end].iter().copied());
                }
            }
        }
    }
}

#[test]
fn every_kept_case_keeps_the_promises_of_its_target() {
    for (name, target) in TARGETS {
        for (path, case) in cases(name) {
            println!("{}", path.display());
            target(&case);
        }
    }
}

#[test]
fn mutations_of_the_kept_cases_keep_the_promises_too() {
    for (name, target) in TARGETS {
        let cases = cases(name);
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        let start = Instant::now();
        let mut count = 0;
        while count < MUTATIONS && start.elapsed() < PATIENCE {
            let mut bytes = cases[chance.below(cases.len())].1.clone();
            let other = &cases[chance.below(cases.len())].1;
            chance.mutate(&mut bytes, other);
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name}, mutation {count}: {bytes:02x?}");
            count += 1;
        }
        println!("{name}: {count} mutations");
        assert!(count > 100, "{name}: only {count} mutations");
    }
}
