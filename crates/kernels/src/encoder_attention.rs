//! Attention of encoders: each token sees every token of its own text (Vaswani et al. 2017, without a mask).
//!
//! Texts lie one after the other without padding. One task for each text and head; within it, keys are
//! interleaved by sixteen so that a lane is a key, then a dimension of the head; sums run over dimensions and
//! keys in ascending order. A text's result depends on nothing but the text. Forward only: encoders aren't trained.

use crate::dispatch::{LANES, multiversion, sum_lanes};
use crate::elementwise::exp;
use crate::gemm::{Accumulate, STRIP, Tile};
use crate::pool::{Parts, Pool};

/// Queries whose scores are held at a time: 64 KiB of them at 512 keys, which a second-level cache holds.
const QUERY_BLOCK: usize = 32;

/// What the layer looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderAttentionShape {
    pub num_heads: usize,
    pub head_dim: usize,
    /// Factor on q·k before the softmax.
    pub scale: f32,
}

/// `out = softmax(scale·q·kᵀ) v` for each text and head.
///
/// # Shapes
/// qkv `[T, 3·H·D]`: queries, keys and values side by side; out `[T, H·D]`; `text_lens` add up to T.
pub fn encoder_attention(
    pool: &Pool,
    shape: &EncoderAttentionShape,
    text_lens: &[usize],
    qkv: &[f32],
    out: &mut [f32],
) {
    let hidden_size = shape.num_heads * shape.head_dim;
    let num_tokens: usize = text_lens.iter().sum();
    assert_eq!(qkv.len(), num_tokens * hidden_size * 3, "qkv isn't [{num_tokens}, 3·{hidden_size}]");
    assert_eq!(out.len(), num_tokens * hidden_size, "out isn't [{num_tokens}, {hidden_size}]");
    let starts: Vec<usize> = text_lens
        .iter()
        .scan(0, |next, len| {
            *next += len;
            Some(*next - len)
        })
        .collect();
    let parts = Parts::new(out);
    pool.run(text_lens.len() * shape.num_heads, &|task| {
        let (text_index, head) = (task / shape.num_heads, task % shape.num_heads);
        let (start, len) = (starts[text_index], text_lens[text_index]);
        let rows = &qkv[start * hidden_size * 3..(start + len) * hidden_size * 3];
        attend(shape, head, rows, |row, values| {
            let at = (start + row) * hidden_size + head * shape.head_dim;
            // SAFETY: this task alone writes this head's columns of this text's rows.
            unsafe { parts.slice(at, shape.head_dim) }.copy_from_slice(values);
        });
    });
}

/// One text and head: gives each row's output to `write`.
fn attend(shape: &EncoderAttentionShape, head: usize, qkv: &[f32], mut write: impl FnMut(usize, &[f32])) {
    let (head_dim, hidden_size) = (shape.head_dim, shape.num_heads * shape.head_dim);
    let len = qkv.len() / (hidden_size * 3);
    let keys = interleaved_keys(qkv, hidden_size, head * head_dim, head_dim);
    let cols = head_dim.next_multiple_of(STRIP);
    let values = padded_values(qkv, hidden_size, head * head_dim, head_dim);
    let width = len.next_multiple_of(STRIP);
    let mut scores = vec![0.0; QUERY_BLOCK.min(len) * width];
    let mut mixed = vec![0.0; QUERY_BLOCK.min(len) * cols];
    let mut sums = [0.0; QUERY_BLOCK];
    for first in (0..len).step_by(QUERY_BLOCK) {
        let count = QUERY_BLOCK.min(len - first);
        let queries = &qkv[first * hidden_size * 3 + head * head_dim..];
        let scores = &mut scores[..count * width];
        for (strip, keys) in keys.chunks_exact(STRIP * head_dim).enumerate() {
            let tile = Tile { b: keys.as_ptr(), step: STRIP, k: head_dim };
            let to = scores[strip * STRIP..].as_mut_ptr();
            // SAFETY: `count` query rows of head_dim values lie in qkv with stride 3·H·D; the strip holds
            // sixteen keys; each row of scores has room for the strip's sixteen columns.
            unsafe {
                tile.rows(queries.as_ptr(), [hidden_size * 3, 1], to, [count, width], Accumulate::Overwrite);
            }
        }
        softmax_rows(scores, width, len, shape.scale, &mut sums);
        for strip in 0..cols / STRIP {
            let tile = Tile { b: values[strip * STRIP..].as_ptr(), step: cols, k: len };
            let to = mixed[strip * STRIP..].as_mut_ptr();
            // SAFETY: `count` rows of scores hold at least `len` values; each of `len` value rows and of
            // `count` rows of mixed has sixteen columns at this strip.
            unsafe {
                tile.rows(scores.as_ptr(), [width, 1], to, [count, cols], Accumulate::Overwrite);
            }
        }
        for (row, mixed) in mixed.chunks_exact_mut(cols).take(count).enumerate() {
            let mixed = &mut mixed[..head_dim];
            for value in mixed.iter_mut() {
                *value /= sums[row];
            }
            write(first + row, mixed);
        }
    }
}

/// The head's keys as `[len / 16, D, 16]`, the last strip filled up with zeros.
fn interleaved_keys(qkv: &[f32], hidden_size: usize, head_start: usize, head_dim: usize) -> Vec<f32> {
    let len = qkv.len() / (hidden_size * 3);
    let mut keys = vec![0.0; len.next_multiple_of(STRIP) * head_dim];
    for (index, row) in qkv.chunks_exact(hidden_size * 3).enumerate() {
        let key = &row[hidden_size + head_start..][..head_dim];
        let strip = &mut keys[index / STRIP * STRIP * head_dim..][..STRIP * head_dim];
        for (to, &value) in strip[index % STRIP..].iter_mut().step_by(STRIP).zip(key) {
            *to = value;
        }
    }
    keys
}

/// The head's values as `[len, D]`, rows filled up with zeros to whole strips.
fn padded_values(qkv: &[f32], hidden_size: usize, head_start: usize, head_dim: usize) -> Vec<f32> {
    let (len, cols) = (qkv.len() / (hidden_size * 3), head_dim.next_multiple_of(STRIP));
    let mut values = vec![0.0; len * cols];
    for (to, row) in values.chunks_exact_mut(cols).zip(qkv.chunks_exact(hidden_size * 3)) {
        to[..head_dim].copy_from_slice(&row[2 * hidden_size + head_start..][..head_dim]);
    }
    values
}

multiversion! {
    /// Replaces each row's scores by `exp(scale·(score - largest))` and gives their sum; columns from `len`
    /// on become 0. Rows are whole lanes.
    fn softmax_rows(scores: &mut [f32], width: usize, len: usize, scale: f32, sums: &mut [f32]) {
        for (row, sum) in scores.chunks_exact_mut(width).zip(sums) {
            row[len..].fill(f32::NEG_INFINITY);
            let (chunks, _) = row.as_chunks_mut::<LANES>();
            let mut largest = [f32::NEG_INFINITY; LANES];
            for chunk in chunks.iter() {
                for i in 0..LANES {
                    largest[i] = if chunk[i] > largest[i] { chunk[i] } else { largest[i] };
                }
            }
            let largest = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let mut total = [0.0f32; LANES];
            for chunk in chunks {
                for i in 0..LANES {
                    chunk[i] = exp((chunk[i] - largest) * scale);
                    total[i] += chunk[i];
                }
            }
            *sum = sum_lanes(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::Random;

    fn shape(num_heads: usize, head_dim: usize) -> EncoderAttentionShape {
        EncoderAttentionShape { num_heads, head_dim, scale: (head_dim as f32).sqrt().recip() }
    }

    fn qkv(shape: &EncoderAttentionShape, num_tokens: usize) -> Vec<f32> {
        let mut values = Random::new(11).values(num_tokens * shape.num_heads * shape.head_dim * 3);
        for value in &mut values {
            *value *= 3.0;
        }
        values
    }

    fn run(threads: usize, shape: &EncoderAttentionShape, text_lens: &[usize], qkv: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; qkv.len() / 3];
        encoder_attention(&Pool::new(threads), shape, text_lens, qkv, &mut out);
        out
    }

    /// The definition in f64, for one text.
    fn exact(shape: &EncoderAttentionShape, qkv: &[f32]) -> Vec<f64> {
        let hidden_size = shape.num_heads * shape.head_dim;
        let len = qkv.len() / hidden_size / 3;
        let at = |which: usize, row: usize, column: usize| {
            f64::from(qkv[row * hidden_size * 3 + which * hidden_size + column])
        };
        let mut out = vec![0.0; len * hidden_size];
        for row in 0..len {
            for head in 0..shape.num_heads {
                let columns = head * shape.head_dim..(head + 1) * shape.head_dim;
                let exps: Vec<f64> = (0..len)
                    .map(|key| {
                        let products = columns.clone().map(|c| at(0, row, c) * at(1, key, c));
                        (products.sum::<f64>() * f64::from(shape.scale)).exp()
                    })
                    .collect();
                let sum: f64 = exps.iter().sum();
                for column in columns {
                    let mixed = exps.iter().enumerate().map(|(key, e)| e * at(2, key, column));
                    out[row * hidden_size + column] = mixed.sum::<f64>() / sum;
                }
            }
        }
        out
    }

    #[test]
    fn equals_the_definition() {
        for (num_heads, head_dim) in [(1, 16), (2, 32), (3, 20), (1, 5)] {
            let shape = shape(num_heads, head_dim);
            for len in [1, 2, 15, 16, 17, 33, 70] {
                let qkv = qkv(&shape, len);
                let out = run(1, &shape, &[len], &qkv);
                for (index, (value, expected)) in out.iter().zip(exact(&shape, &qkv)).enumerate() {
                    let error = (f64::from(*value) - expected).abs();
                    assert!(error < 3e-6, "{shape:?}, {len} tokens, value {index}: {value} vs. {expected}");
                }
            }
        }
    }

    #[test]
    fn texts_are_equal_to_the_bit_alone_together_and_on_any_threads() {
        let shape = shape(2, 32);
        let text_lens = [1, 40, 0, 17, 33];
        let qkv = qkv(&shape, text_lens.iter().sum());
        let together = run(1, &shape, &text_lens, &qkv);
        assert!(together.iter().all(|value| value.is_finite()));
        assert_eq!(together, run(3, &shape, &text_lens, &qkv));
        let mut start = 0;
        for len in text_lens {
            let alone = run(2, &shape, &[len], &qkv[start * 192..(start + len) * 192]);
            assert_eq!(together[start * 64..(start + len) * 64], alone, "text of {len} tokens at {start}");
            start += len;
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let shape = shape(2, 20);
        let qkv = qkv(&shape, 50);
        at_every_level(|| run(1, &shape, &[13, 37], &qkv));
    }

    #[test]
    fn scores_far_apart_neither_overflow_nor_vanish() {
        let shape = EncoderAttentionShape { num_heads: 1, head_dim: 1, scale: 1.0 };
        // Scores 0 and 10⁴: only the second key counts.
        let out = run(1, &shape, &[2], &[100.0, 0.0, 5.0, 100.0, 100.0, 7.0]);
        assert_eq!(out, [7.0, 7.0]);
    }

    #[test]
    fn a_value_that_is_no_number_shows_in_its_text_alone() {
        let shape = shape(1, 16);
        let mut qkv = qkv(&shape, 6);
        qkv[3 * 48 + 20] = f32::NAN;
        let out = run(1, &shape, &[3, 3], &qkv);
        assert!(out[..48].iter().all(|value| value.is_finite()));
        assert!(out[48..].iter().all(|value| value.is_nan()));
    }
}
