//! Settings and files that lie, by accident or on purpose: an error or a model, never a panic.

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use hearth_kernels::pool::Pool;
    use hearth_model::{Decoder, Result};
    use hearth_testkit::{FormulaTensor, Scratch, formula_model};
    use serde_json::{Value, json};

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden");

    #[track_caller]
    fn check(what: &str, open: impl FnOnce() -> Result<Decoder>) -> bool {
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(decoder)) => {
                let config = &decoder.config;
                let rotates = config.layers.iter().flat_map(|layer| layer.rope.frequencies.iter());
                assert!(rotates.clone().all(|frequency| frequency.is_finite()), "{what}: {config:?}");
                assert!(config.rms_norm_eps >= 0.0, "{what}: {config:?}");
                true
            }
            Ok(Err(error)) => {
                assert!(!error.to_string().is_empty());
                false
            }
            Err(panic) => {
                println!("{what} panics");
                resume_unwind(panic)
            }
        }
    }

    #[test]
    fn settings_of_any_value_never_panic() {
        let text = fs_err::read(format!("{GOLDEN}/families.json")).unwrap();
        let golden: Value = serde_json::from_slice(&text).unwrap();
        let values = [
            json!(null),
            json!(0),
            json!(1),
            json!(-1),
            json!(3),
            json!(1e30),
            json!(-0.5),
            json!(u64::MAX),
            json!(1u64 << 24),
            json!("yarn"),
            json!(true),
            json!([]),
            json!(["sliding_attention"]),
            json!({}),
            json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1.0}),
            json!({"rope_type": "yarn", "factor": 1e-30, "original_max_position_embeddings": 0}),
            json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 1}),
            json!({"full_attention": {"rope_type": "linear", "factor": 1e39}}),
        ];
        let (mut opened, mut refused) = (0, 0);
        // One case a family.
        let is_plain = |case: &&Value| !case["name"].as_str().unwrap().contains('-');
        for case in golden["cases"].as_array().unwrap().iter().filter(is_plain) {
            let tensors: Vec<(String, Vec<usize>, f32, f32)> =
                serde_json::from_value(case["tensors"].clone()).unwrap();
            let tensors: Vec<FormulaTensor> = tensors
                .into_iter()
                .map(|(name, shape, offset, scale)| FormulaTensor { name, shape, offset, scale })
                .collect();
            let folder = Scratch::new("hostile").unwrap();
            formula_model(&folder, &case["config"], &tensors).unwrap();
            let pool = Pool::new(1);
            for key in case["config"].as_object().unwrap().keys() {
                for value in &values {
                    let mut config = case["config"].clone();
                    config[key] = value.clone();
                    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
                    let what = format!("{}: {key} {value}", case["name"]);
                    match check(&what, || Decoder::open(&folder, &pool)) {
                        true => opened += 1,
                        false => refused += 1,
                    }
                }
            }
        }
        assert!(opened > 300 && refused > 300, "{opened} opened, {refused} refused");
    }

    #[test]
    fn flipped_bits_of_files_never_panic() {
        let pool = Pool::new(1);
        let folder = Scratch::new("hostile").unwrap();
        let path = folder.join("damaged.gguf");
        let (mut opened, mut refused) = (0, 0);
        for name in ["llama-yarn", "mixtral", "gemma2", "phi3"] {
            let whole = fs_err::read(format!("{GOLDEN}/gguf/{name}.gguf")).unwrap();
            // Metadata and the table of tensors stand at the beginning.
            for bit in (0..8 * whole.len().min(3000)).step_by(41) {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs_err::write(&path, &bytes).unwrap();
                match check(&format!("{name}, bit {bit}"), || Decoder::open(&path, &pool)) {
                    true => opened += 1,
                    false => refused += 1,
                }
            }
        }
        assert!(opened > 300 && refused > 300, "{opened} opened, {refused} refused");
    }
}
