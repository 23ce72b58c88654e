//! Laws of encoding: what a format can say is kept, errors stay within the format's step, importance moves them.

use super::super::dequantize;
use super::*;
use crate::dispatch::at_every_level;

const WRITTEN: [Format; 8] = [
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
];

/// Sums of uniform numbers: near enough to the bell shape of a trained row.
fn row(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..len).map(|_| 0.05 * (uniform() + uniform() + uniform() + uniform())).collect()
}

fn round_trip(format: Format, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = vec![0xAA; format.row_bytes(values.len()).unwrap()];
    quantize(format, values, values.len(), importance, &mut bytes);
    let mut out = vec![f32::NAN; values.len()];
    dequantize(format, &bytes, &mut out);
    out
}

fn relative_rmse(x: &[f32], y: &[f32]) -> f64 {
    let of = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        x.iter().zip(y).map(|(&x, &y)| f(f64::from(x), f64::from(y))).sum()
    };
    (of(&|x, y| (x - y).powi(2)) / of(&|x, _| x * x)).sqrt()
}

#[test]
fn the_error_of_a_bell_shaped_row_is_that_of_the_bits() {
    // Measured once with this search; plain rounding to the largest weight gives 0.101 for Q4_0, 0.071 for Q4_1.
    let bounds = [0.092, 0.078, 0.046, 0.038, 0.0058, 0.074, 0.037, 0.0185];
    for (format, bound) in WRITTEN.into_iter().zip(bounds) {
        let x = row(4096, 5);
        let error = relative_rmse(&x, &round_trip(format, &x, None));
        assert!(error < bound && error > bound * 0.7, "{format:?}: {error} vs. {bound}");
    }
}

#[test]
fn what_was_decoded_encodes_to_itself() {
    for format in WRITTEN {
        let once = round_trip(format, &row(1024, 3), None);
        let twice = round_trip(format, &once, None);
        // The scales of a K format may be found in another split of the same product.
        assert!(relative_rmse(&once, &twice) < 0.006, "{format:?}: {}", relative_rmse(&once, &twice));
    }
}

#[test]
fn zeros_stay_zeros_and_one_large_weight_is_kept() {
    for format in WRITTEN {
        let mut x = vec![0.0; 512];
        assert!(round_trip(format, &x, None).iter().all(|&y| y == 0.0), "{format:?}");
        x[300] = -3.0;
        let y = round_trip(format, &x, None);
        assert!((y[300] + 3.0).abs() < 0.02, "{format:?}: {}", y[300]);
        assert!(y.iter().enumerate().all(|(i, y)| i == 300 || y.abs() < 0.02), "{format:?}");
    }
}

#[test]
fn important_columns_come_out_nearer() {
    for format in WRITTEN.into_iter().filter(|&format| format != Format::Q8_0) {
        let x = row(4096, 11);
        let importance: Vec<f32> = (0..4096).map(|i| if i % 4 == 0 { 100.0 } else { 1.0 }).collect();
        let of = |y: &[f32]| -> f64 {
            let important = x.iter().zip(y).step_by(4);
            important.map(|(x, y)| f64::from(x - y).powi(2)).sum()
        };
        let (plain, weighted) = (round_trip(format, &x, None), round_trip(format, &x, Some(&importance)));
        assert!(of(&weighted) < of(&plain) * 0.97, "{format:?}: {} vs. {}", of(&weighted), of(&plain));
    }
}

#[test]
fn every_instruction_set_writes_the_same_blocks() {
    for format in WRITTEN {
        at_every_level(|| round_trip(format, &row(1024, 21), None));
    }
}
