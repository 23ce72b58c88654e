//! Functions of one element at a time: exp, `SiLU`, GELU, addition.
//!
//! `exp` is our own polynomial, not the C library's: equal bits on every machine, and it vectorises.
//! GELU uses the error function's approximation 7.1.26 of Abramowitz & Stegun (1964), absolute error below 1.5e-7.

use crate::dispatch::multiversion;

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

    /// GELU with the error function, as BERT has it (Hendrycks & Gimpel 2016): `x·Φ(x)`, in place.
    pub fn gelu(values: &mut [f32]) {
        for value in values {
            *value = gelu_value(*value);
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
            [exps, gelus, products, dgate].concat()
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
    fn silu_mul_backward_passes_finite_differences() {
        let exact = |gate: f64, up: f64| gate / (1.0 + (-gate).exp()) * up;
        for i in 0..50 {
            let gate = (f64::from(i) - 25.0) * 0.37;
            let up = 1.0 - f64::from(i) * 0.11;
            let h = 1e-5;
            let dgate = (exact(gate + h, up) - exact(gate - h, up)) / (2.0 * h) * 0.7;
            let dup = (exact(gate, up + h) - exact(gate, up - h)) / (2.0 * h) * 0.7;
            let (gate, up) = ([gate as f32], [up as f32]);
            let (mut out, mut actual) = ([0.0], [0.0, 0.0]);
            silu_mul(&gate, &up, &mut out);
            assert!((f64::from(out[0]) - exact(gate[0].into(), up[0].into())).abs() < 1e-5);
            silu_mul_backward(&gate, &up, &[0.7], &mut actual[..1]);
            silu_mul(&gate, &[0.7], &mut actual[1..]);
            for (what, actual, expected) in [("dgate", actual[0], dgate), ("dup", actual[1], dup)] {
                assert!((f64::from(actual) - expected).abs() < 1e-5, "{what} {actual} vs. {expected}");
            }
        }
    }
}
