//! Tokens to pooled vectors: the post-norm BERT forward pass over texts laid one after the other.
//!
//! Each layer: `x = norm(x + attention(x))`, then `x = norm(x + W₂ gelu(W₁ x))`. Every step works row by row or
//! text by text in one fixed order, which is why batches and threads change nothing.

use hearth_kernels::elementwise::{add_assign, gelu};
use hearth_kernels::encoder_attention::{EncoderAttentionShape, encoder_attention};
use hearth_kernels::norm::layer_norm;
use hearth_kernels::pool::Pool;
use hearth_tokenizer::TokenId;

use super::tensors::Pooling;
use super::weights::{Layer, LayerNorm, Linear, Weights};

/// Rows of one task between two products: some 10 µs of work.
const ROWS_PER_TASK: usize = 16;

/// What all steps of a pass share.
struct Pass<'a> {
    pool: &'a Pool,
    weights: &'a Weights,
    text_lens: Vec<usize>,
}

/// What a layer computes on the way, reused by the next.
#[derive(Default)]
struct Scratch {
    /// Queries, keys and values, or what stands between the two products of the feed-forward part.
    wide: Vec<f32>,
    mixed: Vec<f32>,
    y: Vec<f32>,
}

impl Weights {
    /// The last layer's rows of each text, pooled as the model wants them.
    ///
    /// # Panics
    /// If a text is empty or longer than `max_tokens`, or an id is beyond `vocab_size`.
    pub(super) fn pooled(&self, pool: &Pool, texts: &[&[TokenId]]) -> Vec<Vec<f32>> {
        let text_lens: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
        assert!(!text_lens.contains(&0), "a text without tokens");
        let pass = Pass { pool, weights: self, text_lens };
        let mut x = pass.embed(texts);
        let mut scratch = Scratch::default();
        for layer in &self.layers {
            pass.layer(layer, &mut x, &mut scratch);
        }
        match self.config.pooling {
            Pooling::Mean => pass.mean(&x),
            Pooling::First => pass.first(&x),
        }
    }
}

impl Pass<'_> {
    fn hidden_size(&self) -> usize {
        self.weights.config.hidden_size
    }

    /// `[T, C]`: embeddings of all tokens, normalised.
    fn embed(&self, texts: &[&[TokenId]]) -> Vec<f32> {
        let hidden_size = self.hidden_size();
        let first = self.weights.config.first_position;
        let tokens: Vec<(TokenId, usize)> =
            texts.iter().flat_map(|ids| ids.iter().copied().zip(first..)).collect();
        let mut x = vec![0.0; tokens.len() * hidden_size];
        self.pool.for_each_chunk(&mut x, ROWS_PER_TASK * hidden_size, |task, rows| {
            let mut sum = vec![0.0; rows.len()];
            let tokens = &tokens[task * ROWS_PER_TASK..];
            for (row, &(id, position)) in sum.chunks_exact_mut(hidden_size).zip(tokens) {
                self.weights.embeddings.row(id, position, row);
            }
            self.norm(&self.weights.embeddings.norm, &sum, rows);
        });
        x
    }

    fn layer(&self, layer: &Layer, x: &mut [f32], scratch: &mut Scratch) {
        let config = &self.weights.config;
        let head_dim = config.hidden_size / config.num_heads;
        let shape = EncoderAttentionShape {
            num_heads: config.num_heads,
            head_dim,
            scale: (head_dim as f32).sqrt().recip(),
        };
        let Scratch { wide, mixed, y } = scratch;
        self.linear(&layer.qkv, x, wide, |_| {});
        mixed.resize(x.len(), 0.0);
        encoder_attention(self.pool, &shape, &self.text_lens, wide, mixed);
        self.add_and_norm((&layer.attention_output, &layer.attention_norm), mixed, x, y);
        self.linear(&layer.intermediate, x, wide, gelu);
        self.add_and_norm((&layer.output, &layer.output_norm), wide, x, y);
    }

    /// `y = activation(x Wᵀ + bias)`.
    fn linear(&self, linear: &Linear, x: &[f32], y: &mut Vec<f32>, activation: impl Fn(&mut [f32]) + Sync) {
        let (rows, cols) = (linear.weight.rows(), linear.weight.cols());
        y.resize(x.len() / cols * rows, 0.0);
        linear.weight.multiply(self.pool, x, y);
        self.pool.for_each_chunk(y, ROWS_PER_TASK * rows, |_, y| {
            y.chunks_exact_mut(rows).for_each(|row| add_assign(row, &linear.bias));
            activation(y);
        });
    }

    /// `x = norm(x + input Wᵀ + bias)`.
    fn add_and_norm(
        &self,
        (linear, norm): (&Linear, &LayerNorm),
        input: &[f32],
        x: &mut [f32],
        y: &mut Vec<f32>,
    ) {
        let hidden_size = self.hidden_size();
        y.resize(x.len(), 0.0);
        linear.weight.multiply(self.pool, input, y);
        let chunk_len = ROWS_PER_TASK * hidden_size;
        self.pool.for_each_chunk(x, chunk_len, |task, x| {
            let mut sum = y[task * chunk_len..][..x.len()].to_vec();
            sum.chunks_exact_mut(hidden_size).for_each(|row| add_assign(row, &linear.bias));
            add_assign(&mut sum, x);
            self.norm(norm, &sum, x);
        });
    }

    fn norm(&self, norm: &LayerNorm, x: &[f32], out: &mut [f32]) {
        layer_norm(x, &norm.weight, &norm.bias, self.weights.config.layer_norm_eps, out);
    }

    fn first(&self, x: &[f32]) -> Vec<Vec<f32>> {
        let hidden_size = self.hidden_size();
        let mut start = 0;
        let rows = self.text_lens.iter().map(|len| {
            let row = x[start * hidden_size..][..hidden_size].to_vec();
            start += len;
            row
        });
        rows.collect()
    }

    fn mean(&self, x: &[f32]) -> Vec<Vec<f32>> {
        let hidden_size = self.hidden_size();
        let mut rest = x;
        let means = self.text_lens.iter().map(|&len| {
            let (rows, after) = rest.split_at(len * hidden_size);
            rest = after;
            let mut mean = vec![0.0; hidden_size];
            rows.chunks_exact(hidden_size).for_each(|row| add_assign(&mut mean, row));
            for value in &mut mean {
                *value /= len as f32;
            }
            mean
        });
        means.collect()
    }
}
