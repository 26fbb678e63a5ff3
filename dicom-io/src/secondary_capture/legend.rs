//! What the colours mean.

use dicom_types::GridGeometry;

use super::Overlay;
use super::canvas::Canvas;
use super::font;

/// Least width of a picture, so that the notice fits.
pub(super) const MIN_WIDTH: usize = 720;

const SCALE: usize = 2;
const LINE_HEIGHT: usize = 24;
const SWATCH: usize = 16;
const GAP: usize = 10;
const LABEL: [u8; 3] = [226, 228, 232];
const QUIET: [u8; 3] = [150, 154, 162];

/// Names, colours and volumes in columns, then the notice.
#[derive(Debug)]
pub(super) struct Legend {
    entries: Vec<Entry>,
    column_width: usize,
    rows: usize,
    notice: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    rgb: [u8; 3],
    label: String,
    volume: String,
}

impl Legend {
    pub(super) fn new(
        geometry: &GridGeometry,
        overlays: &[Overlay<'_>],
        notice: &str,
        width: usize,
    ) -> Self {
        let entries: Vec<_> = overlays
            .iter()
            .map(|overlay| {
                let volume_ml = overlay.mask.count() as f64 * geometry.voxel_volume_mm3() / 1000.0;
                let digits = usize::from(volume_ml < 99.95);
                Entry {
                    rgb: overlay.rgb,
                    label: overlay.label.to_owned(),
                    volume: format!("{volume_ml:.digits$} mL"),
                }
            })
            .collect();
        let widest = entries.iter().map(Entry::width).max().unwrap_or(0);
        let column_width = (widest + 3 * GAP).min(width);
        let columns = (width / column_width.max(1)).clamp(1, entries.len().max(1));
        let rows = entries.len().div_ceil(columns);
        Self { entries, column_width, rows, notice: wrapped(notice, width) }
    }

    pub(super) fn height(&self) -> usize {
        (self.rows + self.notice.len()) * LINE_HEIGHT + self.space()
    }

    /// Pixels between names and notice.
    fn space(&self) -> usize {
        if self.rows > 0 && !self.notice.is_empty() { LINE_HEIGHT / 2 } else { 0 }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, [left, top]: [usize; 2]) {
        for (index, entry) in self.entries.iter().enumerate() {
            let x = left + index / self.rows * self.column_width;
            let y = top + index % self.rows * LINE_HEIGHT;
            canvas.fill([x, y], [SWATCH, SWATCH], entry.rgb);
            let label_left = x + SWATCH + GAP;
            font::draw(canvas, [label_left, y], &entry.label, SCALE, LABEL);
            let volume_left = label_left + font::size(&entry.label, SCALE)[0] + GAP;
            font::draw(canvas, [volume_left, y], &entry.volume, SCALE, QUIET);
        }
        for (index, line) in self.notice.iter().enumerate() {
            let y = top + (self.rows + index) * LINE_HEIGHT + self.space();
            font::draw(canvas, [left, y], line, SCALE, QUIET);
        }
    }
}

impl Entry {
    fn width(&self) -> usize {
        let texts = [&self.label, &self.volume].map(|text| font::size(text, SCALE)[0]);
        SWATCH + 2 * GAP + texts[0] + texts[1]
    }
}

/// `text` in lines of at most `width` pixels, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if font::size(&format!("{line} {word}"), SCALE)[0] <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
