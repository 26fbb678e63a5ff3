//! Data elements of a file as the bytes that it has.
//!
//! Text is not decoded: names in Japanese or Korean switch character sets inside a value (PS3.5 6.1.2.5), and only the
//! unchanged bytes beside the unchanged Specific Character Set are sure to mean the same.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use dicom::core::value::PrimitiveValue;
use dicom::core::{Tag, VR};
use dicom::encoding::TransferSyntaxIndex;
use dicom::encoding::transfer_syntax::{Codec, Endianness, TransferSyntax};
use dicom::parser::dataset::read::{DataSetReaderOptions, ValueReadStrategy};
use dicom::parser::dataset::{DataSetReader, DataToken};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_types::TransferSyntaxUid;

use super::writer::{ElementWriter, Vr};
use crate::part10::{ReadMetaError, locate_dataset};

/// Deepest nesting of sequences that is copied.
const MAX_DEPTH: usize = 8;
/// Longest value that is copied; also the most that a 16-bit length holds.
const MAX_VALUE_BYTES: usize = 0xFFFE;

/// Why the attributes of a source cannot be read. No message repeats a value.
#[derive(Debug, thiserror::Error)]
pub enum ReadSourceAttributesError {
    /// The file cannot be opened or read.
    #[error("cannot read the source instance")]
    Read {
        /// What the system says.
        source: io::Error,
    },
    /// The file meta information is malformed.
    #[error("source instance is no Part 10 file")]
    Meta(#[from] ReadMetaError),
    /// The transfer syntax of the data set is not known.
    #[error("transfer syntax of the source instance is not supported")]
    TransferSyntax,
    /// The data set breaks off or nests wrongly in front of the attributes that are needed.
    #[error("data set of the source instance is malformed")]
    Malformed,
}

impl From<io::Error> for ReadSourceAttributesError {
    fn from(source: io::Error) -> Self {
        Self::Read { source }
    }
}

/// A data element with the bytes of its value, little endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawElement {
    pub(crate) tag: Tag,
    pub(crate) vr: Vr,
    pub(crate) value: RawValue,
}

/// The value of a [`RawElement`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RawValue {
    /// Bytes without padding.
    Bytes(Vec<u8>),
    /// Items of a sequence.
    Items(Vec<Vec<RawElement>>),
}

impl std::fmt::Debug for RawValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<phi>")
    }
}

impl RawElement {
    /// Writes the element, and for a sequence its items.
    pub(crate) fn write(&self, writer: &mut ElementWriter) {
        match &self.value {
            RawValue::Bytes(bytes) => writer.raw(self.tag, self.vr, bytes),
            RawValue::Items(items) => writer.sequence(self.tag, |w| write_items(items, w)),
        }
    }
}

impl RawValue {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Items(items) => items.is_empty(),
        }
    }

    /// The value as text, when it is bytes in ASCII.
    pub(crate) fn ascii(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) if bytes.is_ascii() => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

pub(crate) fn write_items(items: &[Vec<RawElement>], writer: &mut ElementWriter) {
    for item in items {
        writer.item(|w| item.iter().for_each(|element| element.write(w)));
    }
}

/// Reads the elements of the Part 10 file at `path` for which `wanted` holds, in ascending order.
///
/// # Errors
/// [`ReadSourceAttributesError`]
pub(crate) fn read_elements(
    path: &Path,
    wanted: impl Fn(Tag) -> bool,
    last: Tag,
) -> Result<Vec<RawElement>, ReadSourceAttributesError> {
    let mut file = File::open(path)?;
    let uid = seek_dataset(&mut file)?;
    let syntax = TransferSyntaxRegistry
        .get(uid.as_str())
        .ok_or(ReadSourceAttributesError::TransferSyntax)?;
    let file = BufReader::new(file);
    match syntax.codec() {
        Codec::Dataset(Some(adapter)) => {
            let inflated = BufReader::new(adapter.adapt_reader(Box::new(file)));
            read_top_level(inflated, syntax, wanted, last)
        }
        Codec::Dataset(None) => Err(ReadSourceAttributesError::TransferSyntax),
        Codec::None | Codec::EncapsulatedPixelData(..) => {
            read_top_level(file, syntax, wanted, last)
        }
    }
}

/// Leaves `file` at the start of the data set.
fn seek_dataset(file: &mut File) -> Result<TransferSyntaxUid, ReadSourceAttributesError> {
    let mut prefix = Vec::new();
    loop {
        let wanted = (prefix.len() as u64).max(2048);
        let read = file.by_ref().take(wanted).read_to_end(&mut prefix)?;
        let is_whole = (read as u64) < wanted;
        if let Some(start) = locate_dataset(&prefix, is_whole)? {
            file.seek(SeekFrom::Start(start.offset as u64))?;
            return Ok(start.transfer_syntax_uid);
        }
        if is_whole {
            return Err(ReadSourceAttributesError::Malformed);
        }
    }
}

fn read_top_level<R: Read>(
    source: R,
    syntax: &TransferSyntax,
    wanted: impl Fn(Tag) -> bool,
    last: Tag,
) -> Result<Vec<RawElement>, ReadSourceAttributesError> {
    let options = DataSetReaderOptions::default().value_read(ValueReadStrategy::Raw);
    let reader = DataSetReader::new_with_ts_options(source, syntax, options)
        .map_err(|_| ReadSourceAttributesError::TransferSyntax)?;
    let mut tokens = Tokens { reader, swap: syntax.endianness() == Endianness::Big };
    let mut elements = Vec::new();
    while let Some(token) = tokens.next()? {
        let tag = match &token {
            DataToken::ElementHeader(header) => header.tag,
            DataToken::SequenceStart { tag, .. } => *tag,
            _ => break,
        };
        if tag > last {
            break;
        }
        let element = tokens.element(&token, 0)?;
        elements.extend(element.filter(|element| wanted(element.tag)));
    }
    Ok(elements)
}

/// The tokens of a data set, as trees of raw elements.
struct Tokens<R> {
    reader: DataSetReader<dicom::parser::stateful::decode::DynStatefulDecoder<R>>,
    swap: bool,
}

impl<R: Read> Tokens<R> {
    fn next(&mut self) -> Result<Option<DataToken>, ReadSourceAttributesError> {
        self.reader.next().transpose().map_err(|_| ReadSourceAttributesError::Malformed)
    }

    fn required(&mut self) -> Result<DataToken, ReadSourceAttributesError> {
        self.next()?.ok_or(ReadSourceAttributesError::Malformed)
    }

    /// The element that `token` starts; nothing where it is too long or no element that could be copied.
    fn element(
        &mut self,
        token: &DataToken,
        depth: usize,
    ) -> Result<Option<RawElement>, ReadSourceAttributesError> {
        match token {
            DataToken::ElementHeader(header) => {
                let DataToken::PrimitiveValue(value) = self.required()? else {
                    return Err(ReadSourceAttributesError::Malformed);
                };
                let vr = Vr(dictionary_vr(header.tag, header.vr).to_bytes());
                let mut bytes = match value {
                    PrimitiveValue::U8(bytes) => bytes.into_vec(),
                    _ => Vec::new(),
                };
                if bytes.len() > MAX_VALUE_BYTES || &vr.0 == b"SQ" {
                    return Ok(None);
                }
                if self.swap {
                    swap_numbers(vr, &mut bytes);
                }
                trim_padding(vr, &mut bytes);
                Ok(Some(RawElement { tag: header.tag, vr, value: RawValue::Bytes(bytes) }))
            }
            &DataToken::SequenceStart { tag, .. } => {
                if depth == MAX_DEPTH {
                    return Err(ReadSourceAttributesError::Malformed);
                }
                let items = self.items(depth)?;
                Ok(Some(RawElement { tag, vr: Vr(*b"SQ"), value: RawValue::Items(items) }))
            }
            DataToken::PixelSequenceStart => {
                while !matches!(self.required()?, DataToken::SequenceEnd) {}
                Ok(None)
            }
            _ => Err(ReadSourceAttributesError::Malformed),
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Vec<RawElement>>, ReadSourceAttributesError> {
        let mut items = Vec::new();
        loop {
            match self.required()? {
                DataToken::SequenceEnd => return Ok(items),
                DataToken::ItemStart { .. } => {
                    let mut item = Vec::new();
                    loop {
                        match self.required()? {
                            DataToken::ItemEnd => break,
                            token => item.extend(self.element(&token, depth + 1)?),
                        }
                    }
                    items.push(item);
                }
                _ => return Err(ReadSourceAttributesError::Malformed),
            }
        }
    }
}

/// The representation to write: the dictionary's where the source says unknown.
fn dictionary_vr(tag: Tag, vr: VR) -> VR {
    use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry};
    if vr != VR::UN {
        return vr;
    }
    dicom::dictionary_std::StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

fn swap_numbers(vr: Vr, bytes: &mut [u8]) {
    let size = match &vr.0 {
        b"US" | b"SS" | b"AT" | b"OW" => 2,
        b"UL" | b"SL" | b"FL" | b"OF" | b"OL" => 4,
        b"FD" | b"OD" | b"SV" | b"UV" | b"OV" => 8,
        _ => return,
    };
    bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
}

/// Removes what pads a text to an even length. Numbers stay as they are.
fn trim_padding(vr: Vr, bytes: &mut Vec<u8>) {
    let is_text = matches!(
        &vr.0,
        b"AE"
            | b"AS"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"ST"
            | b"TM"
            | b"UC"
            | b"UI"
            | b"UR"
            | b"UT"
    );
    if is_text {
        while matches!(bytes.last(), Some(b' ' | 0)) {
            bytes.pop();
        }
    }
}
