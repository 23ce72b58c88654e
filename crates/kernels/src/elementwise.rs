//! Functions of one element at a time: exp, tanh, `SiLU`, GELU, soft caps, addition.
//!
//! `exp` is our own polynomial, not the C library's: equal bits on every machine, and it vectorises.
//! GELU uses the error function's approximation 7.1.26 of Abramowitz & Stegun (1964), absolute error below 1.5e-7.

use crate::dispatch::{LANES, multiversion};

/// `eˣ`, relative error below 2e-7. Below the smallest normal number (x < -87.336) it is 0; above
/// 88.7228 it is infinite; NaN stays NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`; then `eʳ = 1 + r + r²·p(r)`, where p is the polynomial of degree 5
/// with the smallest largest relative error (5.2e-11 before rounding).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; products of the first with integers up to 2⁹ are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const SMALLEST: f32 = -87.336_54;
    const LARGEST: f32 = 88.722_83;

    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = (-n).mul_add(LN_2_LOW, (-n).mul_add(LN_2_HIGH, x));
    let mut p = 1.979_029_8e-4f32;
    p = p.mul_add(r, 1.394_470_3e-3);
    p = p.mul_add(r, 8.333_498e-3);
    p = p.mul_add(r, 4.166_629_5e-2);
    p = p.mul_add(r, 1.666_666_6e-1);
    p = p.mul_add(r, 0.5);
    let unscaled = p.mul_add(r * r, r) + 1.0;
    // Times 2ⁿ: n is in the low bits of `rounded`, the exponent starts at bit 23.
    let scaled = f32::from_bits(unscaled.to_bits().wrapping_add(rounded.to_bits() << 23));
    let scaled = if x < SMALLEST { 0.0 } else { scaled };
    let scaled = if x > LARGEST { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x`, relative error below 5e-7. NaN stays NaN.
///
/// Near zero, where `1 - 2/(e²ˣ + 1)` cancels, it is `x + x³·p(x²)`, p of degree 4 with the smallest largest
/// relative error (5e-9 before rounding).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -5.704_986_4e-3f32;
    p = p.mul_add(square, 2.063_908_6e-2);
    p = p.mul_add(square, -5.373_971_5e-2);
    p = p.mul_add(square, 1.333_144_2e-1);
    p = p.mul_add(square, -3.333_328e-1);
    let small = (p * square).mul_add(x, x);
    let large = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.625 { small } else { large }
}

/// The sigmoid that GELU's approximation by tanh multiplies x with, and its slope:
/// `0.5·(1 + tanh u) = sigmoid(2u)` with `u = √(2/π)·(x + 0.044715·x³)` (Hendrycks & Gimpel 2016).
#[inline(always)]
fn gelu_sigmoid(x: f32) -> (f32, f32) {
    // 2·√(2/π)
    const TWICE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    let s = sigmoid(TWICE * x * (CUBIC * x).mul_add(x, 1.0));
    (s, s * (1.0 - s) * TWICE * (3.0 * CUBIC * x).mul_add(x, 1.0))
}

/// `x·Φ(x)` with the normal distribution's Φ, from its tail: `1 - Φ(|x|) = erfc(|x|/√2) / 2`.
#[inline(always)]
fn gelu_value(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1f32.mul_add(z, 1.0);
    let mut p = 1.061_405_4f32;
    p = p.mul_add(t, -1.453_152);
    p = p.mul_add(t, 1.421_413_8);
    p = p.mul_add(t, -0.284_496_72);
    p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * exp(-z * z);
    let phi = if x > 0.0 { 1.0 - tail } else { tail };
    x * phi
}

multiversion! {
    /// `values[i] = exp(values[i])`.
    pub fn exp_lanes(values: &mut [f32]) {
        for value in values {
            *value = exp(*value);
        }
    }

    /// SwiGLU's inner product (Shazeer 2020): `out = silu(gate)·up`, `silu(x) = x / (1 + e⁻ˣ)`.
    ///
    /// # Shapes
    /// All of one length.
    pub fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!((gate.len(), up.len()), (out.len(), out.len()), "gate and up vs. out");
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(gate) * up;
        }
    }

    /// Backward of [`silu_mul`] with respect to the gate: `dgate = dout·up·s·(1 + gate·(1 - s))` with
    /// `s = sigmoid(gate)`. With respect to `up` it is `silu_mul(gate, dout)`.
    ///
    /// # Shapes
    /// All of one length.
    pub fn silu_mul_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32]) {
        let len = dgate.len();
        assert_eq!((gate.len(), up.len(), dout.len()), (len, len, len), "inputs vs. dgate");
        for (((dgate, &gate), &up), &dout) in dgate.iter_mut().zip(gate).zip(up).zip(dout) {
            let s = sigmoid(gate);
            *dgate = dout * up * s * gate.mul_add(1.0 - s, 1.0);
        }
    }

    /// GEGLU's inner product (Shazeer 2020): `out = gelu(gate)·up`, GELU in its approximation by tanh.
    ///
    /// # Shapes
    /// All of one length.
    pub fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!((gate.len(), up.len()), (out.len(), out.len()), "gate and up vs. out");
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * gelu_sigmoid(gate).0 * up;
        }
    }

    /// Backward of [`gelu_mul`] with respect to the gate: `dgate = dout·up·(s + gate·s')` with GELU's
    /// sigmoid s. With respect to `up` it is `gelu_mul(gate, dout)`.
    ///
    /// # Shapes
    /// All of one length.
    pub fn gelu_mul_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32]) {
        let len = dgate.len();
        assert_eq!((gate.len(), up.len(), dout.len()), (len, len, len), "inputs vs. dgate");
        for (((dgate, &gate), &up), &dout) in dgate.iter_mut().zip(gate).zip(up).zip(dout) {
            let (s, slope) = gelu_sigmoid(gate);
            *dgate = dout * up * gate.mul_add(slope, s);
        }
    }

    /// `cap·tanh(value / cap)`, in place (Gemma Team 2024).
    pub fn soft_cap(values: &mut [f32], cap: f32) {
        for value in values {
            *value = cap * tanh(*value / cap);
        }
    }

    /// Backward of [`soft_cap`] from its output: `dx = dout·(1 - (out/cap)²)`, in the place of dout.
    ///
    /// # Shapes
    /// Both of one length.
    pub fn soft_cap_backward(out: &[f32], cap: f32, dout: &mut [f32]) {
        assert_eq!(out.len(), dout.len(), "out vs. dout");
        for (dout, &out) in dout.iter_mut().zip(out) {
            let t = out / cap;
            *dout *= t.mul_add(-t, 1.0);
        }
    }

    /// GELU with the error function, as BERT has it (Hendrycks & Gimpel 2016): `x·Φ(x)`, in place.
    pub fn gelu(values: &mut [f32]) {
        for value in values {
            *value = gelu_value(*value);
        }
    }

    /// `SiLU`: `x / (1 + e⁻ˣ)`, in place.
    pub fn silu(values: &mut [f32]) {
        for value in values {
            *value *= sigmoid(*value);
        }
    }

    /// The logistic function `1 / (1 + e⁻ˣ)`, in place.
    pub fn logistic(values: &mut [f32]) {
        for value in values {
            *value = sigmoid(*value);
        }
    }

    /// `out += x`.
    ///
    /// # Shapes
    /// Both of one length.
    pub fn add_assign(out: &mut [f32], x: &[f32]) {
        assert_eq!(out.len(), x.len(), "out vs. x");
        for (out, &x) in out.iter_mut().zip(x) {
            *out += x;
        }
    }

    /// `out += factor·x`.
    ///
    /// # Shapes
    /// Both of one length.
    pub fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
        assert_eq!(out.len(), x.len(), "out vs. x");
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor.mul_add(x, *out);
        }
    }

    /// `Σ x²` in f64, by sixteen lanes that are added in one fixed order.
    pub fn sum_of_squares(values: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let x = f64::from(chunk[i]);
                lanes[i] = x.mul_add(x, lanes[i]);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }

    /// `values *= factor`.
    pub fn scale(values: &mut [f32], factor: f32) {
        for value in values {
            *value *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::{assert_close, numeric_gradient};

    #[test]
    fn exp_is_within_2e_7_of_the_exact_value() {
        let mut worst = 0.0f64;
        let mut x = -87.33f32;
        while x < 88.72 {
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
            x += 0.000_7;
        }
        assert!(worst < 2e-7, "relative error {worst}");
    }

    #[test]
    fn exp_at_its_limits() {
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-1e30).to_bits(), 0);
        assert_eq!(exp(-87.34).to_bits(), 0);
        assert!(exp(f32::INFINITY).is_infinite());
        assert!(exp(89.0).is_infinite());
        assert!(exp(88.72).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_equal_bits() {
        let values: Vec<f32> = (0..4001).map(|i| (i as f32 - 2000.0) * 0.013).collect();
        at_every_level(|| {
            let (mut exps, mut gelus) = (values.clone(), values.clone());
            exp_lanes(&mut exps);
            gelu(&mut gelus);
            let mut products = vec![0.0; values.len()];
            silu_mul(&values, &exps, &mut products);
            let mut dgate = vec![0.0; values.len()];
            silu_mul_backward(&values, &gelus, &exps, &mut dgate);
            let (mut geglu, mut dgeglu) = (products.clone(), products.clone());
            gelu_mul(&values, &dgate, &mut geglu);
            gelu_mul_backward(&values, &gelus, &dgate, &mut dgeglu);
            let (mut capped, mut dcapped) = (values.clone(), dgate.clone());
            soft_cap(&mut capped, 7.0);
            soft_cap_backward(&capped, 7.0, &mut dcapped);
            [exps, gelus, products, dgate, geglu, dgeglu, capped, dcapped].concat()
        });
        let mut exps = values.clone();
        exp_lanes(&mut exps);
        for (x, y) in values.iter().zip(&exps) {
            assert_eq!(exp(*x).to_bits(), y.to_bits(), "exp({x}) by itself");
        }
    }

    #[test]
    fn gelu_equals_known_values() {
        // x·Φ(x) from tables of the normal distribution.
        let mut values = [0.0, 1.0, -1.0, 2.0, -3.0, 10.0, -10.0];
        let expected = [0.0, 0.841_344_8, -0.158_655_26, 1.954_499_7, -0.004_049_69, 10.0, 0.0];
        gelu(&mut values);
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{value} vs. {expected}");
        }
    }

    #[test]
    fn tanh_is_within_5e_7_of_the_exact_value() {
        let mut x = -100.0f32;
        while x < 100.0 {
            let exact = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - exact).abs();
            assert!(error <= 5e-7 * exact.abs(), "tanh({x}) is {}, exactly {exact}", tanh(x));
            x += 0.003_7;
        }
        assert_eq!(tanh(0.0).to_bits(), 0);
        assert_eq!((tanh(1e30), tanh(-1e30)), (1.0, -1.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn soft_cap_and_its_backward_equal_the_formula() {
        for cap in [0.5f32, 30.0] {
            let x: Vec<f32> = (0..80).map(|i| (i as f32 - 40.0) * 1.7).collect();
            let dout = vec![0.7; x.len()];
            let f = |x: &[f64]| -> Vec<f64> {
                x.iter().map(|x| f64::from(cap) * (x / f64::from(cap)).tanh()).collect()
            };
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let (mut out, mut dx) = (x.clone(), dout.clone());
            soft_cap(&mut out, cap);
            assert_close("out", &out, &f(&wide), 1e-6);
            soft_cap_backward(&out, cap, &mut dx);
            assert_close("dx", &dx, &numeric_gradient(&x, &dout, f), 1e-5);
        }
    }

    #[test]
    fn gated_products_pass_finite_differences() {
        let silu = |gate: f64| gate / (1.0 + (-gate).exp());
        check_gated("silu", silu, silu_mul, silu_mul_backward);
        let gelu = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        };
        check_gated("gelu", gelu, gelu_mul, gelu_mul_backward);
    }

    fn check_gated(
        name: &str,
        activation: impl Fn(f64) -> f64,
        forward: impl Fn(&[f32], &[f32], &mut [f32]),
        backward: impl Fn(&[f32], &[f32], &[f32], &mut [f32]),
    ) {
        let gate: Vec<f32> = (0..50).map(|i| (i as f32 - 25.0) * 0.37).collect();
        let up: Vec<f32> = (0..50).map(|i| 1.0 - i as f32 * 0.11).collect();
        let dout = vec![0.7; 50];
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let exact = |gate: &[f64], up: &[f64]| {
            gate.iter().zip(up).map(|(&gate, up)| activation(gate) * up).collect::<Vec<_>>()
        };
        let (mut out, mut dgate, mut dup) = (vec![0.0; 50], vec![0.0; 50], vec![0.0; 50]);
        forward(&gate, &up, &mut out);
        assert_close(name, &out, &exact(&wide(&gate), &wide(&up)), 2e-6);
        backward(&gate, &up, &dout, &mut dgate);
        let expected = numeric_gradient(&gate, &dout, |gate| exact(gate, &wide(&up)));
        assert_close(name, &dgate, &expected, 1e-5);
        forward(&gate, &dout, &mut dup);
        let expected = numeric_gradient(&up, &dout, |up| exact(&wide(&gate), up));
        assert_close(name, &dup, &expected, 1e-5);
    }
}
