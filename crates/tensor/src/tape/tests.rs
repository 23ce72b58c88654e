//! Gradients against finite differences, and the laws a tape keeps: equal bits for any thread count, for
//! both ways of keeping values, and to what [`crate::eager`] computes.

mod toy;

use std::sync::Arc;

use hearth_kernels::attention::PageLayout;
use hearth_kernels::pool::Pool;

use super::{Gradients, Keep, Tape, Var};
use crate::eager::{Eager, Rows, Workspace};
use crate::graph::Graph;
use crate::kv::KvCache;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::tensor::Arena;
use crate::weight::{Linear, Param, ParamId};
use toy::{Decoder, HEADS, NUM_LAYERS, Random, VOCAB_SIZE, adapted, attention_spec};

/// Differences of f32 forwards: rounding of about 1e-7 over a step of 0.06 and a truncation of h⁴.
const DIFFERENCE_TOLERANCE: f64 = 4e-5;

/// A forward on fresh tapes: ids, parameters and weights of a small problem.
struct Problem<'a> {
    sequence_lens: &'a [usize],
    params: Vec<Param>,
    forward: &'a dyn Fn(&mut Tape<'_>, &[u32], &[Param]) -> Var,
}

impl Problem<'_> {
    fn run(&self, params: &[Param], threads: usize, keep: Keep) -> (f64, Gradients) {
        let pool = Pool::new(threads);
        let mut tape = Tape::new(&pool, &Arena::default(), self.sequence_lens, keep);
        let rows: usize = self.sequence_lens.iter().sum();
        let ids: Vec<u32> = (0..rows).map(|i| (i * i * 5 % 11) as u32).collect();
        let logits = (self.forward)(&mut tape, &ids, params);
        let (rows, vocab_size) = (logits.value().rows(), logits.value().cols());
        let targets: Vec<u32> = (0..rows).map(|i| (i * 3 % vocab_size) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| 0.5 + i as f32).collect();
        let loss = tape.cross_entropy(logits, &targets, &weights);
        (loss, tape.backward(1.0))
    }

    /// Every trained value against a difference of fourth order; frozen parameters have no entry.
    fn check(&self, what: &str) {
        let (_, gradients) = self.run(&self.params, 1, Keep::Projections);
        for (threads, keep) in [(2, Keep::Projections), (1, Keep::Little), (2, Keep::Little)] {
            let (_, other) = self.run(&self.params, threads, keep);
            assert_eq!(gradients, other, "{what}: {threads} threads, {keep:?}");
        }
        let trained = self.params.iter().filter(|param| param.id.is_some()).count();
        assert_eq!(gradients.len(), trained, "{what}: trained parameters");
        for (place, param) in self.params.iter().enumerate() {
            let Some(id) = param.id else { continue };
            let gradient = gradients.get(id).unwrap();
            assert!(gradient.iter().any(|g| g.abs() > 1e-4), "{what}: {id:?} learns nothing");
            for (index, &actual) in gradient.iter().enumerate() {
                let expected = self.difference(place, index);
                assert!(
                    (f64::from(actual) - expected).abs() < DIFFERENCE_TOLERANCE,
                    "{what}: d{id:?}[{index}] is {actual}, differences say {expected}"
                );
            }
        }
    }

    fn difference(&self, place: usize, index: usize) -> f64 {
        let step = 1.0 / 32.0;
        let loss = |steps: f32| {
            let mut params = self.params.clone();
            Arc::make_mut(&mut params[place].data)[index] += steps * step;
            self.run(&params, 1, Keep::Projections).0
        };
        let (near, far) = (loss(1.0) - loss(-1.0), loss(2.0) - loss(-2.0));
        (8.0 * near - far) / (12.0 * f64::from(step))
    }
}

/// The input of the operation under test: rows that depend on trained parameters `a` and `b`.
fn input(tape: &mut Tape<'_>, ids: &[u32], cols: usize, [a, b]: [&Param; 2]) -> Var {
    let mut random = Random(71);
    let embedded = tape.embedding(&random.frozen(11, 5), ids);
    tape.linear(&embedded, &adapted(random.frozen(cols, 5), a, b))
}

fn head(cols: usize) -> Linear {
    Random(72).frozen(13, cols)
}

/// Parameters 2i and 2i+1 are A and B of input i with `cols[i]` columns.
fn inputs(cols: &[usize]) -> Vec<Param> {
    let mut random = Random(73);
    let pairs = cols.iter().zip((0..).step_by(2));
    pairs
        .flat_map(|(&cols, id)| {
            [random.param(2, 5, Some(id)), random.param(cols, 2, Some(id + 1))]
        })
        .collect()
}

#[test]
fn linear_passes_finite_differences() {
    let mut params = inputs(&[7]);
    params.push(Random(5).param(1, 13, Some(9)));
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 7, [&params[0], &params[1]]);
        tape.linear(&x, &Linear { bias: Some(params[2].clone()), ..head(7) })
    };
    Problem { sequence_lens: &[4, 1], params, forward: &forward }.check("linear");
}

#[test]
fn rms_norm_passes_finite_differences() {
    let mut params = inputs(&[9]);
    params.push(Random(5).param(1, 9, Some(4)));
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 9, [&params[0], &params[1]]);
        let normed = tape.rms_norm(&x, &params[2], 1e-5);
        tape.linear(&normed, &head(9))
    };
    Problem { sequence_lens: &[3], params, forward: &forward }.check("rms_norm");
}

#[test]
fn silu_mul_passes_finite_differences() {
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let gate = input(tape, ids, 6, [&params[0], &params[1]]);
        let up = input(tape, ids, 6, [&params[2], &params[3]]);
        let product = tape.silu_mul(gate, up);
        tape.linear(&product, &head(6))
    };
    let params = inputs(&[6, 6]);
    Problem { sequence_lens: &[3], params, forward: &forward }.check("silu_mul");
}

#[test]
fn add_passes_finite_differences_also_of_a_value_with_itself() {
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let a = input(tape, ids, 6, [&params[0], &params[1]]);
        let b = input(tape, ids, 6, [&params[2], &params[3]]);
        let frozen = tape.embedding(&Random(8).frozen(11, 6), ids);
        let twice = tape.add(a.clone(), a);
        let sum = tape.add(twice, b);
        let sum = tape.add(frozen, sum);
        tape.linear(&sum, &head(6))
    };
    let params = inputs(&[6, 6]);
    Problem { sequence_lens: &[3], params, forward: &forward }.check("add");
}

#[test]
fn take_rows_passes_finite_differences_with_a_row_twice() {
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 6, [&params[0], &params[1]]);
        let rows = tape.take_rows(x, &[4, 0, 4]);
        tape.linear(&rows, &head(6))
    };
    let params = inputs(&[6]);
    Problem { sequence_lens: &[5], params, forward: &forward }.check("take_rows");
}

#[test]
fn attention_passes_finite_differences() {
    for (heads, interleaved, sequence_lens) in [
        ([1, 1, 2], false, &[1][..]),
        ([4, 2, 6], false, &[5, 1, 3]),
        ([3, 1, 4], true, &[7, 2]),
        ([2, 2, 4], true, &[0, 6]),
    ] {
        let [num_heads, num_kv_heads, head_dim] = heads;
        let cols = [num_heads, num_kv_heads, num_kv_heads].map(|heads| heads * head_dim);
        let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
            let q = input(tape, ids, cols[0], [&params[0], &params[1]]);
            let k = input(tape, ids, cols[1], [&params[2], &params[3]]);
            let v = input(tape, ids, cols[2], [&params[4], &params[5]]);
            let attended = tape.attention(q, k, v, &attention_spec(0, heads, interleaved));
            tape.linear(&attended, &head(cols[0]))
        };
        let mut params = inputs(&cols);
        if sequence_lens == [1] {
            // With one key the probability is 1 whatever q and k are.
            params[..4].iter_mut().for_each(|param| param.id = None);
        }
        let what = format!("attention {heads:?} {interleaved} {sequence_lens:?}");
        Problem { sequence_lens, params, forward: &forward }.check(&what);
    }
}

#[test]
fn a_decoder_of_two_layers_passes_finite_differences() {
    let mut decoder = Decoder::new(3, false);
    decoder.adapt(0, 4);
    let params: Vec<Param> = decoder.trained().into_iter().map(|param| param.clone()).collect();
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let mut decoder = Decoder::new(3, false);
        decoder.adapt(0, 4);
        for (to, from) in decoder.trained().into_iter().zip(params) {
            *to = from.clone();
        }
        decoder.forward(tape, ids, &[1, 2, 5, 6])
    };
    let problem = Problem { sequence_lens: &[4, 3], params, forward: &forward };
    let (_, gradients) = problem.run(&problem.params, 1, Keep::Projections);
    for (threads, keep) in [(2, Keep::Projections), (1, Keep::Little)] {
        let other = problem.run(&problem.params, threads, keep).1;
        assert_eq!(gradients, other, "{threads} threads, {keep:?}");
    }
    // Some values of each parameter: all of them would take minutes.
    for (place, (id, gradient)) in gradients.iter().enumerate() {
        for index in [0, gradient.len() / 2, gradient.len() - 1] {
            let expected = problem.difference(place, index);
            let actual = f64::from(gradient[index]);
            assert!(
                (actual - expected).abs() < 2e-4 * (1.0 + expected.abs()),
                "d{id:?}[{index}] is {actual}, differences say {expected}"
            );
        }
    }
}

/// Logits of all rows on a tape over packed sequences.
fn tape_logits(decoder: &Decoder, sequences: &[Vec<u32>]) -> Vec<f32> {
    let pool = Pool::new(2);
    let lens: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut tape = Tape::new(&pool, &Arena::default(), &lens, Keep::Projections);
    let rows: Vec<usize> = (0..lens.iter().sum()).collect();
    decoder.forward(&mut tape, &sequences.concat(), &rows).value().data().to_vec()
}

/// Logits of all rows of one sequence as generation computes them: `chunk` tokens at a time.
fn eager_logits(decoder: &Decoder, ids: &[u32], chunk: usize) -> Vec<f32> {
    let [_, num_kv_heads, head_dim] = HEADS;
    let mut cache = KvCache::new(PageLayout { num_layers: NUM_LAYERS, num_kv_heads, head_dim });
    let (pool, mut workspace) = (Pool::new(1), Workspace::default());
    let mut logits = Vec::new();
    for ids in ids.chunks(chunk) {
        let rows = vec![Rows { cache: &mut cache, count: ids.len() }];
        let mut eager = Eager::new(&pool, &mut workspace, rows);
        let all: Vec<usize> = (0..ids.len()).collect();
        logits.extend_from_slice(decoder.forward(&mut eager, ids, &all).data());
        eager.finish();
    }
    logits
}

#[test]
fn training_and_generation_compute_equal_bits() {
    for quantised in [false, true] {
        let mut decoder = Decoder::new(6, quantised);
        decoder.adapt(0, 7);
        let mut random = Random(8);
        let sequences: Vec<Vec<u32>> = [70, 1, 9]
            .iter()
            .map(|&len| (0..len).map(|_| random.next() as u32 % VOCAB_SIZE as u32).collect())
            .collect();
        let packed = tape_logits(&decoder, &sequences);
        let mut start = 0;
        for ids in &sequences {
            let end = start + ids.len() * VOCAB_SIZE;
            for chunk in [1, 5, 100] {
                let eager = eager_logits(&decoder, ids, chunk);
                assert_eq!(packed[start..end], eager, "{} tokens by {chunk}", ids.len());
            }
            start = end;
        }
    }
}

/// Mean loss and gradients of predicting each token's successor.
fn next_token(decoder: &Decoder, sequences: &[Vec<u32>], scale: f32) -> (f64, Gradients) {
    let (pool, lens) = (Pool::new(2), sequences.iter().map(Vec::len).collect::<Vec<_>>());
    let mut tape = Tape::new(&pool, &Arena::default(), &lens, Keep::Projections);
    let (mut rows, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for ids in sequences {
        rows.extend(start..start + ids.len() - 1);
        targets.extend_from_slice(&ids[1..]);
        start += ids.len();
    }
    let logits = decoder.forward(&mut tape, &sequences.concat(), &rows);
    let loss = tape.cross_entropy(logits, &targets, &vec![1.0; targets.len()]);
    (loss, tape.backward(scale))
}

fn two_sequences() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5, 9, 2, 6], vec![2, 7, 1, 8, 2]]
}

#[test]
fn two_micro_batches_equal_one_batch_within_1e_5() {
    let mut decoder = Decoder::new(9, true);
    decoder.adapt(0, 10);
    let sequences = two_sequences();
    let (loss, whole) = next_token(&decoder, &sequences, 1.0);
    // 7 and 4 targets of 11.
    let (first_loss, mut summed) = next_token(&decoder, &sequences[..1], 7.0 / 11.0);
    let (second_loss, second) = next_token(&decoder, &sequences[1..], 4.0 / 11.0);
    for (id, gradient) in second.iter() {
        summed.add(id, gradient.to_vec());
    }
    assert!((loss - (first_loss * 7.0 + second_loss * 4.0) / 11.0).abs() < 1e-12);
    assert_eq!(whole.len(), summed.len());
    for (id, gradient) in whole.iter() {
        let largest = gradient.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        for (a, b) in gradient.iter().zip(summed.get(id).unwrap()) {
            assert!((a - b).abs() <= 1e-5 * largest, "{id:?}: {a} vs. {b}");
        }
    }
}

#[test]
fn what_is_frozen_costs_nothing() {
    let kept = |decoder: &Decoder, keep: Keep| {
        let pool = Pool::new(1);
        let mut tape = Tape::new(&pool, &Arena::default(), &[6], keep);
        let logits = decoder.forward(&mut tape, &[1, 2, 3, 4, 5, 6], &[5]);
        drop(logits);
        let kept = tape.nodes.iter().map(|node| node.kept.is_some()).collect::<Vec<_>>();
        (tape.kept_bytes(), kept.iter().position(|&kept| kept), kept.len())
    };
    let frozen = Decoder::new(1, false);
    assert_eq!(kept(&frozen, Keep::Projections).0, 0);

    let mut upper = Decoder::new(1, false);
    upper.adapt(1, 2);
    let (bytes, first, num_nodes) = kept(&upper, Keep::Projections);
    // The embedding and the thirteen operations of the layer below keep nothing but its output.
    assert_eq!((first, num_nodes), (Some(13), 1 + 2 * 13 + 3));
    let (_, gradients) = next_token(&upper, &two_sequences(), 1.0);
    assert_eq!(gradients.len(), upper.trained().len());

    let mut all = Decoder::new(1, false);
    all.adapt(0, 2);
    let (of_all, ..) = kept(&all, Keep::Projections);
    let (little, ..) = kept(&all, Keep::Little);
    assert!(bytes < of_all && little * 2 < of_all, "{bytes} {of_all} {little}");
}

#[test]
fn a_held_value_keeps_its_bits_through_the_backward() {
    let mut decoder = Decoder::new(2, false);
    decoder.adapt(0, 3);
    let pool = Pool::new(1);
    let mut tape = Tape::new(&pool, &Arena::default(), &[3], Keep::Projections);
    let logits = decoder.forward(&mut tape, &[1, 2, 3], &[0, 1]);
    let before = logits.value().data().to_vec();
    tape.cross_entropy(logits.clone(), &[2, 3], &[1.0, 1.0]);
    assert!(!tape.backward(1.0).is_empty());
    assert_eq!(before, logits.value().data());
}

#[test]
fn losses_of_one_tape_add_up() {
    let mut decoder = Decoder::new(2, false);
    decoder.adapt(1, 3);
    let run = |losses: &[f32]| {
        let pool = Pool::new(1);
        let mut tape = Tape::new(&pool, &Arena::default(), &[3], Keep::Projections);
        let logits = decoder.forward(&mut tape, &[1, 2, 3], &[0, 1]);
        for &weight in losses {
            tape.cross_entropy(logits.clone(), &[2, 3], &[weight, 1.0]);
        }
        tape.backward(2.0)
    };
    let (one, other, both) = (run(&[1.0]), run(&[3.0]), run(&[1.0, 3.0]));
    for (id, gradient) in both.iter() {
        let (one, other) = (one.get(id).unwrap(), other.get(id).unwrap());
        for (sum, (a, b)) in gradient.iter().zip(one.iter().zip(other)) {
            assert!((sum - (a + b)).abs() < 1e-5 * (1.0 + sum.abs()), "{sum} vs. {a} + {b}");
        }
    }
}

#[test]
fn adamw_teaches_a_decoder_two_sequences_by_heart() {
    // A wider final norm: without it no hidden state reaches logits that are sure of a token.
    let mut base = Decoder::new(12, true);
    base.norm.data = Arc::new(base.norm.data.iter().map(|weight| 8.0 * weight).collect());
    let before = tape_logits(&base, &two_sequences());
    let mut decoder = base;
    decoder.adapt(0, 13);
    // LoRA starts with B = 0: the first forward is the base model's.
    for param in decoder.trained().into_iter().skip(1).step_by(2) {
        param.data = Arc::new(vec![0.0; param.data.len()]);
    }
    assert_eq!(before, tape_logits(&decoder, &two_sequences()));
    let mut optimizer = AdamW::new(AdamWConfig {
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        max_gradient_norm: Some(1.0),
    });
    let (first_loss, _) = next_token(&decoder, &two_sequences(), 1.0);
    for _ in 0..150 {
        let (_, gradients) = next_token(&decoder, &two_sequences(), 1.0);
        optimizer.step(decoder.trained(), &gradients, 0.02).unwrap();
    }
    let (last_loss, _) = next_token(&decoder, &two_sequences(), 1.0);
    assert!(first_loss > 2.0 && last_loss < 0.1, "loss {first_loss} to {last_loss}");
}

#[test]
#[should_panic(expected = "there is nothing to learn from")]
fn weights_of_zero_are_refused() {
    let pool = Pool::new(1);
    let mut tape = Tape::new(&pool, &Arena::default(), &[2], Keep::Projections);
    let logits = Decoder::new(1, false).forward(&mut tape, &[1, 2], &[0, 1]);
    tape.cross_entropy(logits, &[1, 1], &[0.0, 0.0]);
}

#[test]
fn ids_name_gradients_in_ascending_order() {
    let mut gradients = Gradients::new();
    for id in [5, 1, 3, 1] {
        gradients.add(ParamId(id), vec![id as f32]);
    }
    let all: Vec<_> = gradients.iter().map(|(id, gradient)| (id.0, gradient[0])).collect();
    assert_eq!(all, [(1, 2.0), (3, 3.0), (5, 5.0)]);
}
