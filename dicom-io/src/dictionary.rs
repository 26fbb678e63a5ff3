//! The data dictionary (PS3.6) for those who write an attribute's keyword by hand: rules of routing.

use std::collections::HashMap;
use std::sync::LazyLock;

use dicom::core::DataDictionary;
use dicom::core::dictionary::VirtualVr;
use dicom::core::header::{Tag, VR};
use dicom::dictionary_std::{StandardDataDictionary, tags};
use dicom::object::InMemDicomObject;

/// Groups whose attributes describe patients, studies, series and images.
const GROUPS: [u16; 9] = [0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0040, 0x0054];

/// Standard keywords of [`GROUPS`] without regard to case, for look-ups and suggestions.
static KEYWORDS: LazyLock<HashMap<String, Attribute>> = LazyLock::new(|| {
    let tags = GROUPS.iter().flat_map(|&group| (0..=u16::MAX).map(move |e| Tag(group, e)));
    tags.filter_map(|tag| StandardDataDictionary.by_tag(tag))
        .filter_map(|entry| Attribute::new(entry.alias, entry.tag.inner(), entry.vr))
        .map(|attribute| (attribute.keyword.to_ascii_lowercase(), attribute))
        .collect()
});

/// What the values of an attribute are, as far as a comparison needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// Text that a person wrote: descriptions, names, comments.
    FreeText,
    /// Codes, identifiers, dates.
    Code,
    /// Numbers, written in decimal or in binary.
    Number,
    /// An age as PS3.5 6.2 writes it (`045Y`).
    Age,
}

/// One attribute of the standard data dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attribute {
    keyword: &'static str,
    tag: Tag,
    kind: ValueKind,
    longest: Option<usize>,
}

impl Attribute {
    fn new(keyword: &'static str, tag: Tag, vr: VirtualVr) -> Option<Self> {
        // PS3.5 6.2: characters of one value.
        let longest = match vr.relaxed() {
            VR::CS | VR::AE | VR::SH => Some(16),
            VR::LO | VR::UI => Some(64),
            _ => None,
        };
        let kind = match vr.relaxed() {
            VR::LO | VR::LT | VR::PN | VR::ST | VR::UC | VR::UT | VR::SH => ValueKind::FreeText,
            VR::AE | VR::CS | VR::DA | VR::DT | VR::TM | VR::UI | VR::UR | VR::AT => {
                ValueKind::Code
            }
            VR::DS
            | VR::IS
            | VR::FL
            | VR::FD
            | VR::SL
            | VR::SS
            | VR::UL
            | VR::US
            | VR::SV
            | VR::UV => ValueKind::Number,
            VR::AS => ValueKind::Age,
            _ => return None,
        };
        let is_generic = keyword.starts_with("Generic") || keyword == "PrivateCreator";
        (!is_generic).then_some(Self { keyword, tag, kind, longest })
    }

    /// The attribute named by `keyword`: as the standard writes it (`BodyPartExamined`), in another case, or with
    /// underscores (`body_part_examined`). Sequences and binary attributes have no value to compare and are not found.
    pub fn by_keyword(keyword: &str) -> Option<Self> {
        if let Some(entry) = StandardDataDictionary.by_name(keyword) {
            return Self::new(entry.alias, entry.tag.inner(), entry.vr);
        }
        KEYWORDS.get(&keyword.replace('_', "").to_ascii_lowercase()).copied()
    }

    /// Every keyword that [`Self::by_keyword`] can suggest, in no order.
    pub fn keywords() -> impl Iterator<Item = &'static str> {
        KEYWORDS.values().map(|attribute| attribute.keyword)
    }

    /// The standard's keyword.
    pub fn keyword(&self) -> &'static str {
        self.keyword
    }

    /// Group and element number.
    pub fn tag(&self) -> (u16, u16) {
        (self.tag.group(), self.tag.element())
    }

    /// What its values are.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Most characters that one value may have, where PS3.5 6.2 sets a bound that people meet.
    pub fn longest(&self) -> Option<usize> {
        self.longest
    }

    /// Values of the attribute in `dataset`, padding removed, empty ones left out: at its top or, of an enhanced
    /// multi-frame object, in the functional groups that all its frames share.
    pub fn values(&self, dataset: &InMemDicomObject) -> Vec<String> {
        let shared = || {
            let groups = items(dataset, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first()?;
            let mut inner = groups.iter().filter_map(|group| group.items()?.first());
            inner.find_map(|macro_item| macro_item.get(self.tag))
        };
        let Some(element) = dataset.get(self.tag).or_else(shared) else { return Vec::new() };
        let Ok(values) = element.to_multi_str() else { return Vec::new() };
        let trimmed = values.iter().map(|v| v.trim_matches([' ', '\0']).to_owned());
        trimmed.filter(|v| !v.is_empty()).collect()
    }
}

fn items(dataset: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    dataset.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom::core::value::DataSetSequence;
    use dicom::core::{DataElement, PrimitiveValue};

    #[test]
    fn finds_a_keyword_in_any_spelling() {
        for keyword in ["BodyPartExamined", "body_part_examined", "bodypartexamined"] {
            let attribute = Attribute::by_keyword(keyword).unwrap();

            assert_eq!(attribute.keyword(), "BodyPartExamined");
            assert_eq!(attribute.tag(), (0x0018, 0x0015));
            assert_eq!(attribute.kind(), ValueKind::Code);
            assert_eq!(attribute.longest(), Some(16));
        }
        assert_eq!(Attribute::by_keyword("series_instance_uid").unwrap().tag(), (0x0020, 0x000E));
        assert_eq!(Attribute::by_keyword("PatientAge").unwrap().kind(), ValueKind::Age);
    }

    #[test]
    fn does_not_find_what_has_no_value_to_compare() {
        for keyword in ["ReferencedSeriesSequence", "PixelData", "BodyPart", "GenericGroupLength"] {
            assert_eq!(Attribute::by_keyword(keyword), None, "{keyword}");
        }
    }

    #[test]
    fn reads_what_all_frames_share() {
        let item = |element| InMemDicomObject::from_element_iter([element]);
        let sequence =
            |tag, inner| DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![item(inner)]));
        let thickness = DataElement::new(tags::SLICE_THICKNESS, VR::DS, PrimitiveValue::from("3"));
        let measures = sequence(tags::PIXEL_MEASURES_SEQUENCE, thickness);
        let dataset = item(sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, measures));

        assert_eq!(Attribute::by_keyword("SliceThickness").unwrap().values(&dataset), ["3"]);
    }

    #[test]
    fn reads_every_value_without_padding() {
        let dataset = InMemDicomObject::from_element_iter([
            DataElement::new(
                tags::IMAGE_TYPE,
                VR::CS,
                PrimitiveValue::Strs(["ORIGINAL".into(), "AXIAL ".into()].into_iter().collect()),
            ),
            DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(512_u16)),
            DataElement::new(tags::BODY_PART_EXAMINED, VR::CS, PrimitiveValue::from(" ")),
        ]);
        let values = |keyword| Attribute::by_keyword(keyword).unwrap().values(&dataset);

        assert_eq!(values("ImageType"), ["ORIGINAL", "AXIAL"]);
        assert_eq!(values("Rows"), ["512"]);
        assert!(values("BodyPartExamined").is_empty());
        assert!(values("Modality").is_empty());
    }
}
