//! Headers of data elements: tag, value representation, stated length.

use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom::core::{Tag, VR};
use dicom::dictionary_std::StandardDataDictionary;

/// Stated length that means "up to a delimiter" (PS3.5 7.1.1).
pub(crate) const UNDEFINED_LENGTH: u32 = 0xFFFF_FFFF;

pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(crate) const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
pub(crate) const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

/// How data elements are laid out (PS3.5 clause 7 and annex A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

impl Layout {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::ExplicitBig => u16::from_be_bytes(bytes),
            _ => u16::from_le_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::ExplicitBig => u32::from_be_bytes(bytes),
            _ => u32::from_le_bytes(bytes),
        }
    }
}

/// One decoded element or item header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ElementHeader {
    pub(crate) tag: Tag,
    pub(crate) vr: VR,
    /// Length of the value, or [`UNDEFINED_LENGTH`].
    pub(crate) length: u32,
    /// Bytes that the header itself takes.
    pub(crate) header_length: usize,
}

impl ElementHeader {
    /// Whether the value holds items: a sequence, or something of undefined length that was written without
    /// knowing better (PS3.5 6.2.2 note 5).
    pub(crate) fn holds_items(&self) -> bool {
        self.vr == VR::SQ || (self.length == UNDEFINED_LENGTH && !self.holds_fragments())
    }

    /// Whether the value is encapsulated pixel data (PS3.5 A.4).
    pub(crate) fn holds_fragments(&self) -> bool {
        self.length == UNDEFINED_LENGTH && matches!(self.vr, VR::OB | VR::OW)
    }

    /// How the items of a sequence value are laid out: an unknown representation hides implicit little endian.
    pub(crate) fn layout_of_items(&self, layout: Layout) -> Layout {
        if self.vr == VR::UN { Layout::ImplicitLittle } else { layout }
    }
}

/// What the first bytes of an element say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    Header(ElementHeader),
    /// More bytes are needed.
    Incomplete,
    /// The two characters of the value representation are no letters.
    BadRepresentation(Tag),
}

/// Decodes the header at the front of `bytes`.
pub(crate) fn decode_header(bytes: &[u8], layout: Layout) -> Decoded {
    let Some(prefix) = bytes.first_chunk::<8>() else { return Decoded::Incomplete };
    let [group_0, group_1, element_0, element_1, rest @ ..] = *prefix;
    let tag = Tag(layout.u16([group_0, group_1]), layout.u16([element_0, element_1]));
    let is_item_tag = tag.0 == 0xFFFE;
    if is_item_tag || layout == Layout::ImplicitLittle {
        let vr = if is_item_tag { VR::UN } else { dictionary_vr(tag).unwrap_or(VR::UN) };
        return Decoded::Header(ElementHeader {
            tag,
            vr,
            length: layout.u32(rest),
            header_length: 8,
        });
    }
    let [vr_0, vr_1, length_0, length_1] = rest;
    if !vr_0.is_ascii_uppercase() || !vr_1.is_ascii_uppercase() {
        return Decoded::BadRepresentation(tag);
    }
    let vr = VR::from_binary([vr_0, vr_1]).unwrap_or(VR::UN);
    if has_short_length(vr) {
        let length = u32::from(layout.u16([length_0, length_1]));
        return Decoded::Header(ElementHeader { tag, vr, length, header_length: 8 });
    }
    let Some(&[_, _, _, _, _, _, _, _, l0, l1, l2, l3]) = bytes.first_chunk::<12>() else {
        return Decoded::Incomplete;
    };
    let length = layout.u32([l0, l1, l2, l3]);
    Decoded::Header(ElementHeader { tag, vr, length, header_length: 12 })
}

/// The representation that the standard's dictionary gives to `tag`.
pub(crate) fn dictionary_vr(tag: Tag) -> Option<VR> {
    let is_overlay_data = tag.0 >> 8 == 0x60 && tag.1 == 0x3000;
    if is_overlay_data {
        return Some(VR::OW);
    }
    if tag.1 == 0 {
        return Some(VR::UL);
    }
    StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed())
}

/// Whether the dictionary leaves signed or unsigned to Pixel Representation.
pub(crate) fn takes_sign_of_samples(tag: Tag) -> bool {
    StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr() == VirtualVr::Xs)
}

/// Representations with a length of 16 bits (PS3.5 table 7.1-2); all others, future ones included, have 32.
fn has_short_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::AT
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::FL
            | VR::FD
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::SL
            | VR::SS
            | VR::ST
            | VR::TM
            | VR::UI
            | VR::UL
            | VR::US
    )
}
