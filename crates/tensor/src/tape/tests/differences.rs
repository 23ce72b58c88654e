//! Every operation's backward against differences of its forward; equal bits for any thread count and for both
//! ways of keeping values.

use std::sync::Arc;

use hearth_kernels::pool::Pool;

use super::super::{Gradients, Keep, Tape, Var};
use super::toy::{Decoder, Random, adapted, attention_spec};
use crate::graph::{Activation, AttentionSpec, Graph, Part, Rope, Routing};
use crate::tensor::Arena;
use crate::weight::{Dora, Linear, Matrix, Param};

/// Differences of f32 forwards: rounding of about 1e-7 over a step of 0.06 and a truncation of h⁴.
const DIFFERENCE_TOLERANCE: f64 = 4e-5;

type Forward<'a> = dyn Fn(&mut Tape<'_>, &[u32], &[Param]) -> Var + 'a;

/// A forward on fresh tapes with its parameters.
struct Problem<'a> {
    sequence_lens: &'a [usize],
    params: Vec<Param>,
    forward: &'a Forward<'a>,
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
        .flat_map(|(&cols, id)| [random.param(2, 5, Some(id)), random.param(cols, 2, Some(id + 1))])
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

fn dense(param: &Param) -> Linear {
    Linear { weight: Matrix::Dense(param.clone()), bias: None, lora: None }
}

#[test]
fn trained_matrices_and_embeddings_pass_finite_differences() {
    let mut random = Random(74);
    let params =
        vec![random.param(11, 6, Some(3)), random.param(9, 6, Some(1)), random.param(13, 9, Some(2))];
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = tape.embedding(&dense(&params[0]), ids);
        let hidden = tape.linear(&x, &dense(&params[1]));
        tape.linear(&hidden, &dense(&params[2]))
    };
    Problem { sequence_lens: &[4, 3], params, forward: &forward }.check("trained matrices");
}

#[test]
fn an_embedding_that_is_the_head_too_passes_finite_differences() {
    let mut random = Random(75);
    let params = vec![random.param(11, 6, Some(0)), random.param(1, 6, Some(1))];
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = tape.embedding(&dense(&params[0]), ids);
        let normed = tape.rms_norm(&x, &params[1], 1e-5);
        tape.linear(&normed, &dense(&params[0]))
    };
    Problem { sequence_lens: &[5], params, forward: &forward }.check("tied embedding");
}

#[test]
fn dora_passes_finite_differences() {
    let mut params = inputs(&[7, 7]);
    params.push(Random(5).param(1, 13, Some(9)));
    let norms = Arc::new(Random(6).values(13, 0.4).into_iter().map(|value| value + 1.0).collect());
    let bias = Random(8).param(1, 13, None);
    let (a, b) = (Random(9).param(2, 7, Some(20)), Random(10).param(13, 2, Some(21)));
    params.extend([a, b]);
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 7, [&params[0], &params[1]]);
        let y = input(tape, ids, 7, [&params[2], &params[3]]);
        let x = tape.add(x, y);
        let mut layer = adapted(head(7), &params[5], &params[6]);
        layer.bias = Some(bias.clone());
        let dora = Dora { magnitude: params[4].clone(), norms: Arc::clone(&norms) };
        layer.lora.as_mut().unwrap().dora = Some(Arc::new(dora));
        tape.linear(&x, &layer)
    };
    Problem { sequence_lens: &[4, 1], params, forward: &forward }.check("dora");
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
fn rms_norm_of_heads_passes_finite_differences() {
    let mut params = inputs(&[12]);
    params.push(Random(5).param(1, 4, Some(4)));
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 12, [&params[0], &params[1]]);
        let normed = tape.rms_norm(&x, &params[2], 1e-5);
        tape.linear(&normed, &head(12))
    };
    Problem { sequence_lens: &[3], params, forward: &forward }.check("rms_norm of heads");
}

#[test]
fn gated_products_pass_finite_differences() {
    for activation in [Activation::Silu, Activation::Gelu] {
        let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
            let gate = input(tape, ids, 6, [&params[0], &params[1]]);
            let up = input(tape, ids, 6, [&params[2], &params[3]]);
            let product = tape.gated(activation, gate, up);
            tape.linear(&product, &head(6))
        };
        let params = inputs(&[6, 6]);
        let what = format!("{activation:?}");
        Problem { sequence_lens: &[3], params, forward: &forward }.check(&what);
    }
}

#[test]
fn scale_and_soft_cap_pass_finite_differences() {
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let x = input(tape, ids, 6, [&params[0], &params[1]]);
        let scaled = tape.scale(x.clone(), 1.7);
        let sum = tape.add(x, scaled);
        let capped = tape.soft_cap(sum, 1.5);
        let logits = tape.linear(&capped, &head(6));
        tape.soft_cap(logits, 2.0)
    };
    let params = inputs(&[6]);
    Problem { sequence_lens: &[3], params, forward: &forward }.check("scale and soft_cap");
}

#[test]
fn routing_and_combining_pass_finite_differences() {
    for normalised in [false, true] {
        let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
            let x = input(tape, ids, 6, [&params[0], &params[1]]);
            let mut random = Random(81);
            // Logits far enough apart that no step of a difference changes the choice.
            let router = tape.linear(&x, &random.frozen(4, 6));
            let frozen = tape.embedding(&Random(82).frozen(11, 4), ids);
            let frozen = tape.scale(frozen, 4.0);
            let logits = tape.add(router, frozen);
            let (weights, rows) = tape.route(logits, Routing { top_k: 2, normalised });
            assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 2 * ids.len());
            let mut parts = Vec::new();
            for (expert, rows) in rows.into_iter().enumerate() {
                let layer = random.frozen(6, 6);
                if rows.is_empty() {
                    continue;
                }
                let of_expert = tape.take_rows(&x, &rows);
                parts.push(Part { expert, value: tape.linear(&of_expert, &layer), rows });
            }
            let sum = tape.combine(&weights, parts);
            tape.linear(&sum, &head(6))
        };
        let params = inputs(&[6]);
        let what = format!("routing, normalised {normalised}");
        Problem { sequence_lens: &[5], params, forward: &forward }.check(&what);
    }
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
        let rows = tape.take_rows(&x, &[4, 0, 4]);
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
        check_attention(&attention_spec(0, heads, interleaved), sequence_lens);
    }
}

#[test]
fn attention_with_a_window_and_a_soft_cap_passes_finite_differences() {
    let plain = attention_spec(0, [2, 1, 4], false);
    for (window, soft_cap) in [(Some(3), None), (None, Some(0.8)), (Some(2), Some(1.2))] {
        check_attention(&AttentionSpec { window, soft_cap, ..plain.clone() }, &[7, 2]);
    }
    // One pair of two rotates, by 1.3 as long.
    let mut partial = plain;
    partial.rope = Rope { magnitude: 1.3, ..Rope::new(100.0, 2, false) };
    check_attention(&partial, &[5]);
}

fn check_attention(spec: &AttentionSpec, sequence_lens: &[usize]) {
    let AttentionSpec { num_heads, num_kv_heads, head_dim, .. } = *spec;
    let cols = [num_heads, num_kv_heads, num_kv_heads].map(|heads| heads * head_dim);
    let forward = |tape: &mut Tape<'_>, ids: &[u32], params: &[Param]| {
        let q = input(tape, ids, cols[0], [&params[0], &params[1]]);
        let k = input(tape, ids, cols[1], [&params[2], &params[3]]);
        let v = input(tape, ids, cols[2], [&params[4], &params[5]]);
        let attended = tape.attention(q, k, v, spec);
        tape.linear(&attended, &head(cols[0]))
    };
    let mut params = inputs(&cols);
    if sequence_lens == [1] {
        // With one key the probability is 1 whatever q and k are.
        params[..4].iter_mut().for_each(|param| param.id = None);
    }
    let what = format!("attention {spec:?} {sequence_lens:?}");
    Problem { sequence_lens, params, forward: &forward }.check(&what);
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
