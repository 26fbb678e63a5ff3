//! The vision network: a plain U-Net whose maps are normalised by their readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Convolution,
    conv_unit::{ConvUnit, Stem, Upsampling},
    weights::{LoadNetworkError, TensorSource},
};
use crate::{
    ops::cpu::{Arena, FeatureMap, Level, Source, average_pool},
    pack::Architecture,
};

#[derive(Debug)]
pub(crate) struct Backbone {
    stem: Stem,
    /// Units of every encoder stage; the first stage lacks the stem.
    encoder: Vec<Vec<ConvUnit>>,
    decoder: Vec<DecoderStage>,
    level: Level,
}

#[derive(Debug)]
struct DecoderStage {
    upsampling: Upsampling,
    /// Reads the upsampled map and the skip, side by side.
    joining: ConvUnit,
    units: Vec<ConvUnit>,
}

/// What the vision network finds in a window.
#[derive(Debug)]
pub(crate) struct Vision {
    /// Features of every voxel, `C0` channels.
    pub(crate) voxels: FeatureMap,
    /// Time of every stage, in order.
    pub(crate) timings: Vec<StageTiming>,
    /// Pooled encoder maps side by side on the coarsest grid, `[h, w, d, sum of channels]`.
    pub(crate) tokens: Vec<f32>,
}

/// Time that one stage of the vision network took.
#[derive(Debug, Clone)]
pub struct StageTiming {
    /// `enc0` and on from the finest, then `dec0` and on from the coarsest.
    pub name: String,
    /// Wall-clock time.
    pub duration: Duration,
}

/// The caller wanted no more.
#[derive(Debug)]
pub(crate) struct Cancelled;

/// Sees each finished map by name: `enc0` and on from the finest, then `dec0` and on from the
/// coarsest.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(&str, &FeatureMap);

impl Backbone {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        architecture: &Architecture,
        level: Level,
        convolution: Convolution,
    ) -> Result<Self, LoadNetworkError> {
        let channels = &architecture.channels;
        let levels = channels.len();
        let load = |name: &str, sources: &[usize], resolution: usize, step: usize| {
            let output = channels[resolution];
            let convolution =
                if resolution > FAST_LEVELS { Convolution::Direct } else { convolution };
            ConvUnit::load(weights, name, level, convolution, sources, output, step)
        };
        let stem = Stem::load(
            weights,
            &encoder_unit(0, 0),
            level,
            architecture.input_channels,
            channels[0],
        )?;
        let mut encoder = Vec::with_capacity(levels);
        for resolution in 0..levels {
            let mut units = Vec::with_capacity(architecture.encoder_units);
            if resolution > 0 {
                let name = encoder_unit(resolution, 0);
                units.push(load(&name, &[channels[resolution - 1]], resolution, 2)?);
            }
            for unit in 1..architecture.encoder_units {
                let name = encoder_unit(resolution, unit);
                units.push(load(&name, &[channels[resolution]], resolution, 1)?);
            }
            encoder.push(units);
        }
        let mut decoder = Vec::with_capacity(levels - 1);
        for stage in 0..levels - 1 {
            let resolution = levels - 2 - stage;
            let high = channels[resolution];
            let low = channels[resolution + 1];
            let joining = load(&decoder_unit(stage, 0), &[high, high], resolution, 1)?;
            let units = (1..architecture.decoder_units)
                .map(|unit| load(&decoder_unit(stage, unit), &[high], resolution, 1));
            decoder.push(DecoderStage {
                upsampling: Upsampling::load(weights, &upsampling(stage), level, low, high)?,
                joining,
                units: units.collect::<Result<_, _>>()?,
            });
        }
        Ok(Self { stem, encoder, decoder, level })
    }

    /// Runs the network on `window`, `[h, w, d]`, every side a multiple of `2^(levels - 1)`.
    pub(crate) fn run(
        &self,
        arena: &Arc<Arena>,
        window: &[f32],
        shape: [usize; 3],
        cancel: &AtomicBool,
        observe: Observer<'_>,
    ) -> Result<Vision, Cancelled> {
        let go_on = || if cancel.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) };
        go_on()?;
        let mut timings = Vec::with_capacity(2 * self.encoder.len());
        let mut begin = Instant::now();
        let mut finish = |name: String, map: &FeatureMap| {
            timings.push(StageTiming { name, duration: begin.elapsed() });
            observe(&timings[timings.len() - 1].name, map);
            begin = Instant::now();
        };
        let mut map = self.stem.apply(self.level, arena, window, shape);
        let coarsest = self.encoder.len() - 1;
        let mut skips = Vec::with_capacity(coarsest);
        let mut pooled = Vec::with_capacity(coarsest + 1);
        for (resolution, units) in self.encoder.iter().enumerate() {
            for unit in units {
                if unit.is_strided() {
                    go_on()?;
                    let coarser = unit.apply(self.level, arena, &map);
                    skips.push(std::mem::replace(&mut map, coarser));
                } else {
                    map = convolve(unit, self.level, arena, map, &go_on)?;
                }
            }
            pooled.push(average_pool(self.level, &map, 1 << (coarsest - resolution)));
            finish(format!("enc{resolution}"), &map);
        }
        let channels: Vec<usize> =
            skips.iter().chain(std::iter::once(&map)).map(|map| map.channels).collect();
        let tokens = side_by_side(&pooled, &channels);

        for (stage, parts) in self.decoder.iter().enumerate() {
            let skip = skips.pop().expect("one skip was kept per decoder stage");
            map = parts.join(self.level, arena, &map, skip, &go_on)?;
            for unit in &parts.units {
                map = convolve(unit, self.level, arena, map, &go_on)?;
            }
            finish(format!("dec{stage}"), &map);
        }
        Ok(Vision { voxels: map, timings, tokens })
    }
}

/// Coarsest resolution whose layers use the fast convolution: beyond, transformed weights outgrow
/// what they save.
const FAST_LEVELS: usize = 3;

impl DecoderStage {
    /// Upsamples `low` slab by slab and convolves it together with `skip`, over `skip`: neither the
    /// upsampled map nor the concatenation nor a second map of this size ever exists.
    fn join(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        low: &FeatureMap,
        skip: FeatureMap,
        go_on: &dyn Fn() -> Result<(), Cancelled>,
    ) -> Result<FeatureMap, Cancelled> {
        let (shape, stride, plane) = (skip.shape, skip.stride(), skip.plane());
        let mut upsampled = arena.take((skip.slab() + 2).min(shape[0]) * plane);
        let mut output = self.joining.overwrite(skip);
        for slab in output.slabs() {
            go_on()?;
            let planes = slab.start.saturating_sub(1)..(slab.end + 1).min(shape[0]);
            let values = &mut upsampled[..planes.len() * plane];
            self.upsampling.apply(level, arena, &low.source(), values, planes.clone());
            let source = Source { values, planes, shape, stride, pending: None };
            output.write(level, arena, Some(source), slab);
        }
        Ok(output.finish())
    }
}

/// A stride-1 unit over a map, in the map's own buffer.
fn convolve(
    unit: &ConvUnit,
    level: Level,
    arena: &Arc<Arena>,
    map: FeatureMap,
    go_on: &dyn Fn() -> Result<(), Cancelled>,
) -> Result<FeatureMap, Cancelled> {
    let mut output = unit.overwrite(map);
    for slab in output.slabs() {
        go_on()?;
        output.write(level, arena, None, slab);
    }
    Ok(output.finish())
}

/// Joins per-level channels of every grid position.
fn side_by_side(levels: &[Vec<f32>], channels: &[usize]) -> Vec<f32> {
    let positions = levels[0].len() / channels[0];
    let mut joined = Vec::with_capacity(levels.iter().map(Vec::len).sum());
    for position in 0..positions {
        for (values, &channels) in levels.iter().zip(channels) {
            joined.extend_from_slice(&values[position * channels..(position + 1) * channels]);
        }
    }
    joined
}

/// Name of a conv unit of the encoder.
fn encoder_unit(resolution: usize, unit: usize) -> String {
    format!("backbone.encoder.stages.{resolution}.0.convs.{unit}")
}

/// Name of a conv unit of the decoder; stage 0 is the coarsest.
fn decoder_unit(stage: usize, unit: usize) -> String {
    format!("backbone.decoder.stages.{stage}.convs.{unit}")
}

/// Name of the transposed convolution in front of a decoder stage.
fn upsampling(stage: usize) -> String {
    format!("backbone.decoder.transpconvs.{stage}")
}
