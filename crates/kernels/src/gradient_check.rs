//! What the tests of backward kernels share: seeded values, central differences in f64, comparison.

/// Values that look random and are the same on every run (`SplitMix64`, Steele et al. 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `count` values in [-1, 1).
    pub(crate) fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}

/// The gradient of `Σ dout·f(x)` by central differences.
pub(crate) fn numeric_gradient(x: &[f32], dout: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let loss = |x: &[f64]| f(x).iter().zip(dout).map(|(y, &d)| y * f64::from(d)).sum::<f64>();
    (0..x.len())
        .map(|i| {
            let value = x[i];
            x[i] = value + STEP;
            let above = loss(&x);
            x[i] = value - STEP;
            let below = loss(&x);
            x[i] = value;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Asserts `|actual - expected| ≤ tolerance·(1 + |expected|)` everywhere.
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let difference = (f64::from(actual) - expected).abs();
        assert!(difference <= tolerance * (1.0 + expected.abs()), "{what}[{i}]: {actual} vs. {expected}");
    }
}
