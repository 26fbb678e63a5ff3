//! Convolution, instance norm and activation, loaded and run as one unit.

use std::{ops::Range, sync::Arc};

use super::{
    Convolution,
    weights::{LoadNetworkError, TensorSource},
};
use crate::ops::cpu::{
    Arena, DirectWeights, FeatureMap, Level, Moments, Shape, Source, StemWeights,
    TransposedWeights, WinogradWeights,
};

/// A conv unit. Its convolution's bias is not read: the norm takes it away again.
#[derive(Debug)]
pub(crate) struct ConvUnit {
    kernel: Kernel,
    norm: Norm,
    step: usize,
}

#[derive(Debug)]
enum Kernel {
    Direct(DirectWeights),
    Winograd(WinogradWeights),
}

/// Largest transformed kernel of a layer. Beyond, a layer is so coarse that reading the kernel costs
/// more than the products it saves.
const MAX_TRANSFORMED_BYTES: usize = 128 << 20;

/// Learned scale and shift of an instance norm.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// A map that a unit is writing over, slab by slab.
pub(crate) struct Overwriting<'a> {
    unit: &'a ConvUnit,
    map: FeatureMap,
    moments: Moments,
}

impl Norm {
    fn load(
        weights: &dyn TensorSource,
        name: &str,
        channels: usize,
    ) -> Result<Self, LoadNetworkError> {
        let weight = weights.values(&format!("{name}.norm.weight"), &[channels])?;
        let bias = weights.values(&format!("{name}.norm.bias"), &[channels])?;
        Ok(Self { weight, bias })
    }
}

impl ConvUnit {
    /// Loads `{name}.conv` and `{name}.norm`; inputs are the channels of `sources` in turn.
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        level: Level,
        convolution: Convolution,
        sources: &[usize],
        outputs: usize,
        step: usize,
    ) -> Result<Self, LoadNetworkError> {
        let shape = [outputs, sources.iter().sum(), 3, 3, 3];
        let kernel = weights.values(&format!("{name}.conv.weight"), &shape)?;
        let fast = convolution == Convolution::Winograd
            && step == 1
            && WinogradWeights::bytes(outputs, sources) <= MAX_TRANSFORMED_BYTES;
        let kernel = if fast {
            Kernel::Winograd(WinogradWeights::pack(level, &kernel, outputs, sources))
        } else {
            Kernel::Direct(DirectWeights::pack(level, &kernel, outputs, sources, step))
        };
        Ok(Self { kernel, norm: Norm::load(weights, name, outputs)?, step })
    }

    /// Whether the output is coarser than the input.
    pub(crate) fn is_strided(&self) -> bool {
        self.step > 1
    }

    /// The unit's output as a map of its own.
    pub(crate) fn apply(&self, level: Level, arena: &Arc<Arena>, input: &FeatureMap) -> FeatureMap {
        let shape = input.shape.map(|length| length / self.step);
        let mut map = FeatureMap::new(arena, shape, self.norm.weight.len());
        let sources = [input.source()];
        let moments = self.kernel.apply(level, arena, &sources, map.data_mut(), 0..shape[0], shape);
        map.pending = Some(moments.pending(&self.norm.weight, &self.norm.bias));
        map
    }

    /// Begins to replace `map` by the unit's output, which is as large.
    pub(crate) fn overwrite(&self, map: FeatureMap) -> Overwriting<'_> {
        debug_assert!(self.step == 1 && map.channels == self.norm.weight.len());
        let moments = Moments::empty(map.stride());
        Overwriting { unit: self, map, moments }
    }
}

impl Kernel {
    fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        sources: &[Source<'_>],
        target: &mut [f32],
        planes: Range<usize>,
        shape: Shape,
    ) -> Moments {
        match self {
            Self::Direct(weights) => weights.apply(level, arena, sources, target, planes, shape),
            Self::Winograd(weights) => weights.apply(level, arena, sources, target, planes, shape),
        }
    }
}

impl Overwriting<'_> {
    /// Slabs of planes, in the order in which they must be written.
    pub(crate) fn slabs(&self) -> Vec<Range<usize>> {
        self.map.slabs()
    }

    /// Writes one slab. `joined` stands in front of the map's own channels where the unit reads two
    /// maps.
    pub(crate) fn write(
        &mut self,
        level: Level,
        arena: &Arc<Arena>,
        joined: Option<Source<'_>>,
        slab: Range<usize>,
    ) {
        let shape = self.map.shape;
        let (target, own) = self.map.overlay(&slab);
        let sources: Vec<Source<'_>> = joined.into_iter().chain([own]).collect();
        let moments = self.unit.kernel.apply(level, arena, &sources, target, slab, shape);
        self.moments.merge(&moments);
    }

    /// The new map with its normalisation pending.
    pub(crate) fn finish(mut self) -> FeatureMap {
        let norm = &self.unit.norm;
        self.map.settle_overlay(self.moments.pending(&norm.weight, &norm.bias));
        self.map
    }
}

/// The first conv unit.
#[derive(Debug)]
pub(crate) struct Stem {
    kernel: StemWeights,
    norm: Norm,
}

impl Stem {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        level: Level,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, LoadNetworkError> {
        let shape = [outputs, inputs, 3, 3, 3];
        let kernel = weights.values(&format!("{name}.conv.weight"), &shape)?;
        let kernel = StemWeights::pack(level, &kernel, outputs, inputs);
        Ok(Self { kernel, norm: Norm::load(weights, name, outputs)? })
    }

    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        window: &[f32],
        shape: Shape,
    ) -> FeatureMap {
        let mut map = FeatureMap::new(arena, shape, self.norm.weight.len());
        let moments = self.kernel.apply(level, arena, window, map.data_mut(), shape);
        map.pending = Some(moments.pending(&self.norm.weight, &self.norm.bias));
        map
    }
}

/// The transposed convolution in front of a decoder stage.
#[derive(Debug)]
pub(crate) struct Upsampling {
    kernel: TransposedWeights,
}

impl Upsampling {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        level: Level,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, LoadNetworkError> {
        let shape = [inputs, outputs, 2, 2, 2];
        let kernel = weights.values(&format!("{name}.weight"), &shape)?;
        let bias = weights.values(&format!("{name}.bias"), &[outputs])?;
        Ok(Self { kernel: TransposedWeights::pack(level, &kernel, &bias, inputs, outputs) })
    }

    /// Writes planes `planes` of the finer map.
    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        source: &Source<'_>,
        target: &mut [f32],
        planes: Range<usize>,
    ) {
        self.kernel.apply(level, arena, source, target, planes);
    }
}
