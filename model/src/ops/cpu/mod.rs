//! The operations on processor cores, on the thread pool that is current.
//!
//! Work is split in blocks that depend on shapes alone, each block's arithmetic has one order, and
//! partial sums are merged in block order: results are the same bits for any number of threads.
#![expect(
    clippy::inline_always,
    reason = "a kernel's parts must be compiled with the instructions of the level they run at"
)]

mod arena;
mod blocks;
mod buffer;
mod direct;
mod gemm;
mod map;
mod masks;
mod pool;
mod simd;
mod statistics;
mod stem;
#[cfg(test)]
mod tests;
mod transposed;
mod winograd;

pub(crate) use arena::Arena;
pub(crate) use direct::DirectWeights;
pub(crate) use map::{FeatureMap, Shape, Source};
pub(crate) use masks::{MaskWeights, masks};
pub(crate) use pool::average_pool;
pub(crate) use simd::Level;
pub(crate) use statistics::Moments;
pub(crate) use stem::StemWeights;
pub(crate) use transposed::TransposedWeights;
pub(crate) use winograd::WinogradWeights;
