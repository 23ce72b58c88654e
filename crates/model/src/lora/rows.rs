//! Single rows of an adapted matrix: the norms that `DoRA` divides by, and what a merge writes.

use hearth_kernels::elementwise;
use hearth_kernels::pool::Pool;
use hearth_tensor::weight::{Linear, Lora};

use super::{Adapter, Entry};
use crate::decoder::{Decoder, Module};

/// Rows of a matrix that a task takes.
const ROWS_A_TASK: usize = 32;

/// Of each row of the base.
pub(super) fn base_norms(base: &Linear) -> Vec<f32> {
    let mut row = vec![0.0; base.in_features()];
    (0..base.out_features())
        .map(|index| {
            base.weight.row(index, &mut row);
            norm(&row)
        })
        .collect()
}

/// Of each row of `W + scale·B A`.
pub(super) fn norms(pool: &Pool, base: &Linear, lora: &Lora) -> Vec<f32> {
    let mut norms = vec![0.0; base.out_features()];
    pool.for_each_chunk(&mut norms, ROWS_A_TASK, |task, norms| {
        let mut row = vec![0.0; base.in_features()];
        for (index, out) in (task * ROWS_A_TASK..).zip(norms) {
            base.weight.row(index, &mut row);
            add_update(lora, index, &mut row);
            *out = norm(&row);
        }
    });
    norms
}

/// Adds row `index` of `scale·B A`.
fn add_update(lora: &Lora, index: usize, row: &mut [f32]) {
    let rank = lora.a.rows;
    let b = &lora.b.data[index * rank..(index + 1) * rank];
    for (a, b) in lora.a.data.chunks_exact(row.len()).zip(b) {
        elementwise::add_scaled(row, lora.scale * b, a);
    }
}

/// Squares are added in f64: rows have thousands of them.
fn norm(row: &[f32]) -> f32 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

/// An adapter on its decoder, to be read row by row.
#[derive(Debug)]
pub struct Merged<'a> {
    adapter: &'a Adapter,
    /// The update of each entry, with the norms of `DoRA`.
    loras: Vec<Lora>,
}

impl<'a> Merged<'a> {
    /// # Panics
    /// If the adapter is another decoder's.
    pub fn new(adapter: &'a Adapter, decoder: &Decoder, pool: &Pool) -> Self {
        let lora =
            |entry: &Entry| adapter.lora(entry, decoder.layers[entry.layer].module(entry.module), pool);
        Self { adapter, loras: adapter.entries.iter().map(lora).collect() }
    }

    /// Layers and matrices that are adapted.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, Module)> + '_ {
        self.adapter.entries.iter().map(|entry| (entry.layer, entry.module))
    }

    /// Makes row `index` of the base, in the decoder's order of rows, that of the adapted matrix.
    pub(crate) fn merge_row(&self, entry: usize, index: usize, row: &mut [f32]) {
        let lora = &self.loras[entry];
        add_update(lora, index, row);
        if let Some(dora) = &lora.dora {
            elementwise::scale(row, dora.magnitude.data[index] / dora.norms[index]);
        }
    }
}
