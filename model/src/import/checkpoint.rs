//! Reading what `torch.save` writes: a zip archive with a pickle and a file for each storage.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::{Object, Stack};
use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

use crate::pack::{Bytes, sha256_hex};

/// Keys under which the state of a model lies in a checkpoint.
const STATE_KEYS: [&str; 2] = ["model_state_dict", "state_dict"];
/// Longest pickle that is looked at; those of the published files have a few megabytes.
const MAX_PICKLE_BYTES: usize = 256 << 20;
/// Most elements of a tensor: far above any layer of a network.
const MAX_ELEMENTS: usize = 1 << 32;

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadCheckpointError {
    /// The file cannot be opened.
    #[error("cannot open the file")]
    Open(#[from] std::io::Error),
    /// Not the archive that PyTorch writes since version 1.6.
    #[error("not a zip archive: files of torch.save before version 1.6 must be saved anew")]
    NotZip(#[source] zip::result::ZipError),
    /// No pickle, or one that is compressed or too long.
    #[error("the archive holds no readable data.pkl")]
    NoPickle,
    /// The pickle breaks off or uses what model files do not.
    #[error("data.pkl cannot be understood: {0}")]
    Pickle(String),
    /// The pickle is no dictionary of tensors.
    #[error("the file holds no dictionary of tensors")]
    NoState,
    /// A tensor whose description makes no sense.
    #[error("tensor {name} {what}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// A mapped checkpoint and the tensors in it.
#[derive(Debug)]
pub(super) struct Checkpoint {
    bytes: Bytes,
    tensors: BTreeMap<String, Stored>,
}

/// Where a tensor lies and how its elements are laid out.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    element: Element,
    pub(super) shape: Vec<usize>,
    strides: Vec<usize>,
    /// Bytes of the storage in the file.
    storage: Range<usize>,
    /// First element in the storage.
    offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F32,
    F64,
    F16,
    Bf16,
    /// Integers and flags: buffers that no network of ours reads.
    Other(usize),
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::Other(8),
            "IntStorage" => Self::Other(4),
            "ShortStorage" => Self::Other(2),
            "ByteStorage" | "CharStorage" | "BoolStorage" => Self::Other(1),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(bytes) => bytes,
        }
    }
}

impl Checkpoint {
    /// Maps the file and reads its pickle; no tensor is read yet.
    pub(super) fn open(path: &Path) -> Result<Self, ReadCheckpointError> {
        let bytes = Bytes::map(path)?;
        let mut archive =
            ZipArchive::new(Cursor::new(&bytes[..])).map_err(ReadCheckpointError::NotZip)?;
        let mut entries = BTreeMap::new();
        let mut pickle = None;
        for index in 0..archive.len() {
            let Ok(entry) = archive.by_index_raw(index) else { continue };
            let is_plain = entry.compression() == CompressionMethod::Stored;
            let (Some(start), Ok(length)) = (entry.data_start(), usize::try_from(entry.size()))
            else {
                continue;
            };
            let Ok(start) = usize::try_from(start) else { continue };
            let range = start..start.saturating_add(length);
            if !is_plain || range.end > bytes.len() {
                continue;
            }
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            if name == "data.pkl" || name.ends_with("/data.pkl") {
                pickle = Some((name.trim_end_matches("data.pkl").to_owned(), range.clone()));
            }
            entries.insert(name, range);
        }
        let (folder, range) = pickle.ok_or(ReadCheckpointError::NoPickle)?;
        if range.len() > MAX_PICKLE_BYTES {
            return Err(ReadCheckpointError::NoPickle);
        }
        let state = state(unpickle(&bytes[range])?).ok_or(ReadCheckpointError::NoState)?;
        let mut tensors = BTreeMap::new();
        for (name, value) in state {
            let Object::Unicode(name) = name else { continue };
            if let Some(stored) = stored(&name, value, &folder, &entries)? {
                tensors.insert(name, stored);
            }
        }
        if tensors.is_empty() {
            return Err(ReadCheckpointError::NoState);
        }
        Ok(Self { bytes, tensors })
    }

    /// Every tensor by the name that the file gives it.
    pub(super) fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    /// SHA-256 of the whole file, lower-case hexadecimal.
    pub(super) fn sha256(&self) -> String {
        let digest = sha256_hex(&self.bytes);
        self.bytes.release(0, self.bytes.len());
        digest
    }

    /// The values of tensor `name` of the file in float32, row-major, whatever its strides and type; empty for a type
    /// that holds no real numbers.
    pub(super) fn read(&self, name: &str) -> Vec<f32> {
        let Some(stored) = self.tensors.get(name) else { return Vec::new() };
        let storage = &self.bytes[stored.storage.clone()];
        let values = match stored.element {
            Element::F32 => stored.gather(storage, |b: [u8; 4]| f32::from_le_bytes(b)),
            Element::F64 => stored.gather(storage, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
            Element::F16 => stored.gather(storage, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
            Element::Bf16 => stored.gather(storage, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
            Element::Other(_) => Vec::new(),
        };
        self.bytes.release(stored.storage.start, stored.storage.len());
        values
    }
}

impl Stored {
    /// Whether the elements are real numbers.
    pub(super) fn is_real(&self) -> bool {
        !matches!(self.element, Element::Other(_))
    }

    fn gather<const N: usize>(&self, storage: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let elements = storage.as_chunks::<N>().0;
        let count = self.shape.iter().product();
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0usize; self.shape.len()];
        let mut place = self.offset;
        while values.len() < count {
            values.push(value(elements[place]));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                place += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                place -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        values
    }
}

fn unpickle(bytes: &[u8]) -> Result<Object, ReadCheckpointError> {
    let run = || {
        let mut stack = Stack::empty();
        stack.read_loop(&mut &bytes[..])?;
        stack.finalize()
    };
    // The library trusts its input in places; a file from elsewhere must not end the process.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(ReadCheckpointError::Pickle(error.to_string())),
        Err(_) => Err(ReadCheckpointError::Pickle("the reader broke off".to_owned())),
    }
}

/// The dictionary of the model's tensors: under its key, or the whole file.
fn state(object: Object) -> Option<Vec<(Object, Object)>> {
    let Object::Dict(entries) = object else { return None };
    let place = entries.iter().position(
        |(key, _)| matches!(key, Object::Unicode(key) if STATE_KEYS.contains(&key.as_str())),
    );
    let Some(place) = place else { return Some(entries) };
    match entries.into_iter().nth(place)?.1 {
        Object::Dict(state) => Some(state),
        _ => None,
    }
}

/// The tensor that `value` describes; nothing where it is something else.
fn stored(
    name: &str,
    value: Object,
    folder: &str,
    entries: &BTreeMap<String, Range<usize>>,
) -> Result<Option<Stored>, ReadCheckpointError> {
    let Some(arguments) = rebuild_arguments(value) else { return Ok(None) };
    let wrong = |what| ReadCheckpointError::Tensor { name: name.to_owned(), what };
    let undescribed = || wrong("has a description that is not understood");
    let mut arguments = arguments.into_iter();
    let storage = arguments.next().and_then(|object| match object {
        Object::PersistentLoad(storage) => storage.tuple().ok(),
        _ => None,
    });
    let storage = storage.ok_or_else(undescribed)?;
    let offset = arguments.next().and_then(number).ok_or_else(undescribed)?;
    let shape = arguments.next().and_then(numbers).ok_or_else(undescribed)?;
    let strides = arguments.next().and_then(numbers).ok_or_else(undescribed)?;
    // ('storage', class, key, location, number of elements)
    let mut storage = storage.into_iter().skip(1);
    let Some(Object::Class { class_name: class, .. }) = storage.next() else {
        return Err(undescribed());
    };
    let Some(Object::Unicode(key)) = storage.next() else { return Err(undescribed()) };
    let element =
        Element::of_storage(&class).ok_or_else(|| wrong("has a type that is not supported"))?;
    let file = format!("{folder}data/{key}");
    let range = entries.get(&file).ok_or_else(|| wrong("lies in a storage that is missing"))?;
    if shape.len() != strides.len() {
        return Err(undescribed());
    }
    let mut last = Some(offset);
    let mut count = Some(1usize);
    for (&extent, &stride) in shape.iter().zip(&strides) {
        count = count.and_then(|count| count.checked_mul(extent));
        let reach = extent.saturating_sub(1).checked_mul(stride);
        last = last.zip(reach).and_then(|(last, reach)| last.checked_add(reach));
    }
    let count = count.filter(|&count| count <= MAX_ELEMENTS).ok_or_else(undescribed)?;
    let fits = last.is_some_and(|last| last < range.len() / element.bytes());
    if count > 0 && !fits {
        return Err(wrong("reaches beyond its storage"));
    }
    Ok(Some(Stored { element, shape, strides, storage: range.clone(), offset }))
}

/// Arguments of `_rebuild_tensor_v2`, also inside a parameter or a subclass of tensor.
fn rebuild_arguments(value: Object) -> Option<Vec<Object>> {
    let value = match value {
        Object::Build { callable, .. } => *callable,
        value => value,
    };
    let (callable, arguments) = value.reduce().ok()?;
    let (_, class_name) = callable.class().ok()?;
    let mut arguments = arguments.tuple().ok()?;
    match class_name.as_str() {
        "_rebuild_tensor_v2" => Some(arguments),
        "_rebuild_parameter" if !arguments.is_empty() => rebuild_arguments(arguments.remove(0)),
        "_rebuild_from_type_v2" if arguments.len() > 2 => arguments.remove(2).tuple().ok(),
        _ => None,
    }
}

fn number(object: Object) -> Option<usize> {
    object.int_or_long().ok().and_then(|number| usize::try_from(number).ok())
}

fn numbers(object: Object) -> Option<Vec<usize>> {
    object.tuple().ok()?.into_iter().map(number).collect()
}
