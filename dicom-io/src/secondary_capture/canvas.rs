//! A picture to draw on.

use super::Preview;

/// Behind panels and legend.
const BACKGROUND: [u8; 3] = [16, 18, 22];

/// An RGB picture; what is drawn outside of it is lost.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let rgb = BACKGROUND.iter().copied().cycle().take(3 * width * height).collect();
        Self { width, height, rgb }
    }

    pub(super) fn set(&mut self, column: usize, row: usize, pixel: [u8; 3]) {
        if column < self.width && row < self.height {
            let first = 3 * (row * self.width + column);
            self.rgb[first..first + 3].copy_from_slice(&pixel);
        }
    }

    pub(super) fn fill(&mut self, [left, top]: [usize; 2], size: [usize; 2], pixel: [u8; 3]) {
        for row in top..top + size[1] {
            for column in left..left + size[0] {
                self.set(column, row, pixel);
            }
        }
    }

    pub(super) fn into_preview(self) -> Preview {
        Preview { width: self.width, height: self.height, rgb: self.rgb }
    }
}
