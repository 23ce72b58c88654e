//! RMSNorm (Zhang & Sennrich 2019) with backward, and `LayerNorm` (Ba et al. 2016) forward.
//!
//! Each row by itself: sums run in 16 lanes in order of the columns, so a row's result depends on nothing
//! but the row. `LayerNorm` has no backward: only encoders use it, and they aren't trained yet.

use crate::dispatch::{LANES, dot, multiversion, sum_lanes};

multiversion! {
    /// `out = x / sqrt(mean(x²) + eps) · weight`, each row by itself.
    ///
    /// # Shapes
    /// x, out `[T, C]`; weight `[C]`.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        check_rows(x, weight, out);
        let cols = weight.len();
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let inverse = inverse_rms(x, eps);
            for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * inverse * weight;
            }
        }
    }

    /// Backward of [`rms_norm`]. With `s = 1/sqrt(mean(x²) + eps)`:
    /// `dx += s·dout·weight - x·s³/C · Σ(dout·weight·x)`.
    ///
    /// # Shapes
    /// x, dout, dx `[T, C]`; weight `[C]`.
    pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, dout: &[f32], dx: &mut [f32]) {
        check_rows(x, weight, dout);
        check_rows(x, weight, dx);
        let cols = weight.len();
        let rows = x.chunks_exact(cols).zip(dout.chunks_exact(cols));
        for ((x, dout), dx) in rows.zip(dx.chunks_exact_mut(cols)) {
            let inverse = inverse_rms(x, eps);
            let along = dot_of_three(dout, weight, x);
            let factor = along * inverse * inverse * inverse / cols as f32;
            for (((dx, &x), &dout), &weight) in dx.iter_mut().zip(x).zip(dout).zip(weight) {
                *dx += (dout * weight).mul_add(inverse, -(x * factor));
            }
        }
    }

    /// The weight's part of [`rms_norm`]'s backward: `dweight += Σ_rows dout·x·s`, rows in order.
    ///
    /// # Shapes
    /// x, dout `[T, C]`; dweight `[C]`.
    pub fn rms_norm_backward_weight(x: &[f32], eps: f32, dout: &[f32], dweight: &mut [f32]) {
        check_rows(x, dweight, dout);
        let cols = dweight.len();
        for (x, dout) in x.chunks_exact(cols).zip(dout.chunks_exact(cols)) {
            let inverse = inverse_rms(x, eps);
            for ((dweight, &x), &dout) in dweight.iter_mut().zip(x).zip(dout) {
                *dweight = (dout * inverse).mul_add(x, *dweight);
            }
        }
    }

    /// `out = (x - mean) / sqrt(variance + eps) · weight + bias`, each row by itself; the variance is
    /// the mean of the squared deviations.
    ///
    /// # Shapes
    /// x, out `[T, C]`; weight, bias `[C]`.
    pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        check_rows(x, weight, out);
        assert_eq!(weight.len(), bias.len(), "weight vs. bias");
        let cols = weight.len();
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let mean = sum(x) / cols as f32;
            for (out, &x) in out.iter_mut().zip(x) {
                *out = x - mean;
            }
            let inverse = inverse_rms(out, eps);
            for ((out, &weight), &bias) in out.iter_mut().zip(weight).zip(bias) {
                *out = (*out * inverse).mul_add(weight, bias);
            }
        }
    }
}

fn check_rows(x: &[f32], weight: &[f32], out: &[f32]) {
    assert_eq!(x.len(), out.len(), "two [T, C] arguments");
    assert!(
        !weight.is_empty() && x.len().is_multiple_of(weight.len()),
        "{} values aren't rows of {}",
        x.len(),
        weight.len()
    );
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    sum_lanes(lanes)
}

/// `Σ a[i]·b[i]·c[i]`, in the lanes of [`dot`].
#[inline(always)]
fn dot_of_three(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            lanes[i] = (a[i] * b[i]).mul_add(c[i], lanes[i]);
        }
    }
    for (i, ((a, b), c)) in a_rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        lanes[i] = (a * b).mul_add(*c, lanes[i]);
    }
    sum_lanes(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::{Random, assert_close, numeric_gradient};

    const EPS: f32 = 1e-5;

    fn exact_rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
        let cols = weight.len();
        let mut out = Vec::new();
        for row in x.chunks(cols) {
            let mean: f64 = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
            let s = 1.0 / (mean + f64::from(EPS)).sqrt();
            out.extend(row.iter().zip(weight).map(|(x, w)| x * s * w));
        }
        out
    }

    fn check_rms_norm(rows: usize, cols: usize) {
        let mut random = Random::new(7);
        let (x, weight) = (random.values(rows * cols), random.values(cols));
        let dout = random.values(rows * cols);
        let mut out = vec![0.0; x.len()];
        rms_norm(&x, &weight, EPS, &mut out);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        assert_close("out", &out, &exact_rms_norm(&wide(&x), &wide(&weight)), 1e-5);

        let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; cols]);
        rms_norm_backward(&x, &weight, EPS, &dout, &mut dx);
        rms_norm_backward_weight(&x, EPS, &dout, &mut dweight);
        let expected = numeric_gradient(&x, &dout, |x| exact_rms_norm(x, &wide(&weight)));
        assert_close("dx", &dx, &expected, 1e-4);
        let expected = numeric_gradient(&weight, &dout, |weight| exact_rms_norm(&wide(&x), weight));
        assert_close("dweight", &dweight, &expected, 1e-4);
    }

    #[test]
    fn rms_norm_passes_finite_differences() {
        check_rms_norm(1, 1);
        check_rms_norm(1, 16);
        check_rms_norm(3, 33);
        check_rms_norm(5, 7);
    }

    #[test]
    fn gradients_are_added_to_what_is_there() {
        let (mut dx, mut dweight) = ([5.0, 5.0], [3.0, 3.0]);
        rms_norm_backward(&[1.0, 2.0], &[1.0, 1.0], EPS, &[0.0, 0.0], &mut dx);
        rms_norm_backward_weight(&[1.0, 2.0], EPS, &[0.0, 0.0], &mut dweight);
        assert_eq!((dx, dweight), ([5.0, 5.0], [3.0, 3.0]));
    }

    #[test]
    fn layer_norm_rows_have_mean_zero_and_variance_one() {
        let mut random = Random::new(3);
        let (rows, cols) = (3, 37);
        let x = random.values(rows * cols);
        let mut out = vec![0.0; x.len()];
        layer_norm(&x, &vec![1.0; cols], &vec![0.0; cols], 1e-12, &mut out);
        for row in out.chunks(cols) {
            let mean: f32 = row.iter().sum::<f32>() / cols as f32;
            let variance: f32 = row.iter().map(|x| x * x).sum::<f32>() / cols as f32;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
        }
        let (weight, bias) = (random.values(cols), random.values(cols));
        let mut scaled = vec![0.0; x.len()];
        layer_norm(&x, &weight, &bias, 1e-12, &mut scaled);
        for (i, scaled) in scaled.iter().enumerate() {
            let expected = out[i] * weight[i % cols] + bias[i % cols];
            assert!((scaled - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others_at_every_level() {
        let mut random = Random::new(5);
        let (rows, cols) = (4, 83);
        let (x, weight) = (random.values(rows * cols), random.values(cols));
        let run = |x: &[f32]| {
            let (mut rms, mut layer) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mut dx = vec![0.0; x.len()];
            rms_norm(x, &weight, EPS, &mut rms);
            layer_norm(x, &weight, &weight, EPS, &mut layer);
            rms_norm_backward(x, &weight, EPS, &layer, &mut dx);
            (rms, layer, dx)
        };
        let all = at_every_level(|| {
            let (rms, layer, dx) = run(&x);
            [rms, layer, dx].concat()
        });
        for row in 0..rows {
            let (rms, layer, dx) = run(&x[row * cols..(row + 1) * cols]);
            for (part, alone) in [rms, layer, dx].iter().enumerate() {
                let start = (part * rows + row) * cols;
                assert_eq!(&all[start..start + cols], &alone[..], "part {part} of row {row}");
            }
        }
    }
}
