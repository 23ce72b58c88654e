//! A query as 16-bit integers, and how far a product of integers can be off.
//!
//! A row is `r = s·c + e`, a query `x = t·w + f`, with codes c and words w, scales s and t, and what rounding left, e and f.
//! Then `r·x − s·t·(c·w) = e·x + s·c·f`, so the error is at most `‖e‖·‖x‖ + ‖s·c‖·‖f‖` (Cauchy–Schwarz), with `‖x‖ = 1`
//! and `‖s·c‖ ≤ 1 + ‖e‖`.

use hearth_kernels::scan::SCAN_LANES;

/// A query of length 1 or 0.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) vector: Vec<f32>,
    /// Filled up with zeros to whole lanes; a value is `word · scale`.
    pub(super) words: Vec<i16>,
    pub(super) scale: f32,
    /// `‖f‖`.
    error: f32,
}

impl Query {
    pub(super) fn new(vector: Vec<f32>) -> Self {
        let lanes = vector.len().next_multiple_of(SCAN_LANES);
        let largest = vector.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // As fine as 16 bits and sums in 32 bits allow: ‖c‖ ≤ 127·√D, so ‖w‖ ≤ 2³⁰ / (127·√D).
        let finest = 127.0 * (lanes.max(1) as f32).sqrt() / (1u32 << 30) as f32;
        let scale = (largest / f32::from(i16::MAX)).max(finest);
        let mut words: Vec<i16> = vector.iter().map(|value| (value / scale).round() as i16).collect();
        let pairs = vector.iter().zip(&words);
        let square: f64 =
            pairs.map(|(&x, &w)| (f64::from(x) - f64::from(w) * f64::from(scale)).powi(2)).sum();
        words.resize(lanes, 0);
        Self { vector, words, scale, error: (square.sqrt() * (1.0 + 1e-6)) as f32 }
    }

    /// How far the scaled product with a row can be from the product in f32, given the row's `‖e‖`.
    pub(super) fn error_of(&self, row_error: f32) -> f32 {
        // Lengths are 1 to within 1e-5. The product in f32 is a chain of D/16 steps in each of sixteen lanes, then four
        // more; a step is off by 2⁻²⁴ of what it sums. The handful of steps to a score and to its bounds is within the 32.
        let rounding = (self.vector.len() as f32 / 16.0 + 32.0) * f32::EPSILON;
        (row_error + (1.0 + row_error) * self.error) * (1.0 + 1e-5) + rounding
    }
}
