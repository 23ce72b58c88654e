//! Rotary position embedding (Su et al. 2021): pairs of channels turn by an angle that grows with position.
//!
//! Pair `i` of a head at position `p` turns by `p·f[i]`, plainly `f[i] = theta^(-2i/D)`; ways of stretching a context
//! are other frequencies. With fewer than D/2 of them the channels behind the pairs stay as they are. Angles, sines and
//! cosines are computed in f64 and rounded once, so a row depends on its position alone, however a sequence is cut.

use std::sync::Arc;

use crate::dispatch::multiversion;

/// Which channels of a head form pair `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`, as GGUF stores the llama family.
    Interleaved,
    /// `(i, i + n)` with n pairs, as Hugging Face does.
    Halves,
}

/// Forward turns by the angle; backward, by its negative: a rotation's transpose is its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Radians a position of each of `rotary_dim / 2` pairs: `theta^(-2i/rotary_dim)`.
pub fn frequencies(theta: f32, rotary_dim: usize) -> Vec<f64> {
    let exponent = |pair: usize| -2.0 * pair as f64 / rotary_dim as f64;
    (0..rotary_dim / 2).map(|pair| f64::from(theta).powf(exponent(pair))).collect()
}

/// Cosines and sines for positions from 0, as many as have been asked for.
#[derive(Debug, Clone)]
pub struct RopeTable {
    frequencies: Arc<[f64]>,
    magnitude: f32,
    head_dim: usize,
    /// `[positions, pairs]`
    cos: Vec<f32>,
    /// `[positions, pairs]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// An empty table. Rotated channels are multiplied by `magnitude`.
    ///
    /// # Panics
    /// If there is no pair, or the pairs don't fit into a head.
    pub fn new(frequencies: Arc<[f64]>, magnitude: f32, head_dim: usize) -> Self {
        let pairs = frequencies.len();
        assert!(pairs > 0 && 2 * pairs <= head_dim, "{pairs} pairs in a `head_dim` of {head_dim}");
        Self { frequencies, magnitude, head_dim, cos: Vec::new(), sin: Vec::new() }
    }

    /// Whether it was made of these.
    pub fn is_of(&self, frequencies: &Arc<[f64]>, magnitude: f32, head_dim: usize) -> bool {
        let same = Arc::ptr_eq(&self.frequencies, frequencies) || self.frequencies == *frequencies;
        same && self.magnitude.to_bits() == magnitude.to_bits() && self.head_dim == head_dim
    }

    /// Positions the table holds.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.frequencies.len()
    }

    /// Extends the table to at least `positions`; values that are there stay as they are.
    pub fn grow(&mut self, positions: usize) {
        let magnitude = f64::from(self.magnitude);
        for position in self.positions()..positions {
            for frequency in &*self.frequencies {
                let angle = position as f64 * frequency;
                self.cos.push((angle.cos() * magnitude) as f32);
                self.sin.push((angle.sin() * magnitude) as f32);
            }
        }
    }

    /// Turns row `t` of `x` to (or from) position `positions[t]`, in place.
    ///
    /// # Shapes
    /// x `[T, heads·D]` for any number of heads; positions `[T]`, each below [`Self::positions`].
    pub fn rotate(&self, x: &mut [f32], positions: &[u32], pairing: Pairing, direction: Direction) {
        if positions.is_empty() {
            return assert!(x.is_empty(), "{} values without positions", x.len());
        }
        assert!(
            x.len().is_multiple_of(positions.len() * self.head_dim),
            "{} values aren't {} rows of heads of {}",
            x.len(),
            positions.len(),
            self.head_dim
        );
        let cols = x.len() / positions.len();
        let pairs = self.frequencies.len();
        for (row, &position) in x.chunks_exact_mut(cols).zip(positions) {
            let start = position as usize * pairs;
            let (cos, sin) = (&self.cos[start..start + pairs], &self.sin[start..start + pairs]);
            let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
            match pairing {
                Pairing::Interleaved => rotate_interleaved(row, self.head_dim, (cos, sin), sign),
                Pairing::Halves => rotate_halves(row, self.head_dim, (cos, sin), sign),
            }
        }
    }
}

multiversion! {
    fn rotate_halves(row: &mut [f32], head_dim: usize, turns: (&[f32], &[f32]), sign: f32) {
        let (cos, sin) = turns;
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(cos.len());
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let sin = sin * sign;
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }

    fn rotate_interleaved(row: &mut [f32], head_dim: usize, turns: (&[f32], &[f32]), sign: f32) {
        let (cos, sin) = turns;
        for head in row.chunks_exact_mut(head_dim) {
            for ((pair, &cos), &sin) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                let sin = sin * sign;
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * cos - b * sin;
                pair[1] = a * sin + b * cos;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::{Random, assert_close, numeric_gradient};

    const PAIRINGS: [Pairing; 2] = [Pairing::Interleaved, Pairing::Halves];

    fn table(head_dim: usize, rotary_dim: usize, magnitude: f32) -> RopeTable {
        let mut table = RopeTable::new(frequencies(10_000.0, rotary_dim).into(), magnitude, head_dim);
        table.grow(64);
        table
    }

    /// A head's shape: channels, those that turn, and the factor on them.
    type Head = (usize, usize, f32);

    /// The formula, in f64.
    fn exact(x: &[f64], positions: &[u32], head: Head, pairing: Pairing) -> Vec<f64> {
        let (head_dim, rotary_dim, magnitude) = head;
        let cols = x.len() / positions.len();
        let mut out = x.to_vec();
        for (t, &position) in positions.iter().enumerate() {
            for head in 0..cols / head_dim {
                for i in 0..rotary_dim / 2 {
                    let angle = f64::from(position) * 1e4f64.powf(-2.0 * i as f64 / rotary_dim as f64);
                    let (a, b) = match pairing {
                        Pairing::Interleaved => (2 * i, 2 * i + 1),
                        Pairing::Halves => (i, i + rotary_dim / 2),
                    };
                    let start = t * cols + head * head_dim;
                    let (x, y) = (x[start + a], x[start + b]);
                    let (cos, sin) = (angle.cos() * f64::from(magnitude), angle.sin() * f64::from(magnitude));
                    out[start + a] = x * cos - y * sin;
                    out[start + b] = x * sin + y * cos;
                }
            }
        }
        out
    }

    #[test]
    fn rotation_equals_the_formula_and_backward_its_differences() {
        for (head, heads) in [((2, 2, 1.0), 1), ((8, 8, 1.0), 3), ((34, 34, 1.25), 2), ((10, 4, 0.5), 2)] {
            let (head_dim, rotary_dim, magnitude) = head;
            for pairing in PAIRINGS {
                let positions = [0, 1, 63, 17];
                let mut random = Random::new(11);
                let x = random.values(positions.len() * heads * head_dim);
                let dout = random.values(x.len());
                let f = |x: &[f64]| exact(x, &positions, head, pairing);
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mut out = x.clone();
                let table = table(head_dim, rotary_dim, magnitude);
                table.rotate(&mut out, &positions, pairing, Direction::Forward);
                assert_close("out", &out, &f(&wide), 1e-6);
                let mut dx = dout.clone();
                table.rotate(&mut dx, &positions, pairing, Direction::Backward);
                assert_close("dx", &dx, &numeric_gradient(&x, &dout, f), 1e-5);
            }
        }
    }

    #[test]
    fn a_row_depends_on_its_position_alone() {
        let (head_dim, rotary_dim, heads, positions) = (20, 14, 2, [3u32, 9, 4, 60]);
        let x = Random::new(2).values(positions.len() * heads * head_dim);
        for pairing in PAIRINGS {
            let together = at_every_level(|| {
                let mut x = x.clone();
                table(head_dim, rotary_dim, 1.0).rotate(&mut x, &positions, pairing, Direction::Forward);
                x
            });
            let cols = heads * head_dim;
            for (row, position) in positions.iter().enumerate() {
                let mut alone = x[row * cols..(row + 1) * cols].to_vec();
                // A table grown in another way holds the same values.
                let mut table = RopeTable::new(frequencies(10_000.0, rotary_dim).into(), 1.0, head_dim);
                table.grow(1);
                table.grow(61);
                table.rotate(&mut alone, &[*position], pairing, Direction::Forward);
                assert_eq!(&together[row * cols..(row + 1) * cols], &alone[..]);
            }
        }
    }
}
