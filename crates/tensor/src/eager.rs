//! Executes a forward pass and forgets: generation, evaluation.
//!
//! In: sequences with their cached keys and values, and the new rows of each. Values are owned tensors
//! whose buffers go back to the arena as soon as the model drops them.

use hearth_kernels::attention::{Keys, attention};
use hearth_kernels::pool::Pool;
use hearth_kernels::rope::Direction;

use crate::graph::{Activation, AttentionSpec, Graph, Part, Routing};
use crate::kv::KvCache;
use crate::ops::{self, Compute, RopeTables};
use crate::tensor::{Arena, Tensor};
use crate::weight::{Linear, Param};

/// What stays between forward passes: buffers and tables.
#[derive(Debug, Default)]
pub struct Workspace {
    arena: Arena,
    rope_tables: RopeTables,
}

/// New rows of one sequence.
#[derive(Debug)]
pub struct Rows<'a> {
    pub cache: &'a mut KvCache,
    /// How many rows of the batch are this sequence's.
    pub count: usize,
}

/// One forward pass over a batch of sequences.
#[derive(Debug)]
pub struct Eager<'a> {
    pool: &'a Pool,
    workspace: &'a mut Workspace,
    sequences: Vec<Rows<'a>>,
    positions: Vec<u32>,
}

impl<'a> Eager<'a> {
    /// Starts a pass; rows of the batch follow the order of `sequences`.
    pub fn new(pool: &'a Pool, workspace: &'a mut Workspace, mut sequences: Vec<Rows<'a>>) -> Self {
        let mut positions = Vec::new();
        for rows in &mut sequences {
            rows.cache.reserve(rows.count);
            positions.extend((rows.cache.len()..rows.cache.len() + rows.count).map(|at| at as u32));
        }
        Self { pool, workspace, sequences, positions }
    }

    /// Ends the pass: the new rows count as cached from now on. A pass that is dropped instead leaves
    /// every sequence as it was.
    pub fn finish(self) {
        for rows in self.sequences {
            rows.cache.advance(rows.count);
        }
    }

    fn compute(&self) -> Compute<'_> {
        Compute { pool: self.pool, arena: &self.workspace.arena }
    }
}

impl Graph for Eager<'_> {
    type Var = Tensor;

    fn embedding(&mut self, table: &Linear, ids: &[u32]) -> Tensor {
        ops::embedding(self.compute(), table, ids)
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Param, eps: f32) -> Tensor {
        ops::rms_norm(self.compute(), x, weight, eps)
    }

    fn linear(&mut self, x: &Tensor, layer: &Linear) -> Tensor {
        ops::linear(self.compute(), x, layer)
    }

    fn linears<const N: usize>(&mut self, x: &Tensor, layers: [&Linear; N]) -> [Tensor; N] {
        ops::linears(self.compute(), x, layers)
    }

    fn attention(&mut self, mut q: Tensor, mut k: Tensor, v: Tensor, spec: &AttentionSpec) -> Tensor {
        let longest = self.positions.iter().max().map_or(0, |&position| position as usize + 1);
        let compute = Compute { pool: self.pool, arena: &self.workspace.arena };
        let table = self.workspace.rope_tables.table(&spec.rope, spec.head_dim, longest);
        let pairing = spec.rope.pairing();
        ops::rotate(compute, table, &mut q, &self.positions, pairing, Direction::Forward);
        ops::rotate(compute, table, &mut k, &self.positions, pairing, Direction::Forward);
        let mut row = 0;
        for rows in &mut self.sequences {
            let range = row * k.cols()..(row + rows.count) * k.cols();
            rows.cache.write(spec.layer_index, &k.data()[range.clone()], &v.data()[range]);
            row += rows.count;
        }
        let mut out = self.workspace.arena.take(q.rows(), q.cols());
        let Some(first) = self.sequences.first() else { return out };
        let layout = first.cache.layout();
        assert_eq!(layout.kv_type, spec.kv.kv_type, "the type of the sequence's keys vs. the model's");
        let keys = Keys { layout, layer: spec.layer_index, most_pages: spec.kv.sparse_pages };
        let segments: Vec<_> = self.sequences.iter().map(|rows| rows.cache.segment(rows.count)).collect();
        attention(self.pool, &spec.shape(), keys, &segments, (q.data(), out.data_mut()), None);
        out
    }

    fn gated(&mut self, activation: Activation, gate: Tensor, up: Tensor) -> Tensor {
        ops::gated(self.compute(), activation, &gate, &up)
    }

    fn scale(&mut self, mut x: Tensor, factor: f32) -> Tensor {
        ops::scale(self.compute(), &mut x, factor);
        x
    }

    fn soft_cap(&mut self, mut x: Tensor, cap: f32) -> Tensor {
        ops::soft_cap(self.compute(), &mut x, cap);
        x
    }

    fn add(&mut self, mut a: Tensor, b: Tensor) -> Tensor {
        ops::add_assign(self.compute(), &mut a, &b);
        a
    }

    fn take_rows(&mut self, x: &Tensor, rows: &[usize]) -> Tensor {
        ops::take_rows(self.compute(), x, rows)
    }

    fn route(&mut self, logits: Tensor, routing: Routing) -> (Tensor, Vec<Vec<usize>>) {
        let weights = ops::route(self.compute(), &logits, routing);
        let rows = ops::rows_of_experts(&weights);
        (weights, rows)
    }

    fn combine(&mut self, weights: &Tensor, parts: Vec<Part<Tensor>>) -> Tensor {
        ops::combine(
            self.compute(),
            weights,
            parts.iter().map(|part| (part.expert, &*part.rows, &part.value)),
        )
    }
}
