//! The laws a tape keeps: equal bits to what [`crate::eager`] computes, sums over micro-batches, nothing
//! for what is frozen. Gradients against finite differences are in `differences`.

mod differences;
mod toy;

use std::sync::Arc;

use hearth_kernels::attention::{KvType, PageLayout};
use hearth_kernels::pool::Pool;

use super::{Gradients, Keep, Tape};
use crate::eager::{Eager, Rows, Workspace};
use crate::kv::KvCache;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::tensor::Arena;
use crate::weight::ParamId;
use toy::{Decoder, HEADS, NUM_LAYERS, Random, VOCAB_SIZE};

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
    let (kv_type, has_bounds) = (decoder.kv_type, false);
    let layout = PageLayout { num_layers: NUM_LAYERS, num_kv_heads, head_dim, kv_type, has_bounds };
    let mut cache = KvCache::new(layout);
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
    for (quantised, kv_type) in
        [false, true].into_iter().flat_map(|quantised| KvType::ALL.map(|kv_type| (quantised, kv_type)))
    {
        let mut decoder = Decoder { kv_type, ..Decoder::new(6, quantised) };
        decoder.adapt(0, 7);
        let mut random = Random(8);
        let sequences: Vec<Vec<u32>> = [270, 1, 9]
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

#[test]
fn trained_matrices_compute_the_bits_of_packed_ones() {
    let sequences = two_sequences();
    let packed = Decoder::new(6, false);
    let expected = tape_logits(&packed, &sequences);
    let thawed = packed.thawed();
    assert_eq!(expected, tape_logits(&thawed, &sequences));
    assert_eq!(expected[..8 * VOCAB_SIZE], eager_logits(&thawed, &sequences[0], 3));
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
fn a_loss_without_all_logits_has_the_bits_of_one_with_them() {
    let mut decoder = Decoder::new(2, true);
    decoder.adapt(0, 3);
    let run = |without: bool| {
        let pool = Pool::new(2);
        let mut tape = Tape::new(&pool, &Arena::default(), &[5], Keep::Projections);
        let (targets, weights) = ([2, 3, 4], [1.0, 0.25, 3.0]);
        let ids = [1, 2, 3, 4, 5];
        let loss = if without {
            let x = decoder.normed(&mut tape, &ids, &[0, 1, 4]);
            tape.cross_entropy_of_head(&x, &decoder.embedding, &targets, &weights)
        } else {
            let logits = decoder.forward(&mut tape, &ids, &[0, 1, 4]);
            tape.cross_entropy(logits, &targets, &weights)
        };
        (loss.to_bits(), tape.backward(1.0))
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn a_trained_head_learns_the_same_without_all_logits() {
    let run = |without: bool, keep: Keep| {
        let decoder = Decoder::new(2, false).thawed();
        let pool = Pool::new(2);
        let mut tape = Tape::new(&pool, &Arena::default(), &[5], keep);
        let (targets, weights) = ([2, 3, 4], [1.0, 0.25, 3.0]);
        let ids = [1, 2, 3, 4, 5];
        let loss = if without {
            let x = decoder.normed(&mut tape, &ids, &[0, 1, 4]);
            tape.cross_entropy_of_head(&x, &decoder.embedding, &targets, &weights)
        } else {
            let logits = decoder.forward(&mut tape, &ids, &[0, 1, 4]);
            tape.cross_entropy(logits, &targets, &weights)
        };
        (loss.to_bits(), tape.backward(0.5))
    };
    let ((loss, with_all), (same, without)) = (run(false, Keep::Projections), run(true, Keep::Projections));
    assert_eq!(loss, same);
    assert_eq!((with_all.len(), without.len()), (15, 15));
    for (id, gradient) in with_all.iter() {
        let largest = gradient.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        for (a, b) in gradient.iter().zip(without.get(id).unwrap()) {
            assert!((a - b).abs() <= 1e-6 * largest, "{id:?}: {a} vs. {b}");
        }
    }
    for without in [false, true] {
        let (of_validation, none) = run(without, Keep::Nothing);
        assert_eq!((of_validation, none.len()), (loss, 0));
    }
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
        decay_vectors: true,
        max_gradient_norm: Some(1.0),
    });
    let (first_loss, _) = next_token(&decoder, &two_sequences(), 1.0);
    for _ in 0..150 {
        let (_, gradients) = next_token(&decoder, &two_sequences(), 1.0);
        optimizer.step(&Pool::new(2), decoder.trained(), &gradients, 0.02).unwrap();
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
