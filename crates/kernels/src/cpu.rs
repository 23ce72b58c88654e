//! Which instruction set this process uses: the best the processor has, found once.

use std::sync::OnceLock;

/// Levels in ascending order; a higher one includes the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust: the reference.
    Scalar,
    /// AVX2, FMA and F16C, 256 bits.
    Avx2,
    /// AVX-512 F, BW, VL and VNNI, 512 bits.
    Avx512,
}

/// The level in use. `HEARTH_CPU=scalar|avx2` lowers it, for tests and for comparing.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let found = detect();
        match std::env::var("HEARTH_CPU").as_deref() {
            Ok("scalar") => Level::Scalar,
            Ok("avx2") => found.min(Level::Avx2),
            _ => found,
        }
    })
}

/// Every level this processor can run, for tests that hold them equal.
pub fn levels() -> impl Iterator<Item = Level> {
    let best = detect();
    [Level::Scalar, Level::Avx2, Level::Avx512].into_iter().filter(move |&level| level <= best)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Scalar
}
