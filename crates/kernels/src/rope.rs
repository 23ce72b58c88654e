//! Rotary position embedding (Su et al. 2021): pairs of channels turn by an angle that grows with position.
//!
//! Pair `i` of a head at position `p` turns by `p·theta^(-2i/D)`. Angles, sines and cosines are computed in
//! f64 and rounded once, so a row depends on its position alone, however a sequence is cut into batches.

use crate::dispatch::multiversion;

/// Which channels of a head form pair `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`, as GGUF stores the llama family.
    Interleaved,
    /// `(i, i + D/2)`, as Hugging Face does.
    Halves,
}

/// Forward turns by the angle; backward, by its negative: a rotation's transpose is its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Cosines and sines for positions from 0, as many as have been asked for.
#[derive(Debug, Clone)]
pub struct RopeTable {
    theta: f32,
    head_dim: usize,
    /// `[positions, D/2]`
    cos: Vec<f32>,
    /// `[positions, D/2]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// An empty table; `head_dim` must be even.
    pub fn new(theta: f32, head_dim: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "`head_dim` {head_dim} has no pairs");
        Self { theta, head_dim, cos: Vec::new(), sin: Vec::new() }
    }

    pub fn theta(&self) -> f32 {
        self.theta
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Positions the table holds.
    pub fn positions(&self) -> usize {
        self.cos.len() / (self.head_dim / 2)
    }

    /// Extends the table to at least `positions`; values that are there stay as they are.
    pub fn grow(&mut self, positions: usize) {
        let half = self.head_dim / 2;
        for position in self.positions()..positions {
            for pair in 0..half {
                let exponent = -2.0 * pair as f64 / self.head_dim as f64;
                let angle = position as f64 * f64::from(self.theta).powf(exponent);
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
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
        let half = self.head_dim / 2;
        for (row, &position) in x.chunks_exact_mut(cols).zip(positions) {
            let start = position as usize * half;
            let (cos, sin) = (&self.cos[start..start + half], &self.sin[start..start + half]);
            let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
            match pairing {
                Pairing::Interleaved => rotate_interleaved(row, cos, sin, sign),
                Pairing::Halves => rotate_halves(row, cos, sin, sign),
            }
        }
    }
}

multiversion! {
    fn rotate_halves(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let sin = sin * sign;
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }

    fn rotate_interleaved(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for head in row.chunks_exact_mut(2 * cos.len()) {
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

    fn table(head_dim: usize) -> RopeTable {
        let mut table = RopeTable::new(10_000.0, head_dim);
        table.grow(64);
        table
    }

    /// The formula, in f64.
    fn exact(x: &[f64], positions: &[u32], head_dim: usize, pairing: Pairing) -> Vec<f64> {
        let cols = x.len() / positions.len();
        let mut out = x.to_vec();
        for (t, &position) in positions.iter().enumerate() {
            for head in 0..cols / head_dim {
                for i in 0..head_dim / 2 {
                    let angle = f64::from(position) * 1e4f64.powf(-2.0 * i as f64 / head_dim as f64);
                    let (a, b) = match pairing {
                        Pairing::Interleaved => (2 * i, 2 * i + 1),
                        Pairing::Halves => (i, i + head_dim / 2),
                    };
                    let start = t * cols + head * head_dim;
                    let (x, y) = (x[start + a], x[start + b]);
                    out[start + a] = x * angle.cos() - y * angle.sin();
                    out[start + b] = x * angle.sin() + y * angle.cos();
                }
            }
        }
        out
    }

    #[test]
    fn rotation_equals_the_formula_and_backward_its_differences() {
        for (head_dim, heads) in [(2, 1), (8, 3), (34, 2)] {
            for pairing in PAIRINGS {
                let positions = [0, 1, 63, 17];
                let mut random = Random::new(11);
                let x = random.values(positions.len() * heads * head_dim);
                let dout = random.values(x.len());
                let f = |x: &[f64]| exact(x, &positions, head_dim, pairing);
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mut out = x.clone();
                let table = table(head_dim);
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
        let (head_dim, heads, positions) = (20, 2, [3u32, 9, 4, 60]);
        let x = Random::new(2).values(positions.len() * heads * head_dim);
        for pairing in PAIRINGS {
            let together = at_every_level(|| {
                let mut x = x.clone();
                table(head_dim).rotate(&mut x, &positions, pairing, Direction::Forward);
                x
            });
            let cols = heads * head_dim;
            for (row, position) in positions.iter().enumerate() {
                let mut alone = x[row * cols..(row + 1) * cols].to_vec();
                // A table grown in another way holds the same values.
                let mut table = RopeTable::new(10_000.0, head_dim);
                table.grow(1);
                table.grow(61);
                table.rotate(&mut alone, &[*position], pairing, Direction::Forward);
                assert_eq!(&together[row * cols..(row + 1) * cols], &alone[..]);
            }
        }
    }
}
