//! From the bytes that the scanner kept to a data set in memory.

use dicom::core::value::{DataSetSequence, PixelFragmentSequence, PrimitiveValue, Value};
use dicom::core::{DataElement, Length, Tag, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom::object::mem::InMemElement;

use super::ReadHeaderError;
use super::element::{
    Decoded, ElementHeader, ITEM, ITEM_DELIMITATION, Layout, SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH, decode_header, dictionary_vr, takes_sign_of_samples,
};
use super::text::CharacterSets;

/// Builds the data set that `bytes` hold: whole elements, as the scanner leaves them.
///
/// Lengths were checked by the scanner; they are checked again here, since a value of unknown representation is
/// looked into only now.
pub(super) fn build(
    bytes: &[u8],
    layout: Layout,
    max_depth: usize,
) -> Result<InMemDicomObject, ReadHeaderError> {
    let mut cursor = Cursor { bytes, position: 0 };
    let scope = Scope { layout, depth_left: max_depth, end: None };
    read_elements(&mut cursor, &scope, &Context::default())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ReadHeaderError> {
        let value =
            self.position.checked_add(length).and_then(|end| self.bytes.get(self.position..end));
        let value = value.ok_or_else(|| self.truncated())?;
        self.position += length;
        Ok(value)
    }

    fn header(&mut self, layout: Layout) -> Result<ElementHeader, ReadHeaderError> {
        match decode_header(&self.bytes[self.position..], layout) {
            Decoded::Header(header) => {
                self.position += header.header_length;
                Ok(header)
            }
            Decoded::Incomplete => Err(self.truncated()),
            Decoded::BadRepresentation(tag) => Err(self.malformed(tag)),
        }
    }

    fn truncated(&self) -> ReadHeaderError {
        ReadHeaderError::Truncated { offset: self.position as u64 }
    }

    fn malformed(&self, tag: Tag) -> ReadHeaderError {
        ReadHeaderError::Malformed { tag, offset: self.position as u64 }
    }

    fn end_of(&self, header: &ElementHeader) -> Result<Option<usize>, ReadHeaderError> {
        if header.length == UNDEFINED_LENGTH {
            return Ok(None);
        }
        let end = self.position.checked_add(header.length as usize);
        end.filter(|&end| end <= self.bytes.len()).map(Some).ok_or_else(|| self.truncated())
    }
}

/// What earlier elements say about how later ones read; items inherit it.
#[derive(Clone, Default)]
struct Context {
    character_sets: CharacterSets,
    /// Pixel Representation (0028,0103) is 1: values of the samples' kind are signed.
    is_signed: bool,
}

impl Context {
    fn learn(&mut self, element: &InMemElement) {
        match element.header().tag {
            tags::SPECIFIC_CHARACTER_SET => {
                if let Ok(codes) = element.value().to_multi_str() {
                    self.character_sets = CharacterSets::from_codes(&codes);
                }
            }
            tags::PIXEL_REPRESENTATION => {
                self.is_signed = element.to_int::<u16>().is_ok_and(|value| value == 1);
            }
            _ => {}
        }
    }

    /// The representation of an attribute whose data set does not state it.
    fn implied_vr(&self, tag: Tag, vr: VR) -> VR {
        if self.is_signed && vr == VR::US && takes_sign_of_samples(tag) { VR::SS } else { vr }
    }
}

/// Where elements are read: their layout, how much deeper they may go, and where they end.
struct Scope {
    layout: Layout,
    depth_left: usize,
    /// Index one past the last byte; `None` when a delimiter, or the end of the bytes at top level, ends it.
    end: Option<usize>,
}

fn read_elements(
    cursor: &mut Cursor<'_>,
    scope: &Scope,
    inherited: &Context,
) -> Result<InMemDicomObject, ReadHeaderError> {
    let mut context = inherited.clone();
    let mut dataset = InMemDicomObject::new_empty();
    let end = scope.end.unwrap_or(cursor.bytes.len());
    while cursor.position < end {
        let header = cursor.header(scope.layout)?;
        if header.tag == ITEM_DELIMITATION && scope.end.is_none() {
            break;
        }
        if header.tag.0 == 0xFFFE {
            return Err(cursor.malformed(header.tag));
        }
        let element = read_element(cursor, scope, &header, &context)?;
        context.learn(&element);
        dataset.put(element);
    }
    if scope.end.is_some_and(|end| end != cursor.position) {
        return Err(cursor.truncated());
    }
    Ok(dataset)
}

fn read_element(
    cursor: &mut Cursor<'_>,
    scope: &Scope,
    header: &ElementHeader,
    context: &Context,
) -> Result<InMemElement, ReadHeaderError> {
    let tag = header.tag;
    if header.holds_fragments() {
        return Ok(DataElement::new(tag, header.vr, read_fragments(cursor, scope.layout)?));
    }
    if header.holds_items() {
        let scope = Scope {
            layout: header.layout_of_items(scope.layout),
            depth_left: scope.depth_left,
            end: cursor.end_of(header)?,
        };
        let items = read_items(cursor, &scope, context, tag)?;
        return Ok(sequence(tag, items));
    }
    let value = cursor.take(header.length as usize)?;
    if header.vr != VR::UN || scope.layout == Layout::ImplicitLittle {
        let vr = if scope.layout == Layout::ImplicitLittle {
            context.implied_vr(tag, header.vr)
        } else {
            header.vr
        };
        return Ok(primitive(tag, vr, value, scope.layout, &context.character_sets));
    }
    // A sender that did not know the attribute wrote it as unknown, in implicit little endian (PS3.5 6.2.2).
    match dictionary_vr(tag) {
        Some(VR::SQ) => {
            let mut inner = Cursor { bytes: value, position: 0 };
            let scope = Scope {
                layout: Layout::ImplicitLittle,
                depth_left: scope.depth_left,
                end: Some(value.len()),
            };
            match read_items(&mut inner, &scope, context, tag) {
                Ok(items) => Ok(sequence(tag, items)),
                Err(_) => Ok(primitive(tag, VR::UN, value, scope.layout, &context.character_sets)),
            }
        }
        Some(vr) => {
            let vr = context.implied_vr(tag, vr);
            Ok(primitive(tag, vr, value, Layout::ImplicitLittle, &context.character_sets))
        }
        None => Ok(primitive(tag, VR::UN, value, scope.layout, &context.character_sets)),
    }
}

fn read_items(
    cursor: &mut Cursor<'_>,
    scope: &Scope,
    context: &Context,
    tag: Tag,
) -> Result<Vec<InMemDicomObject>, ReadHeaderError> {
    let Some(depth_left) = scope.depth_left.checked_sub(1) else {
        return Err(cursor.malformed(tag));
    };
    let end = scope.end.unwrap_or(cursor.bytes.len());
    let mut items = Vec::new();
    while cursor.position < end {
        let header = cursor.header(scope.layout)?;
        match header.tag {
            ITEM => {
                let end = cursor.end_of(&header)?;
                let scope = Scope { layout: scope.layout, depth_left, end };
                items.push(read_elements(cursor, &scope, context)?);
            }
            SEQUENCE_DELIMITATION if scope.end.is_none() => break,
            other => return Err(cursor.malformed(other)),
        }
    }
    Ok(items)
}

fn read_fragments(
    cursor: &mut Cursor<'_>,
    layout: Layout,
) -> Result<Value<InMemDicomObject>, ReadHeaderError> {
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    loop {
        let header = cursor.header(layout)?;
        match header.tag {
            ITEM => fragments.push(cursor.take(header.length as usize)?.to_vec()),
            SEQUENCE_DELIMITATION => break,
            other => return Err(cursor.malformed(other)),
        }
    }
    let mut fragments = fragments.into_iter();
    let offsets: Vec<u32> = fragments
        .next()
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|offset| u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]))
        .collect();
    let sequence = PixelFragmentSequence::new(offsets, fragments.collect::<Vec<_>>());
    Ok(Value::PixelSequence(sequence))
}

fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, Value::Sequence(DataSetSequence::new(items, Length::UNDEFINED)))
}

fn primitive(
    tag: Tag,
    vr: VR,
    bytes: &[u8],
    layout: Layout,
    character_sets: &CharacterSets,
) -> InMemElement {
    let is_big = layout == Layout::ExplicitBig;
    let value = if bytes.is_empty() {
        PrimitiveValue::Empty
    } else {
        match vr {
            VR::AE | VR::AS | VR::CS | VR::DA | VR::DS | VR::DT | VR::IS | VR::TM | VR::UI => {
                strings(&CharacterSets::default(), vr, bytes)
            }
            VR::LO | VR::PN | VR::SH | VR::UC => strings(character_sets, vr, bytes),
            VR::UR => PrimitiveValue::from(CharacterSets::default().decode(trim(bytes), vr)),
            VR::LT | VR::ST | VR::UT => {
                PrimitiveValue::from(character_sets.decode(trim(bytes), vr))
            }
            VR::US | VR::OW => PrimitiveValue::U16(numbers(bytes, is_big, u16::from_le_bytes)),
            VR::SS => PrimitiveValue::I16(numbers(bytes, is_big, i16::from_le_bytes)),
            VR::UL | VR::OL => PrimitiveValue::U32(numbers(bytes, is_big, u32::from_le_bytes)),
            VR::SL => PrimitiveValue::I32(numbers(bytes, is_big, i32::from_le_bytes)),
            VR::UV | VR::OV => PrimitiveValue::U64(numbers(bytes, is_big, u64::from_le_bytes)),
            VR::SV => PrimitiveValue::I64(numbers(bytes, is_big, i64::from_le_bytes)),
            VR::FL | VR::OF => PrimitiveValue::F32(numbers(bytes, is_big, f32::from_le_bytes)),
            VR::FD | VR::OD => PrimitiveValue::F64(numbers(bytes, is_big, f64::from_le_bytes)),
            VR::AT => {
                let halves: Vec<u16> = numbers(bytes, is_big, u16::from_le_bytes);
                let pairs = halves.chunks_exact(2).map(|pair| Tag(pair[0], pair[1]));
                PrimitiveValue::Tags(pairs.collect())
            }
            _ => PrimitiveValue::U8(bytes.into()),
        }
    };
    DataElement::new(tag, vr, value)
}

fn strings(character_sets: &CharacterSets, vr: VR, bytes: &[u8]) -> PrimitiveValue {
    PrimitiveValue::Strs(character_sets.decode_values(trim(bytes), vr).into_iter().collect())
}

/// Numbers of `N` bytes each; a rest that is no whole number is left out.
fn numbers<T, const N: usize, C: FromIterator<T>>(
    bytes: &[u8],
    is_big: bool,
    from_le: fn([u8; N]) -> T,
) -> C {
    let (chunks, _rest) = bytes.as_chunks::<N>();
    chunks
        .iter()
        .map(|&chunk| {
            let mut chunk = chunk;
            if is_big {
                chunk.reverse();
            }
            from_le(chunk)
        })
        .collect()
}

/// Removes the padding behind the last value.
fn trim(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != b' ' && byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}
