//! Vectors of sixteen floats at three instruction levels, chosen when the program starts.
//!
//! Every kernel is written once over [`Simd`]. A level's token can only be had where its
//! instructions were detected, so holding one proves that they may run.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use portable::Portable;

/// Floats in a vector; every map pads its channels to a multiple of it.
pub(crate) const LANES: usize = 16;

/// One vector in memory.
pub(crate) type Lanes = [f32; LANES];

/// Arithmetic on vectors of sixteen floats.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen floats in registers.
    type V: Copy;

    /// Columns of a packed weight panel at this level, a multiple of [`LANES`].
    const PANEL: usize;

    fn splat(self, value: f32) -> Self::V;
    fn load(self, lanes: &Lanes) -> Self::V;
    fn store(self, vector: Self::V, lanes: &mut Lanes);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a·b`
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Shifts the bit pattern of every lane left by 23: what turns a biased integer in the low
    /// mantissa bits into the power of two that has it as exponent.
    fn into_exponent(self, a: Self::V) -> Self::V;
    /// Accumulates rows times a panel, see [`gemm`](super::gemm).
    fn multiply(self, product: super::gemm::Product<'_, impl super::gemm::Operand>);
}

/// A computation that runs at whatever level the machine has.
pub(crate) trait Kernel {
    type Output;
    /// Must be inlined always, so that it is compiled with the level's instructions.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instructions that kernels may use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    Portable(Portable),
}

impl Level {
    /// The best level of this machine.
    pub(crate) fn detect() -> Self {
        Self::available()[0]
    }

    /// Every level of this machine, best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(x86::Avx512::detect().map(Self::Avx512));
            levels.extend(x86::Avx2::detect().map(Self::Avx2));
        }
        levels.push(Self::Portable(Portable));
        levels
    }

    /// Columns of a packed weight panel.
    pub(crate) fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => x86::Avx512::PANEL,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => x86::Avx2::PANEL,
            Self::Portable(_) => Portable::PANEL,
        }
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.run(kernel),
            Self::Portable(token) => kernel.run(token),
        }
    }

    /// Name for reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2+FMA",
            Self::Portable(_) => "portable",
        }
    }
}
