//! A picture of the masks over the volume.

use dicom_io::secondary_capture::{Overlay, Preview, render};
use dicom_types::{Mask, Modality, Volume};

use super::encode::NOTICE;
use super::order::Order;

/// Draws three planes of the patient through the masks, as PNG.
///
/// # Errors
/// When the picture cannot be encoded.
pub(crate) fn preview_png(
    volume: &Volume,
    modality: Modality,
    order: &Order,
    masks: &[Mask],
) -> Result<Vec<u8>, png::EncodingError> {
    png_of(&render(volume, modality, &overlays(order, masks), NOTICE))
}

/// The masks of an order with the names and colours of its targets.
pub(super) fn overlays<'a>(order: &'a Order, masks: &'a [Mask]) -> Vec<Overlay<'a>> {
    let of_targets = order.targets.iter().zip(masks);
    of_targets
        .map(|(target, mask)| Overlay { label: &target.prompt, rgb: target.rgb, mask })
        .collect()
}

/// A picture as PNG.
///
/// # Errors
/// When it cannot be encoded.
pub(crate) fn png_of(picture: &Preview) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&picture.rgb)?;
    Ok(bytes)
}
