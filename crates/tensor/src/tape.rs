//! Executes a forward pass and remembers what its backward needs.
//!
//! What is kept of a layer, in values a token: the residual stream before each norm, q, k, v, attention's output
//! with one log-sum-exp a head, gate and up. Recomputed in the backward: norms, gated products and
//! rotations, and with [`Keep::Little`] every projection too. An operation without a trained parameter at
//! or below it keeps nothing and costs nothing in the backward.
//!
//! * `losses` — cross-entropy of logits, or of a head without holding them
//! * `backward` — from the loss to [`Gradients`], each operation's rule
//! * `noise` — on embeddings, against learning by heart
//! * `attention` — packed sequences: causal attention forward and backward

mod attention;
mod backward;
mod gradients;
mod losses;
mod noise;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use hearth_kernels::pool::Pool;

use crate::graph::{Activation, AttentionSpec, Graph, Part, Routing};
use crate::ops::{self, Compute, RopeTables};
use crate::tensor::{Arena, Tensor};
use crate::weight::{Linear, Param};

pub use gradients::Gradients;
use losses::Loss;
pub use noise::Noise;

/// What a tape holds on to between forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Outputs of projections: nothing that needs a matrix product is computed twice.
    Projections,
    /// The residual stream and attention's output; projections are recomputed (checkpointing, Chen et
    /// al. 2016): about a fifth of the memory for two thirds of a forward more.
    Little,
    /// Nothing: a forward without a backward, as for validation.
    Nothing,
}

/// A value on the tape. The tape itself holds it only if the backward needs it, so drop it when done.
#[derive(Debug, Clone)]
pub struct Var {
    index: usize,
    value: Arc<Tensor>,
}

impl Var {
    pub fn value(&self) -> &Tensor {
        &self.value
    }
}

/// Records one forward pass over sequences laid one after the other.
#[derive(Debug)]
pub struct Tape<'a> {
    pool: &'a Pool,
    arena: Arena,
    keep: Keep,
    sequence_lens: Vec<usize>,
    /// Each row's position in its sequence.
    positions: Vec<u32>,
    rope_tables: RopeTables,
    noise: Option<Noise>,
    nodes: Vec<Node>,
    losses: Vec<Loss>,
}

#[derive(Debug)]
struct Node {
    op: Op,
    /// Whether a trained parameter is in this operation or below it.
    needs_grad: bool,
    /// The value as long as somebody holds it.
    value: Weak<Tensor>,
    /// The value if the backward needs it.
    kept: Option<Arc<Tensor>>,
}

/// An operation with its inputs' places on the tape.
#[derive(Debug, Clone)]
enum Op {
    /// Nothing below it is trained.
    Constant,
    Embedding {
        table: Param,
        ids: Arc<[u32]>,
    },
    RmsNorm {
        x: usize,
        weight: Param,
        eps: f32,
    },
    Linear {
        x: usize,
        layer: Linear,
    },
    Attention {
        qkv: [usize; 3],
        spec: AttentionSpec,
        log_sum_exp: Arc<[f32]>,
    },
    Gated {
        activation: Activation,
        gate: usize,
        up: usize,
    },
    Scale {
        x: usize,
        factor: f32,
    },
    SoftCap {
        x: usize,
        cap: f32,
    },
    Add {
        a: usize,
        b: usize,
    },
    TakeRows {
        x: usize,
        rows: Arc<[usize]>,
        num_rows: usize,
    },
    Route {
        logits: usize,
        routing: Routing,
    },
    Combine {
        weights: usize,
        parts: Arc<[Part<usize>]>,
    },
}

impl Op {
    fn inputs(&self) -> Vec<usize> {
        match *self {
            Self::Constant | Self::Embedding { .. } => vec![],
            Self::RmsNorm { x, .. }
            | Self::Linear { x, .. }
            | Self::Scale { x, .. }
            | Self::SoftCap { x, .. }
            | Self::TakeRows { x, .. } => vec![x],
            Self::Attention { qkv, .. } => qkv.to_vec(),
            Self::Gated { gate, up, .. } => vec![gate, up],
            Self::Add { a, b } => vec![a, b],
            Self::Route { logits, .. } => vec![logits],
            Self::Combine { weights, ref parts } => {
                parts.iter().map(|part| part.value).chain([weights]).collect()
            }
        }
    }
}

impl<'a> Tape<'a> {
    /// An empty tape for rows that are sequences of the given lengths, one after the other. `arena` may
    /// be shared with other tapes, one after the other, so that memory is reused from step to step.
    pub fn new(pool: &'a Pool, arena: &Arena, sequence_lens: &[usize], keep: Keep) -> Self {
        Self {
            pool,
            arena: arena.clone(),
            keep,
            sequence_lens: sequence_lens.to_vec(),
            positions: sequence_lens.iter().flat_map(|&len| 0..len as u32).collect(),
            rope_tables: RopeTables::default(),
            noise: None,
            nodes: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// The same tape, with noise on what embeddings give.
    pub fn with_noise(self, noise: Option<Noise>) -> Self {
        Self { noise, ..self }
    }

    /// Bytes of values held for the backward, those of losses included.
    pub fn kept_bytes(&self) -> usize {
        let kept = self.nodes.iter().filter_map(|node| node.kept.as_deref());
        let values = kept.chain(self.losses.iter().map(Loss::held));
        values.map(|value| size_of_val(value.data())).sum()
    }

    fn compute(&self) -> Compute<'_> {
        Compute { pool: self.pool, arena: &self.arena }
    }

    fn record(&mut self, op: Op, needs_grad: bool, value: Tensor) -> Var {
        let needs_grad = needs_grad && self.keep != Keep::Nothing;
        let value = Arc::new(value);
        let weak = Arc::downgrade(&value);
        self.nodes.push(Node { op, needs_grad, value: weak, kept: None });
        Var { index: self.nodes.len() - 1, value }
    }

    fn needs_grad(&self, inputs: &[usize]) -> bool {
        inputs.iter().any(|&input| self.nodes[input].needs_grad)
    }

    /// Whether the backward computes this value again instead of keeping it.
    fn recomputes(&self, index: usize) -> bool {
        match self.nodes[index].op {
            Op::RmsNorm { .. } | Op::Gated { .. } | Op::Route { .. } => true,
            Op::Linear { .. } => self.keep != Keep::Projections,
            Op::Constant
            | Op::Embedding { .. }
            | Op::Attention { .. }
            | Op::Scale { .. }
            | Op::SoftCap { .. }
            | Op::Add { .. }
            | Op::TakeRows { .. }
            | Op::Combine { .. } => false,
        }
    }

    /// Makes sure that the backward can have the value at `index`: from what it is computed of, if that
    /// is cheap and still there, else by keeping it. False if the value is gone.
    fn keep(&mut self, index: usize) -> bool {
        if self.nodes[index].kept.is_some() {
            return true;
        }
        if self.recomputes(index) {
            let inputs = self.nodes[index].op.inputs();
            if inputs.iter().all(|&input| self.keep(input)) {
                return true;
            }
        }
        self.nodes[index].kept = self.nodes[index].value.upgrade();
        self.nodes[index].kept.is_some()
    }

    /// [`Self::keep`] for a value that the caller holds.
    fn keep_held(&mut self, var: &Var) {
        if self.keep != Keep::Nothing {
            assert!(self.keep(var.index), "a value of another tape");
        }
    }
}

impl Graph for Tape<'_> {
    type Var = Var;

    fn embedding(&mut self, table: &Linear, ids: &[u32]) -> Var {
        assert_eq!(ids.len(), self.positions.len(), "ids vs. the sequences' lengths");
        let mut value = ops::embedding(self.compute(), table, ids);
        if let Some(noise) = self.noise {
            noise.add(&mut value, &self.sequence_lens);
        }
        match table.weight.trained() {
            Some(table) => self.record(Op::Embedding { table: table.clone(), ids: ids.into() }, true, value),
            None => self.record(Op::Constant, false, value),
        }
    }

    fn rms_norm(&mut self, x: &Var, weight: &Param, eps: f32) -> Var {
        let needs_grad = weight.id.is_some() || self.needs_grad(&[x.index]);
        if needs_grad {
            self.keep_held(x);
        }
        let value = ops::rms_norm(self.compute(), &x.value, weight, eps);
        let op = Op::RmsNorm { x: x.index, weight: weight.clone(), eps };
        self.record(op, needs_grad, value)
    }

    fn linear(&mut self, x: &Var, layer: &Linear) -> Var {
        let trained = |param: &Param| param.id.is_some();
        let lora_trained = layer.lora.as_ref().is_some_and(|lora| {
            trained(&lora.a) || trained(&lora.b) || lora.dora.as_ref().is_some_and(|d| trained(&d.magnitude))
        });
        let x_needed = lora_trained || layer.weight.trained().is_some();
        let needs_grad = x_needed || layer.bias.as_ref().is_some_and(trained) || self.needs_grad(&[x.index]);
        if x_needed {
            self.keep_held(x);
        }
        let value = ops::linear(self.compute(), &x.value, layer);
        self.record(Op::Linear { x: x.index, layer: layer.clone() }, needs_grad, value)
    }

    fn attention(&mut self, q: Var, k: Var, v: Var, spec: &AttentionSpec) -> Var {
        let qkv = [q.index, k.index, v.index];
        let needs_grad = self.needs_grad(&qkv);
        let (value, log_sum_exp) = self.attend([&q.value, &k.value, &v.value], spec);
        if needs_grad {
            for var in [&q, &k, &v] {
                self.keep_held(var);
            }
        }
        let log_sum_exp = log_sum_exp.into();
        let op = Op::Attention { qkv, spec: spec.clone(), log_sum_exp };
        let var = self.record(op, needs_grad, value);
        if needs_grad {
            self.keep_held(&var);
        }
        var
    }

    fn gated(&mut self, activation: Activation, gate: Var, up: Var) -> Var {
        let needs_grad = self.needs_grad(&[gate.index, up.index]);
        if needs_grad {
            self.keep_held(&gate);
            self.keep_held(&up);
        }
        let value = ops::gated(self.compute(), activation, &gate.value, &up.value);
        self.record(Op::Gated { activation, gate: gate.index, up: up.index }, needs_grad, value)
    }

    fn scale(&mut self, x: Var, factor: f32) -> Var {
        let op = Op::Scale { x: x.index, factor };
        let needs_grad = self.needs_grad(&[x.index]);
        let mut value = self.taken(x);
        ops::scale(self.compute(), &mut value, factor);
        self.record(op, needs_grad, value)
    }

    fn soft_cap(&mut self, x: Var, cap: f32) -> Var {
        let op = Op::SoftCap { x: x.index, cap };
        let needs_grad = self.needs_grad(&[x.index]);
        let mut value = self.taken(x);
        ops::soft_cap(self.compute(), &mut value, cap);
        let var = self.record(op, needs_grad, value);
        if needs_grad {
            self.keep_held(&var);
        }
        var
    }

    fn add(&mut self, a: Var, b: Var) -> Var {
        let needs_grad = self.needs_grad(&[a.index, b.index]);
        let op = Op::Add { a: a.index, b: b.index };
        // In the place of an operand that nobody else holds; the other is often the residual stream.
        let (mut sum, other) = match (Arc::try_unwrap(a.value), Arc::try_unwrap(b.value)) {
            (Ok(a), Ok(b)) => (a, Arc::new(b)),
            (Ok(a), Err(b)) => (a, b),
            (Err(a), Ok(b)) => (b, a),
            (Err(a), Err(b)) => (self.copy(&a), b),
        };
        ops::add_assign(self.compute(), &mut sum, &other);
        self.record(op, needs_grad, sum)
    }

    fn take_rows(&mut self, x: &Var, rows: &[usize]) -> Var {
        let needs_grad = self.needs_grad(&[x.index]);
        let value = ops::take_rows(self.compute(), &x.value, rows);
        let op = Op::TakeRows { x: x.index, rows: rows.into(), num_rows: x.value.rows() };
        self.record(op, needs_grad, value)
    }

    fn route(&mut self, logits: Var, routing: Routing) -> (Var, Vec<Vec<usize>>) {
        let needs_grad = self.needs_grad(&[logits.index]);
        if needs_grad {
            self.keep_held(&logits);
        }
        let weights = ops::route(self.compute(), &logits.value, routing);
        let rows = ops::rows_of_experts(&weights);
        (self.record(Op::Route { logits: logits.index, routing }, needs_grad, weights), rows)
    }

    fn combine(&mut self, weights: &Var, parts: Vec<Part<Var>>) -> Var {
        let inputs: Vec<usize> = parts.iter().map(|part| part.value.index).chain([weights.index]).collect();
        let needs_grad = self.needs_grad(&inputs);
        if needs_grad {
            self.keep_held(weights);
        }
        if self.needs_grad(&[weights.index]) {
            for part in &parts {
                self.keep_held(&part.value);
            }
        }
        let values = parts.iter().map(|part| (part.expert, &*part.rows, &*part.value.value));
        let value = ops::combine(self.compute(), &weights.value, values);
        let places =
            parts.into_iter().map(|Part { expert, rows, value }| Part { expert, rows, value: value.index });
        let op = Op::Combine { weights: weights.index, parts: places.collect() };
        self.record(op, needs_grad, value)
    }
}

impl Tape<'_> {
    /// The value to work on in its place, copied if somebody else holds it.
    fn taken(&self, x: Var) -> Tensor {
        Arc::try_unwrap(x.value).unwrap_or_else(|value| self.copy(&value))
    }

    fn copy(&self, x: &Tensor) -> Tensor {
        let mut copy = self.arena.take(x.rows(), x.cols());
        copy.data_mut().copy_from_slice(x.data());
        copy
    }
}
