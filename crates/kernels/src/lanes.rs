//! Sixteen f32 lanes under three instruction sets, for loops whose registers must be laid out by hand.
//!
//! A lane is an output. Every operation is IEEE-exact per lane, so the three implementations agree to the bit.

/// Sixteen f32 values.
///
/// # Safety
/// Methods may only be called (and inlined) in functions compiled for the implementation's instruction
/// set; pointers must be valid for sixteen values, of any alignment.
pub(crate) unsafe trait Lanes: Copy {
    /// How many rows of `x` a tile takes, so that accumulators stay in registers.
    const TILE: usize;
    /// Rows and strips of sixteen columns of a tile whose both sides are packed.
    const ROWS: usize;
    const STRIPS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Sixteen f16 values, widened.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Sixteen 8-bit integers.
    unsafe fn load_i8(from: *const i8) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
}

// SAFETY: plain Rust, correct on every processor.
unsafe impl Lanes for [f32; 16] {
    const TILE: usize = 2;
    const ROWS: usize = 2;
    const STRIPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 16]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer is valid for sixteen values.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: the caller's pointer is valid for sixteen values.
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        bits.map(|bits| half::f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller's pointer is valid for sixteen values.
        unsafe { from.cast::<[i8; 16]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's pointer is valid for sixteen values.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        std::array::from_fn(|i| self[i].mul_add(b[i], c[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2Lanes, Avx512Lanes};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_loadu_si128, _mm_srli_si128, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
        _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_ps,
        _mm256_storeu_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::Lanes;

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Lanes(pub(crate) __m256, pub(crate) __m256);

    // SAFETY: needs AVX2 and FMA, as the trait's contract says.
    unsafe impl Lanes for Avx2Lanes {
        // 16 registers: 4 rows of two accumulators, two operands, one broadcast.
        const TILE: usize = 4;
        // 6 rows of two accumulators, two operands, one broadcast: 15 of 16 registers.
        const ROWS: usize = 6;
        const STRIPS: usize = 1;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller's function is compiled for AVX2.
            let half = unsafe { _mm256_set1_ps(value) };
            Self(half, half)
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            let low = unsafe { _mm256_loadu_ps(from) };
            // SAFETY: as above; eight values on.
            let above = unsafe { from.add(8) };
            // SAFETY: as above.
            Self(low, unsafe { _mm256_loadu_ps(above) })
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            let low = unsafe { _mm_loadu_si128(from.cast()) };
            // SAFETY: as above; eight values on.
            let above = unsafe { from.add(8) };
            // SAFETY: as above.
            let high = unsafe { _mm_loadu_si128(above.cast()) };
            // SAFETY: the caller's function is compiled for F16C.
            let low = unsafe { _mm256_cvtph_ps(low) };
            // SAFETY: as above.
            Self(low, unsafe { _mm256_cvtph_ps(high) })
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            let bytes = unsafe { _mm_loadu_si128(from.cast()) };
            // SAFETY: the caller's function is compiled for AVX2.
            let low = unsafe { _mm256_cvtepi8_epi32(bytes) };
            // SAFETY: as above.
            let above = unsafe { _mm_srli_si128::<8>(bytes) };
            // SAFETY: as above.
            let high = unsafe { _mm256_cvtepi8_epi32(above) };
            // SAFETY: as above.
            let low = unsafe { _mm256_cvtepi32_ps(low) };
            // SAFETY: as above.
            Self(low, unsafe { _mm256_cvtepi32_ps(high) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's pointer is valid for sixteen values.
            unsafe { _mm256_storeu_ps(to, self.0) };
            // SAFETY: as above; eight values on.
            let above = unsafe { to.add(8) };
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(above, self.1) };
        }

        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller's function is compiled for FMA.
            let low = unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) };
            // SAFETY: as above.
            Self(low, unsafe { _mm256_fmadd_ps(self.1, b.1, c.1) })
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Lanes(pub(crate) __m512);

    // SAFETY: needs AVX-512 F, as the trait's contract says.
    unsafe impl Lanes for Avx512Lanes {
        const TILE: usize = 8;
        // 8 rows of three accumulators, three operands, one broadcast: 28 of 32 registers.
        const ROWS: usize = 8;
        const STRIPS: usize = 3;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller's function is compiled for AVX-512 F.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            let bits = unsafe { _mm256_loadu_si256(from.cast()) };
            // SAFETY: the caller's function is compiled for AVX-512 F.
            Self(unsafe { _mm512_cvtph_ps(bits) })
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            // SAFETY: the caller's pointer is valid for sixteen values.
            let bytes = unsafe { _mm_loadu_si128(from.cast()) };
            // SAFETY: the caller's function is compiled for AVX-512 F.
            let wide = unsafe { _mm512_cvtepi8_epi32(bytes) };
            // SAFETY: as above.
            Self(unsafe { _mm512_cvtepi32_ps(wide) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's pointer is valid for sixteen values.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller's function is compiled for AVX-512 F.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
    }
}
