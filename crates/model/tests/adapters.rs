//! Adapters against PEFT, on tiny models that `golden/adapters.py` makes as well: logits, loss and gradients; and what
//! is refused.

#[cfg(test)]
#[expect(dead_code, reason = "what only the tests of the families use")]
mod golden;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use hearth_kernels::pool::Pool;
    use hearth_model::{Adapter, Decoder};
    use hearth_tensor::tape::{Keep, Tape};
    use hearth_tensor::tensor::Arena;
    use hearth_testkit::{FormulaTensor, Scratch, formula_model};
    use safetensors::SafeTensors;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::golden::{GOLDEN, case, exact, logits};

    /// f32 forwards and backwards that sum in another order.
    const TOLERANCE: f64 = 1e-4;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    /// What `golden/adapters.py` wrote.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        base: String,
        settings: Value,
        tensors: Vec<(String, Vec<usize>, f32, f32)>,
        ids: Vec<u32>,
        learnt: Vec<usize>,
        logits: Vec<f32>,
        loss: f64,
        /// The norm and the first values of each.
        gradients: BTreeMap<String, Vec<f64>>,
    }

    fn cases() -> Vec<Case> {
        let text = fs_err::read(format!("{GOLDEN}/adapters.json")).unwrap();
        serde_json::from_slice::<Golden>(&text).unwrap().cases
    }

    impl Case {
        fn base(&self) -> Decoder {
            let folder = Scratch::new("adapter-base").unwrap();
            case(&self.base).write(&folder);
            exact(Decoder::open(&folder, &Pool::new(1)).unwrap())
        }

        fn write(&self, folder: &Path) {
            let tensors = self.tensors.iter().cloned();
            let tensors: Vec<FormulaTensor> = tensors
                .map(|(name, shape, offset, scale)| FormulaTensor { name, shape, offset, scale })
                .collect();
            formula_model(folder, &self.settings, &tensors).unwrap();
            fs_err::rename(folder.join("config.json"), folder.join("adapter_config.json")).unwrap();
            fs_err::rename(folder.join("model.safetensors"), folder.join("adapter_model.safetensors"))
                .unwrap();
        }

        fn open(&self, decoder: &Decoder) -> Adapter {
            let folder = Scratch::new("adapter").unwrap();
            self.write(&folder);
            Adapter::open(&folder, decoder).unwrap_or_else(|error| panic!("{}: {error}", self.name))
        }
    }

    #[test]
    fn logits_and_gradients_equal_those_of_peft() {
        for case in cases() {
            let (base, pool) = (case.base(), Pool::new(2));
            let adapter = case.open(&base);
            let decoder = adapter.apply_on(&pool, &base);
            let last = logits(&decoder, &case.ids).pop().unwrap();
            for (id, (actual, expected)) in last.iter().zip(&case.logits).enumerate() {
                assert!(
                    (actual - expected).abs() < 1e-4,
                    "{}, logit {id}: {actual} vs. {expected}",
                    case.name
                );
            }
            let rows: Vec<usize> = case.learnt.iter().map(|at| at - 1).collect();
            let targets: Vec<u32> = case.learnt.iter().map(|&at| case.ids[at]).collect();
            let mut tape = Tape::new(&pool, &Arena::default(), &[case.ids.len()], Keep::Projections);
            let out = decoder.logits(&mut tape, &case.ids, &rows);
            let loss = tape.cross_entropy(out, &targets, &vec![1.0; targets.len()]);
            assert!((loss - case.loss).abs() < TOLERANCE, "{}: {loss} vs. {}", case.name, case.loss);
            // Saved in the place of the values, gradients come under PEFT's names.
            let gradients = tape.backward(1.0);
            let mut of_params = adapter.clone();
            for param in of_params.params_mut() {
                param.data = Arc::new(gradients.get(param.id.unwrap()).unwrap().to_vec());
            }
            let folder = Scratch::new("gradients").unwrap();
            of_params.save(&folder).unwrap();
            let bytes = fs_err::read(folder.join("adapter_model.safetensors")).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.len(), case.gradients.len(), "{}", case.name);
            for (name, expected) in &case.gradients {
                let data = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data();
                let values: Vec<f64> =
                    data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
                let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
                for (actual, expected) in [&[norm], &values[..]].concat().iter().zip(expected) {
                    // Relative to the whole gradient: single values may be sums that cancel.
                    let bound = TOLERANCE * norm;
                    assert!(
                        (actual - expected).abs() < bound,
                        "{}, {name}: {actual} vs. {expected}",
                        case.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_saved_adapter_has_the_tensors_it_was_read_from() {
        for case in cases() {
            let base = case.base();
            let (folder, again) = (Scratch::new("adapter").unwrap(), Scratch::new("again").unwrap());
            case.write(&folder);
            Adapter::open(&folder, &base).unwrap().save(&again).unwrap();
            let read = |folder: &Path| fs_err::read(folder.join("adapter_model.safetensors")).unwrap();
            let (before, after) = (read(&folder), read(&again));
            let (before, after) =
                (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
            assert_eq!(before.len(), after.len());
            for (name, tensor) in before.tensors() {
                let other = after.tensor(&name).unwrap();
                assert_eq!((tensor.shape(), tensor.data()), (other.shape(), other.data()), "{name}");
            }
        }
    }

    #[test]
    fn an_adapter_of_another_model_is_refused_by_what_does_not_fit() {
        let cases = cases();
        let lora = &cases[0];
        let base = lora.base();
        let refused = |change: &dyn Fn(&Path)| {
            let folder = Scratch::new("adapter").unwrap();
            lora.write(&folder);
            change(&folder);
            Adapter::open(&folder, &base).unwrap_err().to_string()
        };
        let set = |key: &'static str, value: Value| {
            move |folder: &Path| {
                let path = folder.join("adapter_config.json");
                let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
                config[key] = value.clone();
                fs_err::write(&path, config.to_string()).unwrap();
            }
        };
        for (error, expected) in [
            (refused(&set("r", json!(4))), "[3, 32], this model needs [4, 32]"),
            (refused(&set("target_modules", json!(["q_proj"]))), "has no place in this model"),
            (refused(&set("use_dora", json!(true))), "lora_magnitude_vector"),
            (refused(&set("layers_to_transform", json!([7]))), "layer 7, but the decoder has 3"),
            (refused(&set("target_modules", json!(["lm_head"]))), "`lm_head`"),
            (
                refused(&|folder: &Path| {
                    let path = folder.join("adapter_model.safetensors");
                    let bytes = fs_err::read(&path).unwrap();
                    fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                }),
                "adapter",
            ),
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }
}
