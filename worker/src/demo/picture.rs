//! The overlay that the demonstration leaves behind.

use anyhow::Result;
use dicom_io::secondary_capture::{Overlay, render};
use dicom_io::seg::ReadSegment;
use dicom_io::series::Stack;

use crate::protocol::resolve;
use crate::segment::{NOTICE, png_of};

/// What the PACS received, drawn over the study on three planes, as PNG. Unions of other targets are left out: they
/// would hide them.
pub(super) fn overlay(stack: &Stack, segments: &[ReadSegment]) -> Result<Vec<u8>> {
    const UNIONS: [&str; 3] = ["body", "lung", "kidney"];
    let volume = stack.load()?;
    let mut overlays = Vec::new();
    for segment in segments.iter().filter(|s| !UNIONS.contains(&s.label.as_str())) {
        let rgb = resolve(&segment.label)?.first().map_or([255, 0, 0], |target| target.rgb);
        overlays.push(Overlay { label: &segment.label, rgb, mask: &segment.mask });
    }
    Ok(png_of(&render(&volume, stack.modality, &overlays, NOTICE))?)
}
