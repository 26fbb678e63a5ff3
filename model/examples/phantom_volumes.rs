//! Streams random phantoms, preprocessed as the segmenter does, to the training program.
//!
//! `phantom_volumes FIRST_SEED COUNT` writes COUNT records (0: without end) to standard output, little-endian, for
//! windows of `64×64×64` voxels of `6 mm × 5 mm × 6 mm`:
//!
//! * `i32` modality (0 CT, 1 MR), `i32[3]` extent of the image inside its window, `f32[3]` offset of the truth;
//! * `f32[64*64*64]` the normalised image, axes right, anterior, superior, the last fastest;
//! * `u16[64*64*64]` the structures at each voxel plus offset (in voxels, 0 to 1 on each axis), as bits in the order of
//!   `Structure::ALL`.

use std::io::{BufWriter, Write};

use prosector_model::Preprocessing;
use prosector_model::phantom::{Contrast, TrainingWindow};

/// How the phantom pack prepares a volume; `export.py` writes the same into its manifest.
const SETTINGS: Preprocessing = Preprocessing {
    spacing_mm: [6.0, 5.0, 6.0],
    window: [64, 64, 64],
    ct_clip_hu: [-250.0, 350.0],
    other_clip_percentiles: [0.5, 99.5],
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[first, count] = arguments.as_slice() else {
        return Err("usage: phantom_volumes FIRST_SEED COUNT".into());
    };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let end = if count == 0 { u64::MAX } else { first + count };
    for seed in first..end {
        write(&TrainingWindow::random(seed, &SETTINGS)?, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn write(window: &TrainingWindow, out: &mut impl Write) -> std::io::Result<()> {
    let modality: i32 = match window.contrast {
        Contrast::Ct => 0,
        Contrast::Mr => 1,
    };
    out.write_all(&modality.to_le_bytes())?;
    for size in window.extent {
        out.write_all(&(size as i32).to_le_bytes())?;
    }
    for shift in window.offset {
        out.write_all(&(shift as f32).to_le_bytes())?;
    }
    for value in &window.image {
        out.write_all(&value.to_le_bytes())?;
    }
    for structures in &window.structures {
        out.write_all(&structures.bits().to_le_bytes())?;
    }
    Ok(())
}
