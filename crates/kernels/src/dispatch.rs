//! One body, compiled for several instruction sets, chosen when it is called.
//!
//! [`multiversion!`] wraps a function whose body is plain Rust over fixed-size lanes. LLVM vectorises the
//! body three times: for AVX-512, for AVX2 with FMA, and for the target's baseline. The order of the
//! arithmetic is written in the body, and `f32::mul_add` rounds once everywhere (on a CPU without FMA it
//! is a slow but equal library call), so that all three give equal bits.

/// Declares functions that are compiled for AVX-512, AVX2 + FMA and the baseline. What the body calls
/// must be `#[inline(always)]`, or it is compiled for the baseline alone.
macro_rules! multiversion {
    ($(
        $(#[$attr:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        $(#[$attr])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::dispatch::level() {
                    // SAFETY: `level` has found every feature that `avx512` enables.
                    $crate::cpu::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` has found every feature that `avx2` enables.
                    $crate::cpu::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::Level::Scalar => {}
                }
            }
            body($($arg),*)
        }
    )*};
}
pub(crate) use multiversion;

/// Floats a vectorised loop works on side by side: one AVX-512 register.
pub(crate) const LANES: usize = 16;

/// The level a [`multiversion!`] function runs at: the process's, unless a test has lowered it.
#[cfg(not(test))]
pub(crate) fn level() -> crate::cpu::Level {
    crate::cpu::level()
}

#[cfg(test)]
pub(crate) use under_test::{at_every_level, level};

/// Sums the lanes in one fixed tree: halves are added until one value is left.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `Σ a[i]·b[i]`, value `i` in lane `i mod 16`, lanes summed by [`sum_lanes`].
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = a.mul_add(*b, lanes[i]);
    }
    sum_lanes(lanes)
}

/// Asks for the cache line of `values[at]`, if there is one, so that a later read needn't wait.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < values.len() {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that reads nothing; SSE is in x86-64's baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// Runs a computation at every level the processor has, to hold the results equal.
#[cfg(test)]
mod under_test {
    use std::cell::Cell;

    use crate::cpu::{self, Level};

    thread_local! {
        static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
    }

    pub(crate) fn level() -> Level {
        LEVEL.get().unwrap_or_else(cpu::level)
    }

    /// Asserts that `compute` gives equal bits at each level, and returns them. Only calls on the
    /// current thread are redirected.
    pub(crate) fn at_every_level(compute: impl Fn() -> Vec<f32>) -> Vec<f32> {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut results = cpu::levels().map(|level| {
            LEVEL.set(Some(level));
            let result = compute();
            LEVEL.set(None);
            (level, result)
        });
        let (_, first) = results.next().expect("there is always the scalar level");
        for (level, result) in results {
            assert_eq!(bits(&first), bits(&result), "scalar vs. {level:?}");
        }
        first
    }
}
