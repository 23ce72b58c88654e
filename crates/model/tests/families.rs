//! Every family against transformers, on tiny models that `golden/families.py` makes as well; the laws of repeatability
//! for each; and what is refused, by its name.

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_kernels::pool::Pool;
    use hearth_model::{Adapter, Decoder, LoraConfig};
    use hearth_tensor::eager::{Eager, Rows, Workspace};
    use hearth_tensor::kv::KvCache;
    use hearth_tensor::tape::{Gradients, Keep, Tape};
    use hearth_tensor::tensor::Arena;
    use hearth_testkit::Scratch;
    use serde_json::json;

    use super::golden::{Case, GOLDEN, case, cases, cases_of, exact};

    impl Case {
        fn open(&self) -> Decoder {
            self.try_open().unwrap_or_else(|error| panic!("{}: {error}", self.name))
        }

        /// Without rounded keys and values: as transformers computes.
        fn open_exact(&self) -> Decoder {
            exact(self.open())
        }

        fn try_open(&self) -> hearth_model::Result<Decoder> {
            let folder = Scratch::new("families").unwrap();
            self.write(&folder);
            Decoder::open(&folder, &Pool::new(2))
        }
    }

    /// Logits of every row of sequences that are computed together, `chunk` rows of each at a time.
    fn eager_logits(decoder: &Decoder, sequences: &[&[u32]], chunk: usize, threads: usize) -> Vec<Vec<f32>> {
        let (pool, mut workspace) = (Pool::new(threads), Workspace::default());
        let mut caches: Vec<KvCache> =
            sequences.iter().map(|_| KvCache::new(decoder.page_layout())).collect();
        let mut logits = vec![Vec::new(); sequences.len()];
        let longest = sequences.iter().map(|ids| ids.len()).max().unwrap();
        for start in (0..longest).step_by(chunk) {
            let parts: Vec<&[u32]> = sequences
                .iter()
                .map(|ids| &ids[start.min(ids.len())..(start + chunk).min(ids.len())])
                .collect();
            let rows = caches.iter_mut().zip(&parts).map(|(cache, ids)| Rows { cache, count: ids.len() });
            let mut graph = Eager::new(&pool, &mut workspace, rows.collect());
            let all: Vec<usize> = (0..parts.iter().map(|ids| ids.len()).sum()).collect();
            let out = decoder.logits(&mut graph, &parts.concat(), &all);
            graph.finish();
            let mut row = 0;
            for (logits, ids) in logits.iter_mut().zip(&parts) {
                (row..row + ids.len()).for_each(|row| logits.extend_from_slice(out.row(row)));
                row += ids.len();
            }
        }
        logits
    }

    #[test]
    fn logits_equal_those_of_transformers() {
        for case in cases() {
            case.check_logits(&case.open_exact());
        }
    }

    #[test]
    fn files_of_another_converter_give_the_logits_of_transformers() {
        for case in cases_of("gguf/logits.json") {
            let path = format!("{GOLDEN}/gguf/{}.gguf", case.name);
            let decoder = Decoder::open(path.as_ref(), &Pool::new(1));
            case.check_logits(&exact(decoder.unwrap_or_else(|error| panic!("{}: {error}", case.name))));
        }
    }

    /// The message of a model of the case with other settings.
    #[track_caller]
    fn check_refused(name: &str, changes: &serde_json::Value, expected: &str) {
        let mut case = case(name);
        let config = case.config.as_object_mut().unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config.insert(key.clone(), value.clone());
        }
        let message = case.try_open().unwrap_err().to_string();
        assert!(message.contains(expected), "{name}, {changes}: {message}");
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        for (name, changes, expected) in [
            (
                "llama",
                json!({"model_type": "mamba"}),
                "`mamba` isn't supported yet; supported are llama, mistral",
            ),
            ("llama", json!({"hidden_act": "relu"}), "`hidden_act` relu isn't supported"),
            ("llama", json!({"rope_scaling": {"type": "spiral"}}), "`rope_type` spiral isn't supported"),
            ("llama", json!({"rope_scaling": {"type": "linear"}}), "`factor` is missing"),
            (
                "llama",
                json!({"rope_scaling": {"type": "linear", "factor": 0.0}}),
                "`factor` of the rotation is 0",
            ),
            (
                "llama",
                json!({"rope_scaling": null, "rope_theta": -1.0}),
                "`rope_theta` of the rotation is -1",
            ),
            (
                "llama",
                json!({"num_hidden_layers": "three"}),
                "`num_hidden_layers` is \"three\": invalid type",
            ),
            (
                "llama",
                json!({"num_hidden_layers": 4_000_000_000_u64}),
                "`num_layers` 4000000000 isn't a size",
            ),
            (
                "llama",
                json!({"num_key_value_heads": 3}),
                "`num_heads` 4 isn't a multiple of `num_kv_heads` 3",
            ),
            (
                "llama",
                json!({"num_hidden_layers": 2}),
                "tensor `model.layers.2.input_layernorm.weight` isn't part",
            ),
            ("llama", json!({"hidden_size": 64, "head_dim": 8}), "has the shape"),
            ("mistral", json!({"sliding_window": 0}), "`sliding_window` 0 isn't a size"),
            ("qwen3", json!({"model_type": "llama"}), "k_norm.weight` isn't part of the family Llama"),
            ("llama", json!({"model_type": "qwen3"}), "self_attn.q_norm.weight"),
            ("llama", json!({"model_type": "qwen2"}), "self_attn.q_proj.bias"),
            (
                "qwen3_moe",
                json!({"num_experts_per_tok": 7}),
                "`num_experts_per_tok` 7 exceeds `num_experts` 6",
            ),
            ("qwen3_moe", json!({"decoder_sparse_step": 0}), "`decoder_sparse_step` is 0"),
            ("gemma3", json!({"query_pre_attn_scalar": 0}), "`query_pre_attn_scalar` leads to inf"),
            ("gemma3", json!({"use_bidirectional_attention": true}), "`use_bidirectional_attention` true"),
            (
                "gemma3",
                json!({"layer_types": ["full_attention"]}),
                "`layer_types` has 1 entries for 4 layers",
            ),
            ("phi3", json!({"partial_rotary_factor": 0.4}), "isn't an even part of `head_dim` 8"),
        ] {
            check_refused(name, &changes, expected);
        }
    }

    #[test]
    fn chunks_threads_company_and_the_tape_change_no_bit() {
        for case in cases() {
            let decoder = case.open();
            let sequences: Vec<&[u32]> = case.sequences.iter().map(|sequence| &*sequence.ids).collect();
            let alone: Vec<Vec<f32>> =
                sequences.iter().map(|ids| eager_logits(&decoder, &[ids], 100, 1).remove(0)).collect();
            for (chunk, threads) in [(1, 1), (7, 2), (100, 2)] {
                let together = eager_logits(&decoder, &sequences, chunk, threads);
                assert_eq!(alone, together, "{}: {threads} threads, chunks of {chunk}", case.name);
            }
            for keep in [Keep::Projections, Keep::Little] {
                let lens: Vec<usize> = sequences.iter().map(|ids| ids.len()).collect();
                let pool = Pool::new(2);
                let mut tape = Tape::new(&pool, &Arena::default(), &lens, keep);
                let all: Vec<usize> = (0..lens.iter().sum()).collect();
                let logits = decoder.logits(&mut tape, &sequences.concat(), &all);
                assert_eq!(alone.concat(), logits.value().data(), "{}: tape, {keep:?}", case.name);
            }
        }
    }

    #[test]
    fn a_cached_prefix_changes_no_bit() {
        for case in cases() {
            let decoder = case.open();
            let ids = &case.sequences[1].ids;
            let (pool, mut workspace) = (Pool::new(1), Workspace::default());
            let mut run = |cache: &mut KvCache, ids: &[u32]| {
                let rows = vec![Rows { cache, count: ids.len() }];
                let mut graph = Eager::new(&pool, &mut workspace, rows);
                let logits = decoder.logits(&mut graph, ids, &[ids.len() - 1]);
                graph.finish();
                logits.data().to_vec()
            };
            let mut whole = KvCache::new(decoder.page_layout());
            let expected = run(&mut whole, ids);
            for cached in [5, 64, 71] {
                let actual = run(&mut whole.prefix(cached), &ids[cached..]);
                assert_eq!(expected, actual, "{}: {cached} positions cached", case.name);
            }
        }
    }

    /// An adapter on every module, B random so that A has a gradient.
    fn adapter(decoder: &Decoder) -> Adapter {
        let modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        let target_modules = modules.map(str::to_owned).to_vec();
        let config = LoraConfig { r: 2, lora_alpha: 2.0, target_modules, ..LoraConfig::default() };
        let mut adapter = Adapter::new(decoder, config, 5).unwrap();
        for (index, param) in adapter.params_mut().enumerate() {
            if index % 2 == 1 {
                let values =
                    (0..param.data.len()).map(|i| ((i * 37 + index * 11) % 23) as f32 / 92.0 - 0.125);
                param.data = Arc::new(values.collect());
            }
        }
        adapter
    }

    fn loss(decoder: &Decoder, adapter: &Adapter, ids: &[u32], keep: Keep) -> (f64, Gradients) {
        let pool = Pool::new(2);
        let mut tape = Tape::new(&pool, &Arena::default(), &[ids.len()], keep);
        let rows: Vec<usize> = (0..ids.len() - 1).collect();
        let logits = adapter.apply(decoder).logits(&mut tape, ids, &rows);
        let loss = tape.cross_entropy(logits, &ids[1..], &vec![1.0; rows.len()]);
        (loss, tape.backward(1.0))
    }

    #[test]
    fn gradients_of_adapters_pass_finite_differences() {
        for case in cases() {
            // Differences of a forward that rounds keys would be steps.
            let decoder = case.open_exact();
            // Beyond the windows of 20.
            let ids = &case.sequences[1].ids[..30];
            let adapter = adapter(&decoder);
            let (_, gradients) = loss(&decoder, &adapter, ids, Keep::Projections);
            assert_eq!(gradients, loss(&decoder, &adapter, ids, Keep::Little).1, "{}", case.name);
            let count = adapter.params().count();
            for place in (0..count).step_by(count / 9) {
                let param = adapter.params().nth(place).unwrap();
                let Some(gradient) = gradients.get(param.id.unwrap()) else {
                    // An expert that no token went to.
                    assert!(decoder.config.experts.is_some(), "{}: no gradient of {place}", case.name);
                    continue;
                };
                let largest = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
                let index = (0..gradient.len()).max_by(largest).unwrap();
                assert!(gradient[index] != 0.0, "{}: parameter {place} learns nothing", case.name);
                let expected = difference(&decoder, &adapter, ids, (place, index));
                let actual = f64::from(gradient[index]);
                assert!(
                    (actual - expected).abs() < 2e-4 * (1.0 + expected.abs()),
                    "{}: d{place}[{index}] is {actual}, differences say {expected}",
                    case.name
                );
            }
        }
    }

    /// A difference of fourth order with respect to one value.
    fn difference(decoder: &Decoder, adapter: &Adapter, ids: &[u32], (place, index): (usize, usize)) -> f64 {
        let step = 1.0 / 64.0;
        let at = |steps: f32| {
            let mut moved = adapter.clone();
            let param = moved.params_mut().nth(place).unwrap();
            Arc::make_mut(&mut param.data)[index] += steps * step;
            loss(decoder, &moved, ids, Keep::Projections).0
        };
        let (near, far) = (at(1.0) - at(-1.0), at(2.0) - at(-2.0));
        (8.0 * near - far) / (12.0 * f64::from(step))
    }
}
