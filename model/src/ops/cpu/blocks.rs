//! Division of an output into blocks that threads may write at the same time.

use std::ops::Range;

use super::map::Shape;

/// Part of a map: some planes across `h`, some rows along `w`, everything along `d`.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) h: Range<usize>,
    pub(crate) w: Range<usize>,
    /// One slice per plane of `h`, each `[w][d][stride]`.
    pub(crate) planes: Vec<&'a mut [f32]>,
}

/// Cuts planes `planes` of a map, held in `values`, into blocks of at most `height` planes and
/// `width` rows.
///
/// `height` divides the number of planes except for the last block.
pub(crate) fn blocks(
    values: &mut [f32],
    planes: Range<usize>,
    shape: Shape,
    stride: usize,
    [height, width]: [usize; 2],
) -> Vec<Block<'_>> {
    let row = shape[2] * stride;
    let strips = shape[1].div_ceil(width);
    let mut blocks = Vec::with_capacity(planes.len().div_ceil(height) * strips);
    for (index, slab) in values.chunks_mut(height * shape[1] * row).enumerate() {
        let first = planes.start + index * height;
        let h = first..(first + height).min(planes.end);
        let start = blocks.len();
        blocks.extend((0..strips).map(|strip| Block {
            h: h.clone(),
            w: strip * width..((strip + 1) * width).min(shape[1]),
            planes: Vec::with_capacity(height),
        }));
        for plane in slab.chunks_mut(shape[1] * row) {
            for (strip, rows) in plane.chunks_mut(width * row).enumerate() {
                blocks[start + strip].planes.push(rows);
            }
        }
    }
    blocks
}

/// Width near `wanted` that cuts `length` evenly.
pub(crate) fn even_width(length: usize, wanted: usize) -> usize {
    length.div_ceil(length.div_ceil(wanted.max(1)))
}
