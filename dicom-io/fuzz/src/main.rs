//! libFuzzer over the target that `FUZZ_TARGET` names; `ops/fuzz` runs them all.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = dicom_io::fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("FUZZ_TARGET is none of dicom_io::fuzz::TARGETS").1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
