//! Explicit to implicit VR little endian, for peers that take nothing else.

use dicom::core::{Tag, VR};

use crate::header::ReadHeaderError;
use crate::header::element::{
    Decoded, ElementHeader, ITEM, ITEM_DELIMITATION, Layout, SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH, decode_header,
};

/// Sequences within sequences that are followed.
const MAX_DEPTH: usize = 32;

/// Writes a native explicit little endian data set as implicit little endian.
///
/// Values keep their bytes, so that no character set is touched; Pixel Data, which implicit little endian calls OW
/// whatever it was, has the same bytes either way. Sequences and items come out with undefined length, group lengths
/// are left out.
///
/// # Errors
/// [`ReadHeaderError::Malformed`] or [`ReadHeaderError::Truncated`] when the data set is not well-formed or holds
/// encapsulated data, [`ReadHeaderError::TooDeep`] when it is nested beyond reason.
pub(crate) fn explicit_to_implicit(dataset: &[u8]) -> Result<Vec<u8>, ReadHeaderError> {
    let mut transcoder =
        Transcoder { input: dataset, position: 0, output: Vec::with_capacity(dataset.len()) };
    transcoder.elements(dataset.len(), false, MAX_DEPTH)?;
    Ok(transcoder.output)
}

struct Transcoder<'a> {
    input: &'a [u8],
    position: usize,
    output: Vec<u8>,
}

impl Transcoder<'_> {
    /// Elements up to `end`, or up to an item delimitation where `is_delimited`.
    fn elements(
        &mut self,
        end: usize,
        is_delimited: bool,
        depth: usize,
    ) -> Result<(), ReadHeaderError> {
        while self.position < end {
            let header = self.header()?;
            let tag = header.tag;
            if is_delimited && tag == ITEM_DELIMITATION {
                return Ok(());
            }
            if tag.0 == 0xFFFE || header.holds_fragments() {
                return Err(self.malformed(tag));
            }
            if header.vr == VR::UN && header.length == UNDEFINED_LENGTH {
                self.verbatim_sequence(tag)?;
                continue;
            }
            let value_end = self.end_of(&header)?;
            if header.holds_items() {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(ReadHeaderError::TooDeep { limit: MAX_DEPTH });
                };
                self.put_header(tag, UNDEFINED_LENGTH);
                self.items(value_end, depth)?;
                self.put_header(SEQUENCE_DELIMITATION, 0);
                continue;
            }
            let value_end = value_end.ok_or_else(|| self.malformed(tag))?;
            if tag.1 != 0 {
                self.put_header(tag, header.length);
                self.output.extend_from_slice(&self.input[self.position..value_end]);
            }
            self.position = value_end;
        }
        if is_delimited { Err(self.truncated()) } else { Ok(()) }
    }

    fn items(&mut self, end: Option<usize>, depth: usize) -> Result<(), ReadHeaderError> {
        while end.is_none_or(|end| self.position < end) {
            let header = self.header()?;
            match header.tag {
                ITEM => {
                    let item_end = self.end_of(&header)?;
                    self.put_header(ITEM, UNDEFINED_LENGTH);
                    let limit = item_end.unwrap_or(self.input.len());
                    self.elements(limit, item_end.is_none(), depth)?;
                    self.put_header(ITEM_DELIMITATION, 0);
                }
                SEQUENCE_DELIMITATION if end.is_none() => return Ok(()),
                tag => return Err(self.malformed(tag)),
            }
        }
        Ok(())
    }

    /// A sequence of unknown representation is implicit little endian already: it is copied to its delimiter.
    fn verbatim_sequence(&mut self, tag: Tag) -> Result<(), ReadHeaderError> {
        let start = self.position;
        let mut open_levels = 1;
        while open_levels > 0 {
            let decoded = decode_header(&self.input[self.position..], Layout::ImplicitLittle);
            let Decoded::Header(header) = decoded else { return Err(self.truncated()) };
            self.position += header.header_length;
            let is_container = header.length == UNDEFINED_LENGTH;
            match header.tag {
                SEQUENCE_DELIMITATION | ITEM_DELIMITATION => open_levels -= 1,
                _ if is_container => open_levels += 1,
                _ => self.position = self.end_of(&header)?.unwrap_or(self.position),
            }
        }
        self.put_header(tag, UNDEFINED_LENGTH);
        self.output.extend_from_slice(&self.input[start..self.position]);
        Ok(())
    }

    fn header(&mut self) -> Result<ElementHeader, ReadHeaderError> {
        match decode_header(&self.input[self.position..], Layout::ExplicitLittle) {
            Decoded::Header(header) => {
                self.position += header.header_length;
                Ok(header)
            }
            Decoded::Incomplete => Err(self.truncated()),
            Decoded::BadRepresentation(tag) => Err(self.malformed(tag)),
        }
    }

    fn end_of(&self, header: &ElementHeader) -> Result<Option<usize>, ReadHeaderError> {
        if header.length == UNDEFINED_LENGTH {
            return Ok(None);
        }
        let end = self.position.checked_add(header.length as usize);
        let end = end.filter(|&end| end <= self.input.len());
        end.map(Some).ok_or_else(|| self.truncated())
    }

    fn put_header(&mut self, tag: Tag, length: u32) {
        self.output.extend_from_slice(&tag.0.to_le_bytes());
        self.output.extend_from_slice(&tag.1.to_le_bytes());
        self.output.extend_from_slice(&length.to_le_bytes());
    }

    fn malformed(&self, tag: Tag) -> ReadHeaderError {
        ReadHeaderError::Malformed { tag, offset: self.position as u64 }
    }

    fn truncated(&self) -> ReadHeaderError {
        ReadHeaderError::Truncated { offset: self.position as u64 }
    }
}

#[cfg(test)]
mod tests {
    use dicom::core::value::{DataSetSequence, PrimitiveValue, Value};
    use dicom::core::{DataElement, Length};
    use dicom::dictionary_std::tags;
    use dicom::object::InMemDicomObject;
    use dicom::transfer_syntax::entries::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
    use proptest::prelude::*;

    use super::*;

    fn dataset() -> InMemDicomObject {
        let item = InMemDicomObject::from_element_iter([
            DataElement::new(tags::CODE_VALUE, VR::SH, PrimitiveValue::from("10200004")),
            DataElement::new(tags::CODE_MEANING, VR::LO, PrimitiveValue::from("Liver")),
        ]);
        let items = DataSetSequence::new(vec![item.clone(), item], Length::UNDEFINED);
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("1.2.3")),
            DataElement::new(tags::SEGMENT_SEQUENCE, VR::SQ, Value::Sequence(items)),
            DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(23_u16)),
            DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(vec![1_u8, 2, 3, 4])),
        ])
    }

    #[test]
    fn dicom_object_reads_the_same_attributes_from_both() {
        let mut explicit = Vec::new();
        dataset()
            .write_dataset_with_ts(&mut explicit, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
            .unwrap();

        let implicit = explicit_to_implicit(&explicit).unwrap();
        let read = InMemDicomObject::read_dataset_with_ts(
            &implicit[..],
            &IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        )
        .unwrap();

        let meanings = |object: &InMemDicomObject| -> Vec<String> {
            let items = object.get(tags::SEGMENT_SEQUENCE).unwrap().items().unwrap();
            items
                .iter()
                .map(|item| item.get(tags::CODE_MEANING).unwrap().to_str().unwrap().into())
                .collect()
        };
        assert_eq!(meanings(&read), meanings(&dataset()));
        assert_eq!(read.get(tags::ROWS).unwrap().to_int::<u16>().unwrap(), 23);
        let pixels = read.get(tags::PIXEL_DATA).unwrap();
        assert_eq!((pixels.vr(), pixels.to_bytes().unwrap().to_vec()), (VR::OW, vec![1, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn any_damage_gives_a_data_set_or_an_error(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = Vec::new();
            dataset().write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }

            let _ = explicit_to_implicit(&bytes);
        }
    }
}
