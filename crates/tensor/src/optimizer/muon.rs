//! Muon (Jordan et al. 2024): hidden matrices move by the nearest orthogonal matrix to their momentum.
//!
//! The update's size is that of `AdamW`'s on average (Liu et al. 2025), so that both share one lr and one decay.
//! Embeddings, heads and vectors aren't its business: the trainer says which parameters are.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_kernels::elementwise;
use hearth_kernels::gemm::{Accumulate, gemm_nn, gemm_nt};
use hearth_kernels::pool::Pool;

use super::{OptimizerError, by_id};
use crate::tape::Gradients;
use crate::weight::{Param, ParamId};

/// Coefficients of the quintic iteration of Jordan et al.: singular values between 0.7 and 1.2 after
/// [`NUM_ITERATIONS`].
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const NUM_ITERATIONS: usize = 5;

/// What the root mean square of an update of `AdamW` is about (Liu et al. 2025).
const UPDATE_SIZE: f32 = 0.2;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonConfig {
    /// Share of the momentum that a step keeps.
    pub momentum: f32,
    pub weight_decay: f32,
}

/// Muon with its momenta.
#[derive(Debug, Clone, PartialEq)]
pub struct Muon {
    config: MuonConfig,
    momenta: BTreeMap<ParamId, Vec<f32>>,
}

impl Muon {
    pub fn new(config: MuonConfig) -> Self {
        Self { config, momenta: BTreeMap::new() }
    }

    /// Goes on from a checkpoint: what [`Self::momenta`] said.
    pub fn resume(config: MuonConfig, momenta: impl IntoIterator<Item = (ParamId, Vec<f32>)>) -> Self {
        Self { config, momenta: momenta.into_iter().collect() }
    }

    /// In ascending order of ids.
    pub fn momenta(&self) -> impl Iterator<Item = (ParamId, &[f32])> {
        self.momenta.iter().map(|(&id, momentum)| (id, momentum.as_slice()))
    }

    /// Updates each of `params` that has a gradient, by a direction that doesn't depend on the gradient's size.
    pub fn update<'a>(
        &mut self,
        pool: &Pool,
        params: impl IntoIterator<Item = &'a mut Param>,
        gradients: &Gradients,
        lr: f32,
    ) -> Result<usize, OptimizerError> {
        let mut by_id = by_id(params)?;
        for (id, gradient) in gradients.iter() {
            let param = by_id.get(&id).ok_or(OptimizerError::UnknownParam { param: id })?;
            let len = param.data.len();
            for found in [gradient.len(), self.momenta.get(&id).map_or(len, Vec::len)] {
                if found != len {
                    return Err(OptimizerError::WrongLen { param: id, len, found });
                }
            }
        }
        let MuonConfig { momentum: share, weight_decay } = self.config;
        for (id, gradient) in gradients.iter() {
            let param = by_id.get_mut(&id).expect("every gradient's parameter was found");
            let momentum = self.momenta.entry(id).or_insert_with(|| vec![0.0; gradient.len()]);
            // m ← μm + (1-μ)g, and Nesterov's look ahead: (1-μ)g + μm.
            elementwise::scale(momentum, share);
            elementwise::add_scaled(momentum, 1.0 - share, gradient);
            let mut direction = momentum.clone();
            elementwise::scale(&mut direction, share);
            elementwise::add_scaled(&mut direction, 1.0 - share, gradient);
            let direction = orthogonal(pool, &direction, param.rows, param.cols);
            let size = lr * UPDATE_SIZE * (param.rows.max(param.cols) as f32).sqrt();
            let weight = Arc::make_mut(&mut param.data);
            elementwise::scale(weight, 1.0 - lr * weight_decay);
            elementwise::add_scaled(weight, -size, &direction);
        }
        Ok(gradients.len())
    }
}

/// Nearly `UVᵀ` of `x = USVᵀ`, by Newton and Schulz's iteration `x ← ax + (b·xxᵀ + c·(xxᵀ)²)x`.
///
/// # Shapes
/// x, the result `[rows, cols]`
pub fn orthogonal(pool: &Pool, x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(x.len(), rows * cols, "x isn't [{rows}, {cols}]");
    if rows > cols {
        return transposed(&orthogonal(pool, &transposed(x, rows, cols), cols, rows), cols, rows);
    }
    let norm = elementwise::sum_of_squares(x).sqrt() as f32;
    let mut x = x.to_vec();
    if norm == 0.0 {
        return x;
    }
    elementwise::scale(&mut x, 1.0 / norm);
    let [a, b, c] = COEFFICIENTS;
    let (mut square, mut mixed) = (vec![0.0; rows * rows], vec![0.0; rows * rows]);
    for _ in 0..NUM_ITERATIONS {
        gemm_nt(pool, &x, &x, &mut square, cols, Accumulate::Overwrite);
        gemm_nn(pool, &square, &square, &mut mixed, rows, Accumulate::Overwrite);
        elementwise::scale(&mut mixed, c);
        elementwise::add_scaled(&mut mixed, b, &square);
        let mut next = x.clone();
        elementwise::scale(&mut next, a);
        gemm_nn(pool, &mixed, &x, &mut next, rows, Accumulate::Add);
        x = next;
    }
    x
}

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (row, values) in x.chunks_exact(cols).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            out[col * rows + row] = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        let mut state = 12345_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn directions_are_nearly_orthogonal_and_keep_the_singular_vectors() {
        for (rows, cols) in [(4, 9), (9, 4), (16, 16), (40, 70)] {
            let (pool, x) = (Pool::new(2), values(rows * cols));
            let out = orthogonal(&pool, &x, rows, cols);
            let small = rows.min(cols);
            let wide = if rows <= cols { out.clone() } else { transposed(&out, rows, cols) };
            let mut gram = vec![0.0; small * small];
            gemm_nt(&pool, &wide, &wide, &mut gram, rows.max(cols), Accumulate::Overwrite);
            for i in 0..small {
                // Squares of singular values between 0.68 and 1.21 make a diagonal between 0.45 and 1.5.
                assert!((0.45..1.5).contains(&gram[i * small + i]), "{rows}x{cols}: {}", gram[i * small + i]);
            }
            // x and its direction agree: <x, UVᵀ> is the sum of singular values, at least the Frobenius norm.
            let dot: f32 = x.iter().zip(&out).map(|(a, b)| a * b).sum();
            let norm = elementwise::sum_of_squares(&x).sqrt() as f32;
            assert!(dot > 0.7 * norm, "{rows}x{cols}: {dot} vs. {norm}");
        }
    }

    #[test]
    fn a_step_has_the_size_of_the_lr_whatever_the_gradient() {
        for size in [1e-6, 1.0, 1e6] {
            let mut param =
                Param { data: Arc::new(vec![0.0; 24 * 40]), rows: 24, cols: 40, id: Some(ParamId(1)) };
            let mut gradients = Gradients::new();
            gradients.add(ParamId(1), values(24 * 40).iter().map(|x| x * size).collect());
            let mut muon = Muon::new(MuonConfig { momentum: 0.95, weight_decay: 0.0 });
            assert_eq!(muon.update(&Pool::new(1), [&mut param], &gradients, 0.01).unwrap(), 1);
            let mean_square = elementwise::sum_of_squares(&param.data) / (24.0 * 40.0);
            let expected = 0.01 * f64::from(UPDATE_SIZE);
            assert!((mean_square.sqrt() / expected - 1.0).abs() < 0.3, "{mean_square} for {size}");
        }
    }

    #[test]
    fn a_quadratic_is_minimised() {
        let target = values(12 * 20);
        let mut param =
            Param { data: Arc::new(vec![0.0; 12 * 20]), rows: 12, cols: 20, id: Some(ParamId(0)) };
        let mut muon = Muon::new(MuonConfig { momentum: 0.9, weight_decay: 0.0 });
        let distance = |param: &Param| -> f32 {
            param.data.iter().zip(&target).map(|(a, b)| (a - b).abs()).sum::<f32>() / 240.0
        };
        let before = distance(&param);
        for step in 0..300 {
            let mut gradients = Gradients::new();
            gradients.add(ParamId(0), param.data.iter().zip(&target).map(|(a, b)| a - b).collect());
            let lr = 0.05 * (1.0 - step as f32 / 300.0);
            muon.update(&Pool::new(2), [&mut param], &gradients, lr).unwrap();
        }
        assert!(distance(&param) < 0.05 * before, "{} of {before}", distance(&param));
    }
}
