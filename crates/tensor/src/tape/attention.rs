//! Causal attention within each packed sequence, by the kernel that generation uses.
//!
//! Keys and values go into pages that live for one layer's forward. The backward rotates q and k again and
//! recomputes probabilities from the log-sum-exp of each row and head.

use hearth_kernels::attention::{Keys, PAGE, PageLayout, Segment, attention};
use hearth_kernels::attention_backward::{AttentionGradients, SavedAttention, attention_backward};
use hearth_kernels::rope::Direction;

use super::Tape;
use crate::graph::AttentionSpec;
use crate::ops;
use crate::tensor::Tensor;

impl Tape<'_> {
    /// Attention's output `[T, H·D]` and the log-sum-exp `[T, H]` of q, k and v before rotation.
    pub(super) fn attend(&mut self, [q, k, v]: [&Tensor; 3], spec: &AttentionSpec) -> (Tensor, Vec<f32>) {
        let q = self.rotated(q, spec, Direction::Forward);
        let k = self.rotated(k, spec, Direction::Forward);
        let layout = layout(spec);
        let num_pages = self.sequence_lens.iter().map(|len| len.div_ceil(PAGE)).sum();
        let mut pages = self.arena.zeros(num_pages, layout.page_len());
        let mut unwritten = pages.data_mut().chunks_exact_mut(layout.page_len());
        let mut row = 0;
        for &len in &self.sequence_lens {
            for start in (0..len).step_by(PAGE) {
                let page = unwritten.next().expect("pages were counted by the same lengths");
                for slot in 0..PAGE.min(len - start) {
                    layout.write(page, 0, slot, k.row(row), v.row(row));
                    row += 1;
                }
            }
        }
        let mut first_page = 0;
        let segments: Vec<Segment<'_>> = self
            .sequence_lens
            .iter()
            .map(|&rows| {
                let of_sequence = first_page..first_page + rows.div_ceil(PAGE);
                first_page = of_sequence.end;
                Segment { pages: of_sequence.map(|page| pages.row(page)).collect(), position: 0, rows }
            })
            .collect();
        let mut out = self.arena.take(q.rows(), q.cols());
        let mut log_sum_exp = vec![0.0; q.rows() * spec.num_heads];
        let output = (q.data(), out.data_mut());
        let keys = Keys { layout, layer: 0, most_pages: None };
        attention(self.pool, &spec.shape(), keys, &segments, output, Some(&mut log_sum_exp));
        (out, log_sum_exp)
    }

    /// Gradients of q, k and v before rotation, from those of `out`.
    pub(super) fn attend_backward(
        &mut self,
        [q, k, v]: [&Tensor; 3],
        spec: &AttentionSpec,
        (out, log_sum_exp): (&Tensor, &[f32]),
        dout: &Tensor,
    ) -> [Tensor; 3] {
        let q = self.rotated(q, spec, Direction::Forward);
        let mut k = self.rotated(k, spec, Direction::Forward);
        let mut v = self.copy(v);
        // The probabilities are those of the rounded keys; the rounding itself counts as the identity.
        layout(spec).round(k.data_mut());
        layout(spec).round(v.data_mut());
        let mut dq = self.arena.take(q.rows(), q.cols());
        let mut dk = self.arena.take(k.rows(), k.cols());
        let mut dv = self.arena.take(v.rows(), v.cols());
        let saved = SavedAttention { q: q.data(), k: k.data(), v: v.data(), out: out.data(), log_sum_exp };
        let mut gradients = AttentionGradients { dq: dq.data_mut(), dk: dk.data_mut(), dv: dv.data_mut() };
        let lens = &self.sequence_lens;
        attention_backward(self.pool, &spec.shape(), lens, &saved, dout.data(), &mut gradients);
        self.rotate(&mut dq, spec, Direction::Backward);
        self.rotate(&mut dk, spec, Direction::Backward);
        [dq, dk, dv]
    }

    fn rotated(&mut self, x: &Tensor, spec: &AttentionSpec, direction: Direction) -> Tensor {
        let mut copy = self.copy(x);
        self.rotate(&mut copy, spec, direction);
        copy
    }

    fn rotate(&mut self, x: &mut Tensor, spec: &AttentionSpec, direction: Direction) {
        let longest = self.sequence_lens.iter().copied().max().unwrap_or(0);
        let table = self.rope_tables.table(&spec.rope, spec.head_dim, longest);
        let compute = ops::Compute { pool: self.pool, arena: &self.arena };
        ops::rotate(compute, table, x, &self.positions, spec.rope.pairing(), direction);
    }
}

/// Pages of one layer.
fn layout(spec: &AttentionSpec) -> PageLayout {
    PageLayout {
        num_layers: 1,
        num_kv_heads: spec.num_kv_heads,
        head_dim: spec.head_dim,
        kv_type: spec.kv.kv_type,
        has_bounds: false,
    }
}
