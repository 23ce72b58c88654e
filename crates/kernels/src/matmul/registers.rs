//! Sixteen 32-bit words under two instruction sets: the lanes of a panel, each an i32 or a pair of 16-bit integers.
//!
//! A lane is an output. Integer operations are exact and the float ones round once per lane, so the two
//! implementations agree to the bit.

use crate::lanes::Lanes;

/// Sixteen 32-bit words.
///
/// # Safety
/// Methods may only be called (and inlined) in functions compiled for the implementation's instruction
/// set; pointers must be valid for what a method reads or writes, of any alignment.
pub(super) unsafe trait Words: Copy {
    type Floats: Lanes;
    /// Rows of x whose sums stay in registers beside weights that are widened on the way.
    const NARROW_TILE: usize;
    /// Rows of x whose sums stay in registers beside weights that were widened before.
    const WIDE_TILE: usize;

    unsafe fn splat(value: i32) -> Self;
    /// Reads 64 bytes.
    unsafe fn load(from: *const u8) -> Self;
    /// Writes 64 bytes.
    unsafe fn store(self, to: *mut u8);
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// `self - other` of 16-bit integers.
    unsafe fn minus(self, other: Self) -> Self;
    /// Shifts 16-bit integers up; a count that is known when compiling costs nothing.
    unsafe fn left(self, count: i32) -> Self;
    /// Shifts 16-bit integers down.
    unsafe fn right(self, count: i32) -> Self;
    /// Adds to each i32 the products of the two 16-bit integers of its lane in `weights` with the pair at
    /// `x` plus `BYTES`.
    unsafe fn add_products<const BYTES: usize>(self, weights: Self, x: *const i32) -> Self;
    /// `scale · f32(self) + acc`.
    unsafe fn add_scaled(self, scale: Self::Floats, acc: Self::Floats) -> Self::Floats;
    unsafe fn product(a: Self::Floats, b: Self::Floats) -> Self::Floats;
}

pub(super) use x86::{Avx2Words, Avx512Words};

#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers both halves of a register pair")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_cvtsi32_si128, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
        _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_sll_epi16,
        _mm256_srl_epi16, _mm256_storeu_si256, _mm256_sub_epi16, _mm512_and_si512, _mm512_cvtepi32_ps,
        _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi32,
        _mm512_sll_epi16, _mm512_srl_epi16, _mm512_storeu_si512, _mm512_sub_epi16,
    };

    use super::Words;
    use crate::lanes::{Avx2Lanes, Avx512Lanes};

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2Words(__m256i, __m256i);

    // SAFETY: needs AVX2, FMA and F16C, as the trait's contract says.
    unsafe impl Words for Avx2Words {
        type Floats = Avx2Lanes;
        // 16 registers: two sums a row, two of weights, a pair of x and a product. Float sums wait in memory.
        const NARROW_TILE: usize = 4;
        const WIDE_TILE: usize = 6;

        #[inline(always)]
        unsafe fn splat(value: i32) -> Self {
            // SAFETY: the caller's function is compiled for AVX2.
            let half = unsafe { _mm256_set1_epi32(value) };
            Self(half, half)
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            // SAFETY: the caller's pointer is readable for 64 bytes.
            unsafe { Self(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u8) {
            // SAFETY: the caller's pointer is writable for 64 bytes.
            unsafe {
                _mm256_storeu_si256(to.cast(), self.0);
                _mm256_storeu_si256(to.add(32).cast(), self.1);
            }
        }

        #[inline(always)]
        unsafe fn and(self, other: Self) -> Self {
            // SAFETY: the caller's function is compiled for AVX2.
            unsafe { Self(_mm256_and_si256(self.0, other.0), _mm256_and_si256(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_or_si256(self.0, other.0), _mm256_or_si256(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn minus(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_sub_epi16(self.0, other.0), _mm256_sub_epi16(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn left(self, count: i32) -> Self {
            // SAFETY: as above.
            unsafe {
                let count = _mm_cvtsi32_si128(count);
                Self(_mm256_sll_epi16(self.0, count), _mm256_sll_epi16(self.1, count))
            }
        }

        #[inline(always)]
        unsafe fn right(self, count: i32) -> Self {
            // SAFETY: as above.
            unsafe {
                let count = _mm_cvtsi32_si128(count);
                Self(_mm256_srl_epi16(self.0, count), _mm256_srl_epi16(self.1, count))
            }
        }

        #[inline(always)]
        unsafe fn add_products<const BYTES: usize>(self, weights: Self, x: *const i32) -> Self {
            // SAFETY: the caller's function is compiled for AVX2; the pair is readable.
            unsafe { multiply_add_pair::<BYTES>(self, weights, x) }
        }

        #[inline(always)]
        unsafe fn add_scaled(self, scale: Avx2Lanes, acc: Avx2Lanes) -> Avx2Lanes {
            // SAFETY: the caller's function is compiled for AVX2 and FMA.
            unsafe {
                Avx2Lanes(
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(self.0), scale.0, acc.0),
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(self.1), scale.1, acc.1),
                )
            }
        }

        #[inline(always)]
        unsafe fn product(a: Avx2Lanes, b: Avx2Lanes) -> Avx2Lanes {
            // SAFETY: the caller's function is compiled for AVX2.
            unsafe { Avx2Lanes(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        }
    }

    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512Words(__m512i);

    // SAFETY: needs AVX-512 F, BW, VL and VNNI, as the trait's contract says.
    unsafe impl Words for Avx512Words {
        type Floats = Avx512Lanes;
        // 32 registers: an integer and a float sum a row, four of weights, a few of scales.
        const NARROW_TILE: usize = 8;
        const WIDE_TILE: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: i32) -> Self {
            // SAFETY: the caller's function is compiled for AVX-512.
            Self(unsafe { _mm512_set1_epi32(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            // SAFETY: the caller's pointer is readable for 64 bytes.
            Self(unsafe { _mm512_loadu_si512(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u8) {
            // SAFETY: the caller's pointer is writable for 64 bytes.
            unsafe { _mm512_storeu_si512(to.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn and(self, other: Self) -> Self {
            // SAFETY: the caller's function is compiled for AVX-512.
            Self(unsafe { _mm512_and_si512(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_or_si512(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn minus(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_sub_epi16(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn left(self, count: i32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_sll_epi16(self.0, _mm_cvtsi32_si128(count)) })
        }

        #[inline(always)]
        unsafe fn right(self, count: i32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_srl_epi16(self.0, _mm_cvtsi32_si128(count)) })
        }

        #[inline(always)]
        unsafe fn add_products<const BYTES: usize>(self, weights: Self, x: *const i32) -> Self {
            // SAFETY: the caller's function is compiled for AVX-512; the pair is readable.
            Self(unsafe { multiply_add::<BYTES>(self.0, weights.0, x) })
        }

        #[inline(always)]
        unsafe fn add_scaled(self, scale: Avx512Lanes, acc: Avx512Lanes) -> Avx512Lanes {
            // SAFETY: the caller's function is compiled for AVX-512.
            Avx512Lanes(unsafe { _mm512_fmadd_ps(_mm512_cvtepi32_ps(self.0), scale.0, acc.0) })
        }

        #[inline(always)]
        unsafe fn product(a: Avx512Lanes, b: Avx512Lanes) -> Avx512Lanes {
            // SAFETY: the caller's function is compiled for AVX-512.
            Avx512Lanes(unsafe { _mm512_mul_ps(a.0, b.0) })
        }
    }

    /// Assembly, because LLVM adds the products of several steps to each other first, which takes more registers
    /// than there are.
    ///
    /// # Safety
    /// The pair at `x` plus `BYTES` must be readable.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply_add_pair<const BYTES: usize>(
        mut sum: Avx2Words,
        weights: Avx2Words,
        x: *const i32,
    ) -> Avx2Words {
        // SAFETY: reads the four bytes the caller promises; writes `sum` and two scratch registers alone.
        unsafe {
            asm!(
                "vpbroadcastd {pair}, dword ptr [{x} + {bytes}]",
                "vpmaddwd {low}, {pair}, {weights0}",
                "vpmaddwd {pair}, {pair}, {weights1}",
                "vpaddd {sum0}, {sum0}, {low}",
                "vpaddd {sum1}, {sum1}, {pair}",
                sum0 = inout(ymm_reg) sum.0,
                sum1 = inout(ymm_reg) sum.1,
                pair = out(ymm_reg) _,
                low = out(ymm_reg) _,
                weights0 = in(ymm_reg) weights.0,
                weights1 = in(ymm_reg) weights.1,
                x = in(reg) x,
                bytes = const BYTES,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        sum
    }

    impl Avx512Words {
        /// Adds to each i32 the products of the four unsigned bytes of its lane in `weights` with the four signed
        /// ones at `x` plus `BYTES`.
        ///
        /// # Safety
        /// To be inlined where AVX-512 VNNI is enabled; the bytes must be readable.
        #[inline(always)]
        pub(in super::super) unsafe fn add_byte_products<const BYTES: usize>(
            self,
            weights: Self,
            x: *const i8,
        ) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { multiply_add_bytes::<BYTES>(self.0, weights.0, x) })
        }
    }

    /// Assembly for the reason of [`multiply_add`].
    ///
    /// # Safety
    /// The four bytes at `x` plus `BYTES` must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply_add_bytes<const BYTES: usize>(
        mut sum: __m512i,
        weights: __m512i,
        x: *const i8,
    ) -> __m512i {
        // SAFETY: reads the four bytes the caller promises; writes `sum` alone.
        unsafe {
            asm!(
                "vpdpbusd {sum}, {weights}, dword ptr [{x} + {bytes}]{{1to16}}",
                sum = inout(zmm_reg) sum,
                weights = in(zmm_reg) weights,
                x = in(reg) x,
                bytes = const BYTES,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        sum
    }

    /// Assembly, because LLVM splits the intrinsic into a broadcast, a product and an addition: three
    /// instructions, which pays where one sum's latency counts and costs a third where there are several.
    ///
    /// # Safety
    /// The pair at `x` plus `BYTES` must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply_add<const BYTES: usize>(mut sum: __m512i, weights: __m512i, x: *const i32) -> __m512i {
        // SAFETY: reads the four bytes the caller promises; writes `sum` alone.
        unsafe {
            asm!(
                "vpdpwssd {sum}, {weights}, dword ptr [{x} + {bytes}]{{1to16}}",
                sum = inout(zmm_reg) sum,
                weights = in(zmm_reg) weights,
                x = in(reg) x,
                bytes = const BYTES,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        sum
    }
}
