//! Values of a data set, trimmed and parsed.

use std::str::FromStr;

use dicom::core::Tag;
use dicom::object::InMemDicomObject;

/// Decimal strings as stored, and their numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decimals<const N: usize> {
    pub(super) text: [String; N],
    pub(super) value: [f64; N],
}

/// A data set or an item of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a InMemDicomObject);

impl<'a> Attributes<'a> {
    /// All values as text, without padding; empty when the element is missing, empty or no text.
    pub(super) fn values(self, tag: Tag) -> Vec<String> {
        let Some(element) = self.0.get(tag) else { return Vec::new() };
        let Ok(values) = element.to_multi_str() else { return Vec::new() };
        let values: Vec<_> =
            values.iter().map(|v| v.trim_matches([' ', '\0']).to_owned()).collect();
        if values.iter().all(String::is_empty) { Vec::new() } else { values }
    }

    /// All values joined as they were stored, `None` when there is none.
    pub(super) fn text(self, tag: Tag) -> Option<String> {
        let values = self.values(tag);
        (!values.is_empty()).then(|| values.join("\\"))
    }

    /// First value, parsed.
    pub(super) fn parsed<T: FromStr>(self, tag: Tag) -> Option<T> {
        self.values(tag).first()?.parse().ok()
    }

    /// First value as a finite number.
    pub(super) fn number(self, tag: Tag) -> Option<f64> {
        self.parsed(tag).filter(|number: &f64| number.is_finite())
    }

    /// Exactly `N` finite numbers.
    pub(super) fn decimals<const N: usize>(self, tag: Tag) -> Option<Decimals<N>> {
        let text: [String; N] = self.values(tag).try_into().ok()?;
        let mut value = [0.0; N];
        for (number, text) in value.iter_mut().zip(&text) {
            *number = text.parse().ok().filter(|number: &f64| number.is_finite())?;
        }
        Some(Decimals { text, value })
    }

    /// Items of a sequence.
    pub(super) fn items(self, tag: Tag) -> impl Iterator<Item = Attributes<'a>> {
        let items = self.0.get(tag).and_then(|element| element.items()).unwrap_or_default();
        items.iter().map(Attributes)
    }

    /// First item of a sequence.
    pub(super) fn item(self, tag: Tag) -> Option<Attributes<'a>> {
        self.items(tag).next()
    }

    /// Value of a private element, identified by its creator (PS3.5 7.8.1).
    pub(super) fn private(self, group: u16, creator: &str, element: u8) -> Option<Vec<String>> {
        let block = (0x10..=0xFF_u16)
            .find(|&block| self.parsed::<String>(Tag(group, block)).as_deref() == Some(creator))?;
        let values = self.values(Tag(group, block << 8 | u16::from(element)));
        (!values.is_empty()).then_some(values)
    }
}
