//! From the losses back to the parameters: operations in reverse order, each with its own rule.
//!
//! A value that was not kept is computed again by the same function as in the forward, so it has the same
//! bits, and is held until its operation has been passed. A rounding of activations in the forward
//! product of a quantised matrix counts as the identity (straight-through, Bengio et al. 2013).

use std::sync::Arc;

use hearth_kernels::elementwise;
use hearth_kernels::gemm::{Accumulate, gemm_nn, gemm_tn};
use hearth_kernels::norm;
use hearth_kernels::routing;

use super::{Gradients, Op, Tape};
use crate::graph::{Activation, Part, Routing};
use crate::ops;
use crate::tensor::Tensor;
use crate::weight::{Dora, Linear, Lora, Param};

impl Tape<'_> {
    /// Gradients of `scale` times the sum of the losses.
    pub fn backward(self, scale: f32) -> Gradients {
        let mut gradients = Gradients::new();
        self.backward_into(scale, &mut gradients);
        gradients
    }

    /// [`Self::backward`], added to what `gradients` holds. With micro-batches, `scale` is each
    /// one's share of the batch's weights.
    pub fn backward_into(mut self, scale: f32, gradients: &mut Gradients) {
        let mut pass = Pass { outputs: (0..self.nodes.len()).map(|_| None).collect(), gradients };
        for loss in std::mem::take(&mut self.losses) {
            let (index, gradient) = self.loss_backward(loss, scale, pass.gradients);
            self.pass_down(&mut pass, index, gradient);
        }
        for index in (0..self.nodes.len()).rev() {
            if let Some(dout) = pass.outputs[index].take() {
                self.node_backward(&mut pass, index, dout);
            }
            self.nodes[index].kept = None;
        }
    }

    fn node_backward(&mut self, pass: &mut Pass<'_>, index: usize, dout: Tensor) {
        match self.nodes[index].op.clone() {
            Op::Constant => {}
            Op::Embedding { table, ids } => {
                if let Some(dtable) = pass.gradients.of(&table) {
                    for (&id, dout) in ids.iter().zip(dout.data().chunks_exact(table.cols)) {
                        elementwise::add_assign(&mut dtable[id as usize * table.cols..][..table.cols], dout);
                    }
                }
            }
            Op::RmsNorm { x, weight, eps } => {
                self.rms_norm_backward(pass, x, (&weight, eps), &dout);
            }
            Op::Linear { x, layer } => self.linear_backward(pass, x, &layer, &dout),
            Op::Attention { qkv, spec, log_sum_exp } => {
                let out = self.value(index);
                let [q, k, v] = qkv.map(|input| self.value(input));
                let saved = (&*out, &*log_sum_exp);
                let dqkv = self.attend_backward([&q, &k, &v], &spec, saved, &dout);
                for (input, gradient) in qkv.into_iter().zip(dqkv) {
                    self.pass_down(pass, input, gradient);
                }
            }
            Op::Gated { activation, gate, up } => self.gated_backward(pass, activation, [gate, up], &dout),
            Op::Scale { x, factor } => {
                let mut dx = dout;
                ops::scale(self.compute(), &mut dx, factor);
                self.pass_down(pass, x, dx);
            }
            Op::SoftCap { x, cap } => {
                let (out, mut dx) = (self.value(index), dout);
                elementwise::soft_cap_backward(out.data(), cap, dx.data_mut());
                self.pass_down(pass, x, dx);
            }
            Op::Add { a, b } => {
                if self.nodes[a].needs_grad {
                    let copy = self.copy(&dout);
                    self.pass_down(pass, a, copy);
                }
                self.pass_down(pass, b, dout);
            }
            Op::TakeRows { x, rows, num_rows } => {
                let mut dx = self.arena.zeros(num_rows, dout.cols());
                for (i, &row) in rows.iter().enumerate() {
                    let start = row * dout.cols();
                    elementwise::add_assign(&mut dx.data_mut()[start..start + dout.cols()], dout.row(i));
                }
                self.pass_down(pass, x, dx);
            }
            Op::Route { logits, routing } => self.route_backward(pass, index, (logits, routing), &dout),
            Op::Combine { weights, parts } => self.combine_backward(pass, weights, &parts, &dout),
        }
    }

    fn rms_norm_backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: usize,
        (weight, eps): (&Param, f32),
        dout: &Tensor,
    ) {
        let value = self.value(x);
        if let Some(dweight) = pass.gradients.of(weight) {
            norm::rms_norm_backward_weight(value.data(), eps, dout.data(), dweight);
        }
        if !self.nodes[x].needs_grad {
            return;
        }
        // Added to what has come from above already: the residual stream's gradient is not copied.
        let dx = pass.outputs[x].get_or_insert_with(|| self.arena.zeros(value.rows(), value.cols()));
        let len = ops::values_of_whole_rows(value.cols());
        self.pool.for_each_chunk(dx.data_mut(), len, |index, dx| {
            let range = index * len..index * len + dx.len();
            let (x, dout) = (&value.data()[range.clone()], &dout.data()[range]);
            norm::rms_norm_backward(x, &weight.data, eps, dout, dx);
        });
    }

    fn linear_backward(&mut self, pass: &mut Pass<'_>, x: usize, layer: &Linear, dout: &Tensor) {
        if dout.rows() == 0 {
            return;
        }
        if let Some(dbias) = layer.bias.as_ref().and_then(|bias| pass.gradients.of(bias)) {
            for row in dout.data().chunks_exact(dout.cols()) {
                elementwise::add_assign(dbias, row);
            }
        }
        let scaled = layer.lora.as_ref().and_then(|lora| lora.dora.as_ref()).map(|dora| {
            self.magnitude_backward(pass, x, (layer, dora), dout);
            let mut scaled = self.copy(dout);
            ops::scale_columns(&mut scaled, dora);
            scaled
        });
        let dout = scaled.as_ref().unwrap_or(dout);
        if let Some(weight) = layer.weight.trained() {
            let value = self.value(x);
            if let Some(dweight) = pass.gradients.of(weight) {
                gemm_tn(self.pool, dout.data(), value.data(), dweight, dout.rows(), Accumulate::Add);
            }
        }
        let mut dx = self.nodes[x].needs_grad.then(|| {
            let mut dx = self.arena.take(dout.rows(), layer.in_features());
            layer.weight.transposed(self.pool, dout.data(), dx.data_mut());
            dx
        });
        if let Some(lora) = &layer.lora {
            self.lora_backward(pass, x, (lora, dout), dx.as_mut());
        }
        if let Some(dx) = dx {
            self.pass_down(pass, x, dx);
        }
    }

    /// Of `y[j] = magnitude[j] / norm[j] · z[j]`, norms being constants: `dmagnitude[j] = Σ dy[j]·z[j] / norm[j]`.
    fn magnitude_backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: usize,
        (layer, dora): (&Linear, &Dora),
        dout: &Tensor,
    ) {
        if dora.magnitude.id.is_none() {
            return;
        }
        let x = self.value(x);
        let z = ops::before_factors(self.compute(), &x, layer);
        let mut sums = vec![0.0; z.cols()];
        for (z, dout) in z.data().chunks_exact(z.cols()).zip(dout.data().chunks_exact(z.cols())) {
            for ((sum, z), dout) in sums.iter_mut().zip(z).zip(dout) {
                *sum += z * dout;
            }
        }
        if let Some(gradient) = pass.gradients.of(&dora.magnitude) {
            for ((gradient, sum), norm) in gradient.iter_mut().zip(sums).zip(dora.norms.iter()) {
                *gradient += sum / norm;
            }
        }
    }

    /// Of `y += (scale·x Aᵀ) Bᵀ`: with `g = scale·dy B`, `dx += g A`, `dA += gᵀ x`, `dB += dyᵀ (scale·x Aᵀ)`.
    fn lora_backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: usize,
        (lora, dout): (&Lora, &Tensor),
        dx: Option<&mut Tensor>,
    ) {
        let Lora { a, b, scale, .. } = lora;
        let (rows, rank) = (dout.rows(), a.rows);
        let mut g = self.arena.take(rows, rank);
        gemm_nn(self.pool, dout.data(), &b.data, g.data_mut(), b.rows, Accumulate::Overwrite);
        elementwise::scale(g.data_mut(), *scale);
        if let Some(dx) = dx {
            gemm_nn(self.pool, g.data(), &a.data, dx.data_mut(), rank, Accumulate::Add);
        }
        if a.id.is_none() && b.id.is_none() {
            return;
        }
        let value = self.value(x);
        if let Some(da) = pass.gradients.of(a) {
            gemm_tn(self.pool, g.data(), value.data(), da, rows, Accumulate::Add);
        }
        if let Some(db) = pass.gradients.of(b) {
            let hidden = ops::lora_hidden(self.compute(), &value, lora);
            gemm_tn(self.pool, dout.data(), hidden.data(), db, rows, Accumulate::Add);
        }
    }

    fn gated_backward(
        &mut self,
        pass: &mut Pass<'_>,
        activation: Activation,
        [gate, up]: [usize; 2],
        dout: &Tensor,
    ) {
        let (gate_value, up_value) = (self.value(gate), self.value(up));
        let dgate = ops::gated_backward(self.compute(), activation, (&gate_value, &up_value), dout);
        self.pass_down(pass, gate, dgate);
        // The product's other factor is the activation of the gate: the forward's own function.
        let dup = ops::gated(self.compute(), activation, &gate_value, dout);
        self.pass_down(pass, up, dup);
    }

    fn route_backward(
        &mut self,
        pass: &mut Pass<'_>,
        index: usize,
        (logits, routing): (usize, Routing),
        dout: &Tensor,
    ) {
        let (values, weights) = (self.value(logits), self.value(index));
        let num_experts = values.cols();
        let mut dlogits = self.arena.take(values.rows(), num_experts);
        let inputs = (values.data(), weights.data());
        routing::route_backward(inputs, num_experts, routing, dout.data(), dlogits.data_mut());
        self.pass_down(pass, logits, dlogits);
    }

    /// Of `out[t] += w[t, e]·y[t]`: `dy[t] = w[t, e]·dout[t]`, `dw[t, e] = Σ dout[t]·y[t]`.
    fn combine_backward(
        &mut self,
        pass: &mut Pass<'_>,
        weights: usize,
        parts: &[Part<usize>],
        dout: &Tensor,
    ) {
        let values = self.value(weights);
        if self.nodes[weights].needs_grad {
            let mut dweights = self.arena.zeros(values.rows(), values.cols());
            for Part { expert, rows, value } in parts {
                let value = self.value(*value);
                for (i, &row) in rows.iter().enumerate() {
                    dweights.data_mut()[row * values.cols() + expert] =
                        routing::weight_gradient(dout.row(row), value.row(i));
                }
            }
            self.pass_down(pass, weights, dweights);
        }
        for Part { expert, rows, value } in parts {
            let mut dvalue = ops::take_rows(self.compute(), dout, rows);
            for (dvalue, &row) in dvalue.data_mut().chunks_exact_mut(dout.cols()).zip(rows) {
                elementwise::scale(dvalue, values.row(row)[*expert]);
            }
            self.pass_down(pass, *value, dvalue);
        }
    }

    /// Adds to the gradient of an input that needs one.
    fn pass_down(&self, pass: &mut Pass<'_>, index: usize, gradient: Tensor) {
        if !self.nodes[index].needs_grad {
            return;
        }
        match &mut pass.outputs[index] {
            Some(sum) => ops::add_assign(self.compute(), sum, &gradient),
            place => *place = Some(gradient),
        }
    }

    /// The value at `index`: kept, or computed again and then kept.
    fn value(&mut self, index: usize) -> Arc<Tensor> {
        if let Some(value) = &self.nodes[index].kept {
            return Arc::clone(value);
        }
        let value = match self.nodes[index].op.clone() {
            Op::RmsNorm { x, weight, eps } => {
                let x = self.value(x);
                ops::rms_norm(self.compute(), &x, &weight, eps)
            }
            Op::Linear { x, layer } => {
                let x = self.value(x);
                ops::linear(self.compute(), &x, &layer)
            }
            Op::Gated { activation, gate, up } => {
                let (gate, up) = (self.value(gate), self.value(up));
                ops::gated(self.compute(), activation, &gate, &up)
            }
            Op::Route { logits, routing } => {
                let logits = self.value(logits);
                ops::route(self.compute(), &logits, routing)
            }
            op @ (Op::Constant
            | Op::Embedding { .. }
            | Op::Attention { .. }
            | Op::Scale { .. }
            | Op::SoftCap { .. }
            | Op::Add { .. }
            | Op::TakeRows { .. }
            | Op::Combine { .. }) => {
                unreachable!("`keep` has not kept the value of {op:?}")
            }
        };
        let value = Arc::new(value);
        self.nodes[index].kept = Some(Arc::clone(&value));
        value
    }
}

/// What a backward pass carries along.
struct Pass<'a> {
    /// Each operation's gradient of its output, as far as it has come in.
    outputs: Vec<Option<Tensor>>,
    gradients: &'a mut Gradients,
}
