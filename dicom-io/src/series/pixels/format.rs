//! Shape of a frame and of its samples.

use dicom::dictionary_std::tags;

use crate::series::attributes::Attributes;

/// Most pixels of a frame, 8192 x 8192: a header costs nothing to write, and decoders reserve what it says.
const MAX_PIXELS: usize = 1 << 26;

/// Image Pixel attributes (PS3.3 C.7.6.3) of images with one grey value per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::series) struct PixelFormat {
    pub(in crate::series) rows: u16,
    pub(in crate::series) columns: u16,
    /// 8, 16 or 32.
    pub(in crate::series) bits_allocated: u32,
    /// From 1 to `bits_allocated`.
    pub(in crate::series) bits_stored: u32,
    /// From `bits_stored - 1` to `bits_allocated - 1`.
    pub(super) high_bit: u32,
    pub(in crate::series) is_signed: bool,
}

impl PixelFormat {
    /// Reads and checks the attributes; the error says what is unusual.
    ///
    /// MONOCHROME1 passes like MONOCHROME2: which end is shown bright does not change the stored values.
    pub(in crate::series) fn read(dataset: Attributes<'_>) -> Result<Self, &'static str> {
        let samples_per_pixel = dataset.parsed::<u16>(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let photometric = dataset.text(tags::PHOTOMETRIC_INTERPRETATION);
        let is_grey = matches!(photometric.as_deref(), None | Some("MONOCHROME1" | "MONOCHROME2"));
        if samples_per_pixel != 1 || !is_grey {
            return Err("colour");
        }
        let positive = |tag| dataset.parsed::<u16>(tag).filter(|&n| n > 0);
        let rows = positive(tags::ROWS).ok_or("no valid Rows")?;
        let columns = positive(tags::COLUMNS).ok_or("no valid Columns")?;
        if usize::from(rows) * usize::from(columns) > MAX_PIXELS {
            return Err("more pixels than any cross-section has");
        }
        let bits_allocated =
            dataset.parsed(tags::BITS_ALLOCATED).ok_or("no valid Bits Allocated")?;
        if !matches!(bits_allocated, 8 | 16 | 32) {
            return Err("Bits Allocated is none of 8, 16, 32");
        }
        let bits_stored = match dataset.text(tags::BITS_STORED) {
            None => bits_allocated,
            Some(text) => text.parse().map_err(|_| "no valid Bits Stored")?,
        };
        if !(1..=bits_allocated).contains(&bits_stored) {
            return Err("no valid Bits Stored");
        }
        let high_bit = match dataset.text(tags::HIGH_BIT) {
            None => bits_stored - 1,
            Some(text) => text.parse().map_err(|_| "no valid High Bit")?,
        };
        if !(bits_stored - 1..bits_allocated).contains(&high_bit) {
            return Err("no valid High Bit");
        }
        let is_signed = match dataset.parsed::<u16>(tags::PIXEL_REPRESENTATION) {
            None | Some(0) => false,
            Some(1) => true,
            Some(_) => return Err("no valid Pixel Representation"),
        };
        Ok(Self { rows, columns, bits_allocated, bits_stored, high_bit, is_signed })
    }

    /// Pixels of a frame.
    pub(super) fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of a sample.
    pub(super) fn sample_bytes(&self) -> usize {
        self.bits_allocated as usize / 8
    }

    /// Bytes of an uncompressed frame.
    pub(super) fn frame_bytes(&self) -> usize {
        self.pixels() * self.sample_bytes()
    }

    /// Columns x rows x samples, for errors.
    pub(super) fn describe(&self) -> String {
        format!("{}x{}x1", self.columns, self.rows)
    }
}
