//! The search for scales: which scale (and minimum) brings a run of weights nearest to a few integers.
//!
//! The error that counts is Σ wᵢ (xᵢ − x̂ᵢ)², w from an importance matrix or 1. For given integers the best scale is a
//! weighted least-squares solution; integers are proposed by a grid of scales around the one that just covers the
//! largest weight, and the best proposal is refined by solving and rounding in turn. Sums run in sixteen lanes and
//! one tree, so that every instruction set gives the same blocks.

use crate::dispatch::{LANES, sum_lanes};

/// 1.5 · 2²³: a sum with it has the nearest integer in its low bits; subtracting it again leaves that integer.
const TO_INTEGER: f32 = 12_582_912.0;

/// Rounds of solving and rounding after the grid; the error hardly moves after the second.
const ROUNDS: usize = 3;

/// Scales tried towards either end of a symmetric range.
const GRID: usize = 24;

/// The nearest integer in `low..=high`, as a float.
#[inline(always)]
pub(super) fn round_to(value: f32, low: f32, high: f32) -> f32 {
    (value.clamp(low, high) + TO_INTEGER) - TO_INTEGER
}

/// `Σ f(i)`.
#[inline(always)]
fn sum<const N: usize>(f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for start in (0..N).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    sum_lanes(lanes)
}

/// `Σ w (x − y)²`.
#[inline(always)]
pub(super) fn error<const N: usize>(x: &[f32; N], w: &[f32; N], y: &[f32; N]) -> f32 {
    sum::<N>(|i| w[i] * (x[i] - y[i]) * (x[i] - y[i]))
}

/// Multiplying by this divides by `value`; nothing is divided by zero.
#[inline(always)]
pub(super) fn inverse(value: f32) -> f32 {
    let inverse = 1.0 / value;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The scale that brings `x` nearest to integers of `-levels..levels`.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(x: &[f32; N], w: &[f32; N], levels: f32) -> f32 {
    let largest = x.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if largest == 0.0 {
        return 0.0;
    }
    // The best scale so far, and by how much it lowers the error: that is Σ w x² − (Σ w x q)² / Σ w q².
    let mut best = (0.0, 0.0);
    let propose = |best: &mut (f32, f32), inverse: f32| {
        let mut q = [0.0; N];
        for i in 0..N {
            q[i] = round_to(x[i] * inverse, -levels, levels - 1.0);
        }
        let (xq, qq) = (sum::<N>(|i| w[i] * x[i] * q[i]), sum::<N>(|i| w[i] * q[i] * q[i]));
        if qq > 0.0 && xq * xq > best.1 * qq {
            *best = (xq / qq, xq * xq / qq);
        }
    };
    // Towards either end of the range, from leaving a level unused to cutting off a third of the largest weight.
    for step in 0..GRID {
        let past = step as f32 / GRID as f32 * (1.0 + 0.4 * levels) - 0.9;
        propose(&mut best, -(levels + past) / largest);
        propose(&mut best, (levels - 1.0 + past) / largest);
    }
    for _ in 0..ROUNDS {
        let (scale, _) = best;
        propose(&mut best, inverse(scale));
    }
    best.0
}

/// Scale and minimum that bring `x` nearest to `scale * q + min`, q of `0..=levels`.
#[inline(always)]
pub(super) fn with_minimum<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    levels: f32,
    min_at_most: f32,
) -> (f32, f32) {
    let low = x.iter().fold(min_at_most, |a, &b| a.min(b));
    let high = x.iter().fold(low, |a, &b| a.max(b));
    if high <= low {
        return (0.0, low);
    }
    let (sw, sx) = (sum::<N>(|i| w[i]), sum::<N>(|i| w[i] * x[i]));
    // Scale, minimum and error of the best so far.
    let mut best = (0.0, low, f32::INFINITY);
    let propose = |best: &mut (f32, f32, f32), scale: f32, min: f32| {
        let inverse = inverse(scale);
        let mut q = [0.0; N];
        for i in 0..N {
            q[i] = round_to((x[i] - min) * inverse, 0.0, levels);
        }
        let (sq, qq) = (sum::<N>(|i| w[i] * q[i]), sum::<N>(|i| w[i] * q[i] * q[i]));
        let xq = sum::<N>(|i| w[i] * x[i] * q[i]);
        let determinant = sw * qq - sq * sq;
        let (mut scale, mut min) = if determinant > 0.0 {
            ((sw * xq - sx * sq) / determinant, (qq * sx - sq * xq) / determinant)
        } else {
            (scale, min)
        };
        if min > min_at_most {
            (scale, min) = (if qq > 0.0 { (xq - min_at_most * sq) / qq } else { 0.0 }, min_at_most);
        }
        let mut y = [0.0; N];
        for i in 0..N {
            y[i] = scale * q[i] + min;
        }
        let error = error(x, w, &y);
        if error < best.2 {
            *best = (scale, min, error);
        }
    };
    for step in 0..20 {
        propose(&mut best, (high - low) / (levels - 1.0 + step as f32 * 0.1), low);
    }
    for _ in 0..ROUNDS {
        let (scale, min, _) = best;
        propose(&mut best, scale, min);
    }
    (best.0, best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u32) -> [f32; 32] {
        let mut state = seed;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let unit = state as f32 / u32::MAX as f32 - 0.5;
            unit * unit * unit
        })
    }

    fn symmetric_error(x: &[f32; 32], w: &[f32; 32], scale: f32) -> f32 {
        let y = x.map(|x| scale * round_to(x * inverse(scale), -8.0, 7.0));
        error(x, w, &y)
    }

    #[test]
    fn no_scale_of_a_fine_grid_is_much_better() {
        for seed in 0..50 {
            let (x, w) = (values(seed), values(seed + 99).map(|w| w.abs() + 0.01));
            let found = symmetric_error(&x, &w, symmetric(&x, &w, 8.0));
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let grid =
                (-2000..=2000).filter(|&step| step != 0).map(|step| step as f32 / 2000.0 * largest / 4.0);
            let least = grid.map(|scale| symmetric_error(&x, &w, scale)).fold(f32::INFINITY, f32::min);
            assert!(found <= least * 1.15 + 1e-12, "seed {seed}: {found} vs. {least}");
        }
    }

    #[test]
    fn what_integers_can_say_is_found() {
        let w = [1.0; 32];
        let x: [f32; 32] = std::array::from_fn(|i| 0.25 * (i % 16) as f32 - 1.5);
        let (scale, min) = with_minimum(&x, &w, 15.0, 0.0);
        assert!((scale - 0.25).abs() < 1e-6 && (min + 1.5).abs() < 1e-5, "{scale} {min}");
        let x: [f32; 32] = std::array::from_fn(|i| 0.5 * ((i % 16) as f32 - 8.0));
        assert!((symmetric(&x, &w, 8.0) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn zeros_and_constants_are_kept() {
        let w = [1.0; 32];
        assert_eq!(symmetric(&[0.0; 32], &w, 8.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(with_minimum(&[0.0; 32], &w, 15.0, 0.0), (0.0, 0.0));
        assert_eq!(with_minimum(&[-2.0; 32], &w, 15.0, 0.0).1.to_bits(), (-2.0f32).to_bits());
        let (scale, min) = with_minimum(&[3.0; 32], &w, 15.0, 0.0);
        let nearest = scale * (3.0 / scale).round() + min;
        assert!(scale > 0.19 && (nearest - 3.0).abs() < 1e-5, "{scale} {min}");
    }
}
