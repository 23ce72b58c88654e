//! Gradients of whole decoders against `PyTorch`'s, from `golden/gradients.json` (made by `golden/gradients.py`).

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_model::trained::Sizes;
use hearth_tensor::graph::{KvOptions, KvType};
use hearth_tensor::tape::{Gradients, Keep, Tape};
use hearth_tensor::tensor::Arena;
use serde_json::Value;

/// Of a value, in parts of its parameter's largest: sums of f32 in another order.
const TOLERANCE: f64 = 1e-4;

fn sizes(case: &Value) -> Sizes {
    Sizes {
        vocab_size: 41,
        hidden_size: 32,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        intermediate_size: 48,
        max_seq_len: 64,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        qk_norm: case["kind"] == "qwen3",
        tied: case["tied"] == true,
    }
}

/// The formula of the script: matrices around 0, vectors around 1.
fn weight(place: usize, count: usize, is_vector: bool) -> Vec<f32> {
    let value = |index: usize| {
        let value = ((index * 7919 + place * 104_729) % 1009) as f64 / 1009.0 - 0.5;
        if is_vector { (1.0 + 0.5 * value) as f32 } else { (0.6 * value) as f32 }
    };
    (0..count).map(value).collect()
}

/// Loss and gradients by name.
fn computed(case: &Value, sequences: &[Vec<u32>], keep: Keep) -> (f64, Vec<(String, Vec<f32>)>) {
    let mut decoder = Decoder::fresh(&sizes(case), 1).unwrap();
    // Keys rounded to f16, as generation keeps them by default, would be another function.
    decoder.kv = KvOptions { kv_type: KvType::F32, sparse_pages: None };
    decoder.update(|mut params| {
        params.sort_by(|a, b| a.name.cmp(&b.name));
        for (place, named) in params.into_iter().enumerate() {
            let values = weight(place, named.param.data.len(), named.param.rows == 1);
            named.param.data = std::sync::Arc::new(values);
        }
    });
    let (pool, lens) = (Pool::new(2), sequences.iter().map(Vec::len).collect::<Vec<_>>());
    let (mut wanted, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for ids in sequences {
        wanted.extend(start..start + ids.len() - 1);
        targets.extend_from_slice(&ids[1..]);
        start += ids.len();
    }
    let mut gradients = Gradients::new();
    let arena = Arena::default();
    let mut tape = Tape::new(&pool, &arena, &lens, keep);
    let weights = vec![1.0; targets.len()];
    let loss = decoder.cross_entropy(&mut tape, &sequences.concat(), &wanted, (&targets, &weights));
    tape.backward_into(1.0, &mut gradients);
    let named = decoder.update(|params| {
        let of = |named: hearth_model::trained::Named<'_>| {
            let gradient = gradients.get(named.param.id.unwrap()).unwrap().to_vec();
            (named.name, gradient)
        };
        params.into_iter().map(of).collect()
    });
    (loss, named)
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("../../../golden/gradients.json")).unwrap();
    let sequences: Vec<Vec<u32>> = serde_json::from_value(golden["sequences"].clone()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let what = format!("{} tied {}", case["kind"], case["tied"]);
        for keep in [Keep::Projections, Keep::Little] {
            let (loss, gradients) = computed(case, &sequences, keep);
            assert!((loss - case["loss"].as_f64().unwrap()).abs() < 1e-5, "{what}: loss {loss}");
            assert_eq!(gradients.len(), case["gradients"].as_object().unwrap().len(), "{what}");
            for (name, gradient) in gradients {
                let expected = &case["gradients"][&name];
                let number = |field: &str| expected[field].as_f64().unwrap();
                let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
                let worst = (norm - number("norm")).abs() / number("norm");
                assert!(worst < TOLERANCE, "{what}: norm of `{name}` is {norm}, off by {worst}");
                let step = expected["step"].as_u64().unwrap() as usize;
                let values = expected["values"].as_array().unwrap();
                for (actual, value) in gradient.iter().step_by(step).zip(values) {
                    let off = (f64::from(*actual) - value.as_f64().unwrap()).abs() / number("largest");
                    assert!(off < TOLERANCE, "{what}: `{name}` {actual} vs. {value}");
                }
            }
        }
    }
}
