//! Tensors of one safetensors file, looked up by name with the shape that the caller expects.

use std::collections::BTreeMap;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::bytes::Bytes;

/// Why a tensor cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("not a safetensors file: {reason}")]
    Malformed {
        /// What the reader stumbled over.
        reason: String,
    },
    /// No tensor of that name.
    #[error("tensor {name} is missing")]
    Missing {
        /// Canonical name.
        name: String,
    },
    /// The tensor has another shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Canonical name.
        name: String,
        /// Shape that the architecture needs.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The tensor is stored in a type that is not read.
    #[error("tensor {name} is stored as {dtype}, expected F32, F16 or BF16")]
    Type {
        /// Canonical name.
        name: String,
        /// Type in the file.
        dtype: String,
    },
    /// A value that is not a finite number.
    #[error("tensor {name} has values that are not finite")]
    NotFinite {
        /// Canonical name.
        name: String,
    },
    /// A tensor that nothing needs.
    #[error("tensor {name} is not part of the network")]
    Unknown {
        /// Canonical name.
        name: String,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// Tensors by name; the data stay in the file until they are asked for. Clones share the file.
#[derive(Debug, Clone)]
pub struct Weights {
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Reads tensors from bytes in memory.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] for what is not a safetensors file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, WeightsError> {
        Self::new(Bytes::Owned(bytes.into()))
    }

    pub(crate) fn new(bytes: Bytes) -> Result<Self, WeightsError> {
        let malformed = |error: safetensors::SafeTensorError| WeightsError::Malformed {
            reason: error.to_string(),
        };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        let data_start = 8 + header;
        let mut entries = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let range = data_start + start..data_start + end;
            entries.insert(name, Entry { dtype: info.dtype, shape: info.shape.clone(), range });
        }
        let metadata = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { bytes, entries, metadata })
    }

    /// Values of tensor `name`, row-major, which must have exactly `shape`; half precision is widened.
    ///
    /// # Errors
    /// [`WeightsError`] when the tensor is missing, has another shape, another type, or values that are not finite.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let entry = self.entry(name)?;
        if entry.shape != shape {
            return Err(WeightsError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        let values = self.decode(name, entry)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(WeightsError::NotFinite { name: name.to_owned() });
        }
        Ok(values)
    }

    /// Shape of tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The file's text metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Checks that exactly the tensors of `expected` are there, with their shapes; `optional` says which others may be.
    pub(crate) fn check(
        &self,
        expected: &[(String, Vec<usize>)],
        optional: impl Fn(&str) -> bool,
    ) -> Result<(), WeightsError> {
        for (name, shape) in expected {
            let entry = self.entry(name)?;
            if entry.shape != *shape {
                return Err(WeightsError::Shape {
                    name: name.clone(),
                    expected: shape.clone(),
                    found: entry.shape.clone(),
                });
            }
        }
        let known: std::collections::BTreeSet<&str> =
            expected.iter().map(|(name, _)| name.as_str()).collect();
        match self.names().find(|name| !known.contains(name) && !optional(name)) {
            Some(name) => Err(WeightsError::Unknown { name: name.to_owned() }),
            None => Ok(()),
        }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of values of all tensors.
    pub(crate) fn parameters(&self) -> u64 {
        self.entries.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.entries.get(name).ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }

    fn decode(&self, name: &str, entry: &Entry) -> Result<Vec<f32>, WeightsError> {
        let bytes = &self.bytes[entry.range.clone()];
        match entry.dtype {
            Dtype::F32 => {
                let (chunks, _) = bytes.as_chunks::<4>();
                Ok(chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            Dtype::F16 => {
                let (chunks, _) = bytes.as_chunks::<2>();
                Ok(chunks.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect())
            }
            Dtype::BF16 => {
                let (chunks, _) = bytes.as_chunks::<2>();
                Ok(chunks.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect())
            }
            other => Err(WeightsError::Type { name: name.to_owned(), dtype: format!("{other:?}") }),
        }
    }
}
