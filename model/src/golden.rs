//! Golden vectors for tests: a small copy in the repository, the whole set where `PROSECTOR_TEST_SAT` names it.

use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};

/// One file of golden vectors.
pub(crate) struct Golden(Vec<u8>);

/// Path of file `name` in the full set, or in the repository's own copy. Tests over files that the repository has not
/// are ignored where the full set is not at hand.
#[track_caller]
pub(crate) fn path(name: &str) -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/sat").join(name);
    let full = std::env::var_os("PROSECTOR_TEST_SAT").map(|dir| PathBuf::from(dir).join(name));
    let found = full.into_iter().chain([own]).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("PROSECTOR_TEST_SAT names no folder with {name}"))
}

impl Golden {
    /// Opens `golden/<name>.safetensors`.
    #[track_caller]
    pub(crate) fn open(name: &str) -> Self {
        Self(std::fs::read(path(&format!("golden/{name}.safetensors"))).unwrap())
    }

    pub(crate) fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors().tensor(name).unwrap().shape().to_vec()
    }

    /// Numbers of a tensor of any type.
    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
        let bytes = view.data();
        match view.dtype() {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::F32 => {
                bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
            }
            Dtype::F16 => {
                bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f64()).collect()
            }
            Dtype::I64 => {
                bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
            }
            Dtype::I16 => {
                bytes.as_chunks().0.iter().map(|&b| f64::from(i16::from_le_bytes(b))).collect()
            }
            Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name).into_iter().map(|value| value as f32).collect()
    }

    /// Text metadata of the file.
    pub(crate) fn text(&self, key: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(&self.0).unwrap();
        metadata.metadata().as_ref().unwrap()[key].clone()
    }
}

/// Largest absolute difference.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| if a.is_nan() { f64::INFINITY } else { f64::from((a - b).abs()) })
        .fold(0.0, f64::max);
    println!("{what}: largest difference {worst:.2e}, allowed {tolerance:.0e}");
    assert!(worst <= tolerance, "{what}: largest difference {worst:.2e} over {tolerance:.0e}");
}
