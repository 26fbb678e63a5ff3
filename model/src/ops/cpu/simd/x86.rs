//! AVX-512 and AVX2 with FMA.
#![expect(unsafe_code, reason = "vector instructions and the functions that enable them")]

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_div_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
    _mm256_min_ps, _mm256_mul_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_div_ps, _mm512_fmadd_ps,
    _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{Kernel, LANES, Lanes, Simd};
use crate::ops::cpu::gemm::{Operand, Product, multiply};

/// Proof that AVX-512F is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// Proof that AVX2 and FMA are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs one register-to-register instruction of a level whose token is at hand.
macro_rules! instruction {
    ($call:expr) => {{
        // SAFETY: the instruction touches no memory, and `self` exists only where it was detected.
        unsafe { $call }
    }};
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f")]
        fn enabled<K: Kernel>(kernel: K, token: Avx512) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: `self` exists only where AVX-512F was detected.
        unsafe { enabled(kernel, self) }
    }
}

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let detected = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma");
        detected.then_some(Self(()))
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn enabled<K: Kernel>(kernel: K, token: Avx2) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: `self` exists only where AVX2 and FMA were detected.
        unsafe { enabled(kernel, self) }
    }
}

impl Simd for Avx512 {
    type V = __m512;

    const PANEL: usize = 2 * LANES;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        instruction!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> __m512 {
        // SAFETY: the reference is valid for sixteen floats and the load needs no alignment;
        // `self` proves the instruction.
        unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m512, lanes: &mut Lanes) {
        // SAFETY: the reference is valid for sixteen floats and the store needs no alignment;
        // `self` proves the instruction.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        instruction!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        instruction!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        instruction!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn into_exponent(self, a: __m512) -> __m512 {
        let bits = instruction!(_mm512_castps_si512(a));
        let shifted = instruction!(_mm512_slli_epi32::<23>(bits));
        instruction!(_mm512_castsi512_ps(shifted))
    }

    #[inline(always)]
    fn multiply(self, product: Product<'_, impl Operand>) {
        multiply::<Self, 12, 4, 2>(self, product);
    }
}

/// An operation on both halves of a vector.
#[inline(always)]
fn both(
    a: [__m256; 2],
    b: [__m256; 2],
    operation: impl Fn(__m256, __m256) -> __m256,
) -> [__m256; 2] {
    [operation(a[0], b[0]), operation(a[1], b[1])]
}

impl Simd for Avx2 {
    type V = [__m256; 2];

    const PANEL: usize = LANES;

    #[inline(always)]
    fn splat(self, value: f32) -> [__m256; 2] {
        [instruction!(_mm256_broadcast_ss(&value)); 2]
    }

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> [__m256; 2] {
        let (low, high) = lanes.split_at(LANES / 2);
        // SAFETY: the slice is valid for eight floats and the load needs no alignment; `self`
        // proves the instruction.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        [low, high]
    }

    #[inline(always)]
    fn store(self, vector: [__m256; 2], lanes: &mut Lanes) {
        let (low, high) = lanes.split_at_mut(LANES / 2);
        // SAFETY: the slice is valid for eight floats and the store needs no alignment; `self`
        // proves the instruction.
        unsafe { _mm256_storeu_ps(low.as_mut_ptr(), vector[0]) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(high.as_mut_ptr(), vector[1]) };
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_add_ps(a, b)))
    }

    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_sub_ps(a, b)))
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_mul_ps(a, b)))
    }

    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_div_ps(a, b)))
    }

    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_max_ps(a, b)))
    }

    #[inline(always)]
    fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both(a, b, |a, b| instruction!(_mm256_min_ps(a, b)))
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        let low = instruction!(_mm256_fmadd_ps(a[0], b[0], c[0]));
        [low, instruction!(_mm256_fmadd_ps(a[1], b[1], c[1]))]
    }

    #[inline(always)]
    fn neg_mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        let low = instruction!(_mm256_fnmadd_ps(a[0], b[0], c[0]));
        [low, instruction!(_mm256_fnmadd_ps(a[1], b[1], c[1]))]
    }

    #[inline(always)]
    fn into_exponent(self, a: [__m256; 2]) -> [__m256; 2] {
        a.map(|half| {
            let bits = instruction!(_mm256_castps_si256(half));
            let shifted = instruction!(_mm256_slli_epi32::<23>(bits));
            instruction!(_mm256_castsi256_ps(shifted))
        })
    }

    #[inline(always)]
    fn multiply(self, product: Product<'_, impl Operand>) {
        multiply::<Self, 6, 2, 1>(self, product);
    }
}
