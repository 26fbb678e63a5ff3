//! The modality transformation (PS3.3 C.11.1).

use std::sync::Arc;

use dicom::core::value::PrimitiveValue;
use dicom::dictionary_std::tags;

use crate::series::attributes::Attributes;

/// From stored values to values of the modality.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::series) enum Rescale {
    Linear {
        slope: f64,
        intercept: f64,
    },
    /// Modality LUT: `values[stored - first]`, clamped to its ends.
    Table {
        first: i64,
        values: Arc<[f32]>,
    },
}

impl Rescale {
    pub(in crate::series) const IDENTITY: Self = Self::Linear { slope: 1.0, intercept: 0.0 };

    /// Reads slope and intercept, or the Modality LUT; the error names the attribute that is not legal.
    pub(in crate::series) fn read(
        attributes: Attributes<'_>,
        is_signed: bool,
    ) -> Result<Self, &'static str> {
        if let Some(lut) = attributes.item(tags::MODALITY_LUT_SEQUENCE) {
            return table(lut, is_signed).ok_or("Modality LUT Sequence");
        }
        let slope = optional_number(attributes, tags::RESCALE_SLOPE).ok_or("Rescale Slope")?;
        let intercept =
            optional_number(attributes, tags::RESCALE_INTERCEPT).ok_or("Rescale Intercept")?;
        let slope = slope.unwrap_or(1.0);
        if slope == 0.0 {
            return Err("Rescale Slope");
        }
        Ok(Self::Linear { slope, intercept: intercept.unwrap_or(0.0) })
    }
}

/// `Some(None)` when it is missing, `None` when it is there but no number.
#[expect(clippy::option_option, reason = "missing and not legal are different answers")]
fn optional_number(attributes: Attributes<'_>, tag: dicom::core::Tag) -> Option<Option<f64>> {
    match attributes.text(tag) {
        None => Some(None),
        Some(_) => attributes.number(tag).map(Some),
    }
}

fn table(lut: Attributes<'_>, is_signed: bool) -> Option<Rescale> {
    let descriptor = lut.values(tags::LUT_DESCRIPTOR);
    let [entries, first, bits] = descriptor.as_slice() else { return None };
    // 0 stands for 65536 (PS3.3 C.11.1.1). The representation of the middle value follows Pixel Representation, but
    // some writers leave the other one: bring it into its range.
    let entries = match entries.parse::<i64>().ok()? {
        0 => 65536,
        n => n & 0xFFFF,
    };
    let first = first.parse::<i64>().ok()?;
    let first = if is_signed { i64::from(first as u16 as i16) } else { first & 0xFFFF };
    let bits = bits.parse::<u32>().ok()?;
    let data = lut.0.get(tags::LUT_DATA)?.value().primitive()?;
    let words: Vec<u16> = match data {
        PrimitiveValue::U16(words) => words.to_vec(),
        PrimitiveValue::I16(words) => words.iter().map(|&word| word as u16).collect(),
        PrimitiveValue::U8(bytes) if bytes.len() as i64 >= 2 * entries => {
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
        }
        PrimitiveValue::U8(bytes) => bytes.iter().map(|&byte| byte.into()).collect(),
        _ => return None,
    };
    let entries = entries as usize;
    let is_packed = bits == 8 && words.len() * 2 == entries + entries % 2;
    let words = if is_packed {
        words.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect()
    } else {
        words
    };
    let values: Arc<[f32]> = words.get(..entries)?.iter().map(|&word| f32::from(word)).collect();
    Some(Rescale::Table { first, values })
}
