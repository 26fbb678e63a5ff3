//! Numbers, labels, codes and colours of the segments.

use dicom::core::Tag;
use dicom::dictionary_std::tags;

use super::SegMismatch;
use super::object::{
    Item, Parsed, items, keyword, malformed, number, numbers, only_item, optional_item,
    optional_text, text,
};
use crate::coded_concept::CodedConcept;
use crate::seg::content::SegmentInput;
use crate::seg::enums::SegmentationType;

/// Most that a channel of 8 bits may be off after encoding and decoding.
const COLOR_TOLERANCE: u8 = 1;

pub(super) fn check(
    object: &Parsed<'_>,
    expected: &[SegmentInput<'_>],
    kind: SegmentationType,
) -> Result<(), SegMismatch> {
    let mut described = items(object.dataset, tags::SEGMENT_SEQUENCE)?;
    if kind == SegmentationType::Labelmap {
        check_background(&mut described)?;
    }
    if described.len() != expected.len() {
        let found = described.len();
        return Err(SegMismatch::SegmentCount { expected: expected.len(), found });
    }
    for (index, (item, segment)) in described.into_iter().zip(expected).enumerate() {
        let number = index as u16 + 1;
        check_segment(item, number, segment)?;
    }
    Ok(())
}

/// Takes the description of the value 0 of a label map off the front.
fn check_background(described: &mut Vec<Item<'_>>) -> Result<(), SegMismatch> {
    let tag = tags::SEGMENT_NUMBER;
    let Some(&first) = described.first() else { return Err(malformed(tags::SEGMENT_SEQUENCE)) };
    let type_item = only_item(first, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE)?;
    let is_background =
        number(first, tag)? == 0 && optional_text(type_item, tags::CODE_VALUE)? == Some("125040");
    if !is_background {
        return Err(SegMismatch::Segment { number: 0, attribute: keyword(tag) });
    }
    described.remove(0);
    Ok(())
}

fn check_segment(
    item: Item<'_>,
    expected_number: u16,
    segment: &SegmentInput<'_>,
) -> Result<(), SegMismatch> {
    let differs =
        |tag: Tag| SegMismatch::Segment { number: expected_number, attribute: keyword(tag) };
    if number(item, tags::SEGMENT_NUMBER)? != u32::from(expected_number) {
        return Err(differs(tags::SEGMENT_NUMBER));
    }
    let description = segment.description;
    if text(item, tags::SEGMENT_LABEL)? != description.label.as_str() {
        return Err(differs(tags::SEGMENT_LABEL));
    }
    if text(item, tags::SEGMENT_ALGORITHM_TYPE)? != "AUTOMATIC" {
        return Err(differs(tags::SEGMENT_ALGORITHM_TYPE));
    }

    let concept = &description.concept;
    let type_item = only_item(item, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE)?;
    let region_item = optional_item(item, tags::ANATOMIC_REGION_SEQUENCE)?;
    let region_modifier = match region_item {
        Some(region) => optional_item(region, tags::ANATOMIC_REGION_MODIFIER_SEQUENCE)?,
        None => None,
    };
    let expected_region_modifier =
        concept.anatomic_region.as_ref().and(concept.anatomic_region_modifier.as_ref());
    let codes = [
        (
            tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE,
            optional_item(item, tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE)?,
            Some(&concept.property_category),
        ),
        (
            tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE,
            Some(type_item),
            Some(&concept.property_type),
        ),
        (
            tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE,
            optional_item(type_item, tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE)?,
            concept.property_type_modifier.as_ref(),
        ),
        (tags::ANATOMIC_REGION_SEQUENCE, region_item, concept.anatomic_region.as_ref()),
        (tags::ANATOMIC_REGION_MODIFIER_SEQUENCE, region_modifier, expected_region_modifier),
    ];
    for (tag, found, expected) in codes {
        let alike = match (found, expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => is_concept(found, expected)?,
            _ => false,
        };
        if !alike {
            return Err(differs(tag));
        }
    }

    let color = numbers(item, tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE)?;
    let is_right_color = decoded_rgb(&color).is_some_and(|rgb| {
        rgb.iter().zip(description.rgb).all(|(&a, b)| a.abs_diff(b) <= COLOR_TOLERANCE)
    });
    if !is_right_color {
        return Err(differs(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE));
    }
    Ok(())
}

fn is_concept(item: Item<'_>, expected: &CodedConcept) -> Result<bool, SegMismatch> {
    let mut value = None;
    for tag in [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE] {
        value = value.or(optional_text(item, tag)?);
    }
    let is_urn = item.get(tags::URN_CODE_VALUE)?.is_some();
    let scheme = optional_text(item, tags::CODING_SCHEME_DESIGNATOR)?;
    let is_right_scheme = is_urn || scheme == Some(expected.scheme_designator());
    Ok(is_right_scheme
        && value == Some(expected.value())
        && optional_text(item, tags::CODE_MEANING)? == Some(expected.meaning()))
}

/// sRGB of an encoded CIELab value, as a viewer computes it (white point D65).
fn decoded_rgb(encoded: &[u32]) -> Option<[u8; 3]> {
    let &[l, a, b] = encoded else { return None };
    let l = f64::from(l) / 65535.0 * 100.0;
    let a = f64::from(a) / 65535.0 * 255.0 - 128.0;
    let b = f64::from(b) / 65535.0 * 255.0 - 128.0;
    let fy = (l + 16.0) / 116.0;
    let [x, y, z] =
        [(fy + a / 500.0, 0.950_456), (fy, 1.0), (fy - b / 200.0, 1.089_058)].map(|(f, white)| {
            white * if f > 6.0 / 29.0 { f.powi(3) } else { (f - 4.0 / 29.0) / 7.787_037 }
        });
    // XYZ to linear sRGB, IEC 61966-2-1.
    let linear = [
        3.240_969_9 * x - 1.537_383_2 * y - 0.498_610_8 * z,
        -0.969_243_6 * x + 1.875_967_5 * y + 0.041_555_1 * z,
        0.055_630_1 * x - 0.203_977 * y + 1.056_971_5 * z,
    ];
    Some(linear.map(|v| {
        let v = v.clamp(0.0, 1.0);
        let encoded = if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seg::recommended_display_cielab;

    #[test]
    fn every_color_comes_back_within_the_tolerance() {
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(15) {
                for b in (0..=255).step_by(15) {
                    let rgb = [r, g, b];
                    let encoded = recommended_display_cielab(rgb).map(u32::from);
                    let back = decoded_rgb(&encoded).unwrap();
                    let off = back.iter().zip(rgb).map(|(&a, b)| a.abs_diff(b)).max();
                    assert!(off <= Some(COLOR_TOLERANCE), "{rgb:?} came back as {back:?}");
                }
            }
        }
    }
}
