//! Laws of conversion: a model comes back to the byte, quantised weights stay near, what doesn't fit is named.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;

use hearth_artifacts::progress::{Event, Progress, Silent};
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::Format;
use hearth_model::Error;
use hearth_model::convert::{Encoding, Mix, Options, Summary, convert};
use hearth_model::files::{GgufFile, SafetensorsFolder};
use hearth_testkit::{Family, Scratch, TINY, TinyModel};

/// Rows that are whole blocks of 256.
const WIDE: TinyModel = TinyModel { hidden_size: 256, intermediate_size: 512, num_layers: 3, ..TINY };

fn run(source: &Path, target: &Path, options: &Options<'_>) -> Result<Summary, Error> {
    convert(source, target, options, &Pool::new(2), &Silent)
}

fn with(encoding: Encoding) -> Options<'static> {
    Options { encoding, ..Options::default() }
}

#[test]
fn a_folder_comes_back_from_a_gguf_file_to_the_byte() {
    for family in [Family::Llama, Family::Qwen2] {
        let scratch = Scratch::new("convert").unwrap();
        let (folder, file, back) = (scratch.join("a"), scratch.join("b.gguf"), scratch.join("c"));
        TinyModel { family, ..TINY }.write(&folder).unwrap();
        assert!(run(&folder, &file, &Options::default()).unwrap().is_lossless());
        assert!(run(&file, &back, &Options::default()).unwrap().is_lossless());
        let (before, after) =
            (SafetensorsFolder::open(&folder).unwrap(), SafetensorsFolder::open(&back).unwrap());
        assert_eq!(before.names().collect::<Vec<_>>(), after.names().collect::<Vec<_>>());
        for name in before.names() {
            assert_eq!(before.tensor(name), after.tensor(name), "{family:?} {name}");
        }
        for key in ["hidden_size", "rope_theta", "rms_norm_eps", "vocab_size", "tie_word_embeddings"] {
            assert_eq!(before.config()[key], after.config()[key], "{key}");
        }
        for name in ["tokenizer.json", "chat_template.jinja"] {
            let json = |folder: &Path| fs_err::read(folder.join(name)).unwrap();
            if name.ends_with("json") {
                let value =
                    |folder: &Path| -> serde_json::Value { serde_json::from_slice(&json(folder)).unwrap() };
                let (before, after) = (value(&folder), value(&back));
                assert_eq!(before["added_tokens"], after["added_tokens"]);
                assert_eq!(before["pre_tokenizer"], after["pre_tokenizer"]);
                assert_eq!(before["model"]["merges"], after["model"]["merges"]);
            } else {
                assert_eq!(json(&folder), json(&back), "{name}");
            }
        }
    }
}

#[test]
fn rows_of_q_and_k_are_paired_in_a_llama_file() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, file) = (scratch.join("a"), scratch.join("b.gguf"));
    TinyModel { family: Family::Llama, ..TINY }.write(&folder).unwrap();
    run(&folder, &file, &Options::default()).unwrap();
    let (folder, file) = (SafetensorsFolder::open(&folder).unwrap(), GgufFile::open(&file).unwrap());
    let from = folder.tensor("model.layers.1.self_attn.k_proj.weight").unwrap().to_f32();
    let to = file.tensor("blk.1.attn_k.weight").unwrap().to_f32();
    // Two heads of 16 rows of 64: row 9 of a head stands behind row 1.
    assert_eq!(to[3 * 64..4 * 64], from[9 * 64..10 * 64]);
    assert_eq!(to[2 * 64..3 * 64], from[64..2 * 64]);
    let v = |name: &str| folder.tensor(name).unwrap().bytes.to_vec();
    let same = v("model.layers.1.self_attn.v_proj.weight");
    assert_eq!(file.tensor("blk.1.attn_v.weight").unwrap().bytes, same);
}

#[test]
fn halves_and_shards_hold_the_same_model() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, half, whole, sharded) =
        (scratch.join("a"), scratch.join("half.gguf"), scratch.join("one"), scratch.join("shards"));
    TINY.write(&folder).unwrap();
    run(&folder, &half, &with(Encoding::Dense(Format::BF16))).unwrap();
    run(&half, &whole, &Options::default()).unwrap();
    run(&half, &sharded, &Options { shard_bytes: 40_000, ..Options::default() }).unwrap();
    assert!(sharded.join("model.safetensors.index.json").is_file());
    let (one, many) = (SafetensorsFolder::open(&whole).unwrap(), SafetensorsFolder::open(&sharded).unwrap());
    for name in one.names() {
        assert_eq!(one.tensor(name), many.tensor(name), "{name}");
    }
    // Norms are ones, so that bf16 holds them; biases aren't.
    assert_eq!(one.tensor("model.norm.weight").unwrap().format, Format::BF16);
    assert_eq!(one.tensor("model.layers.0.self_attn.q_proj.bias").unwrap().format, Format::F32);
    assert_eq!(one.config()["torch_dtype"], "bfloat16");
}

#[test]
fn a_stretched_rope_comes_back_with_its_settings() {
    let scratch = Scratch::new("convert").unwrap();
    let folder = scratch.join("a");
    TinyModel { family: Family::Llama, ..TINY }.write(&folder).unwrap();
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    let llama3 = serde_json::json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let yarn =
        serde_json::json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024 });
    for (index, scaling) in
        [llama3, yarn, serde_json::json!({ "rope_type": "linear", "factor": 2.5 })].iter().enumerate()
    {
        config["rope_scaling"] = scaling.clone();
        fs_err::write(&path, config.to_string()).unwrap();
        let (file, back) = (scratch.join(format!("{index}.gguf")), scratch.join(index.to_string()));
        run(&folder, &file, &Options::default()).unwrap();
        assert_eq!(GgufFile::open(&file).unwrap().tensor("rope_freqs.weight").is_some(), index == 0);
        run(&file, &back, &Options::default()).unwrap();
        assert_eq!(&SafetensorsFolder::open(&back).unwrap().config()["rope_scaling"], scaling);
    }
}

#[test]
fn quantised_weights_are_as_near_as_their_bits_allow() {
    // Of uniform weights: the error of a step's uniform rounding, and some for the scales' own rounding.
    let bounds =
        [(Mix::Q8_0, 0.006), (Mix::Q6K, 0.02), (Mix::Q5KM, 0.045), (Mix::Q4KM, 0.085), (Mix::Q4_0, 0.1)];
    let scratch = Scratch::new("convert").unwrap();
    let folder = scratch.join("a");
    WIDE.write(&folder).unwrap();
    let mut bytes_before = usize::MAX;
    for (mix, bound) in bounds {
        let file = scratch.join(format!("{}.gguf", mix.name()));
        let summary = run(&folder, &file, &with(Encoding::Mix(mix))).unwrap();
        let quantised: Vec<_> = summary.tensors.iter().filter(|tensor| !tensor.to.is_dense()).collect();
        assert_eq!(quantised.len(), 3 * 7 + 2, "{mix:?}");
        for tensor in quantised {
            let error = tensor.relative_error;
            assert!(error > 1e-4 && error < bound, "{mix:?} {}: {error}", tensor.name);
        }
        assert!(summary.num_bytes() < bytes_before, "{mix:?}");
        bytes_before = summary.num_bytes();
        let open = GgufFile::open(&file).unwrap();
        assert_eq!(open.meta_u32("general.quantization_version").unwrap(), 2);
        assert_eq!(open.meta_str("tokenizer.ggml.model").unwrap(), "gpt2");
    }
}

#[test]
fn threads_and_the_way_there_change_no_byte() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, wide) = (scratch.join("a"), scratch.join("b.gguf"));
    WIDE.write(&folder).unwrap();
    run(&folder, &wide, &Options::default()).unwrap();
    let options = with(Encoding::Mix(Mix::Q4KM));
    let file = |name: &str| scratch.join(name);
    convert(&folder, &file("1.gguf"), &options, &Pool::new(1), &Silent).unwrap();
    convert(&folder, &file("3.gguf"), &options, &Pool::new(3), &Silent).unwrap();
    run(&wide, &file("via.gguf"), &options).unwrap();
    let bytes = |name: &str| fs_err::read(file(name)).unwrap();
    assert_eq!(bytes("1.gguf"), bytes("3.gguf"));
    let (straight, via) =
        (GgufFile::open(file("1.gguf")).unwrap(), GgufFile::open(file("via.gguf")).unwrap());
    for info in straight.tensors() {
        assert_eq!(straight.tensor(&info.name), via.tensor(&info.name), "{}", info.name);
    }
}

fn check(source: &Path, target: &Path, options: &Options<'_>, expected: &str) {
    let message = run(source, target, options).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, file) = (scratch.join("a"), scratch.join("b.gguf"));
    TINY.write(&folder).unwrap();
    run(&folder, &file, &Options::default()).unwrap();
    check(&folder, &file, &Options::default(), "is there already");
    check(&folder, &scratch.join("c"), &Options::default(), "name a target that ends in `.gguf`");
    check(&file, &scratch.join("c"), &with(Encoding::Mix(Mix::Q8_0)), "a folder can't hold q8_0");
    check(&file, &folder, &Options::default(), "a folder is never replaced");
    let change = |key: &str, value: serde_json::Value| {
        let path = folder.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        let before = std::mem::replace(&mut config[key], value);
        fs_err::write(&path, config.to_string()).unwrap();
        before
    };
    let target = scratch.join("d.gguf");
    for (key, value, expected) in [
        ("model_type", "gpt9".into(), "model family `gpt9` isn't supported yet"),
        ("hidden_act", "gelu".into(), "`hidden_act` gelu isn't supported yet"),
        ("rope_scaling", serde_json::json!({"rope_type": "longrope"}), "`short_factor` is missing"),
        ("rope_scaling", serde_json::json!({"rope_type": "llama3"}), "`factor` is missing"),
        ("num_hidden_layers", (-1).into(), "`num_hidden_layers` is -1"),
    ] {
        let before = change(key, value);
        check(&folder, &target, &Options::default(), expected);
        change(key, before);
    }
    assert!(run(&folder, &target, &Options { overwrite: true, ..Options::default() }).is_ok());
    let names = fs_err::read_dir(&*scratch).unwrap().count();
    assert_eq!(names, 3, "a, b.gguf and d.gguf");
}

/// Flips a weight of the first tensor to something.
fn with_weight(folder: &Path, value: f32) {
    let path = folder.join("model.safetensors");
    let mut bytes = fs_err::read(&path).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&value.to_le_bytes());
    fs_err::write(&path, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_or_too_large_are_refused() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, target) = (scratch.join("a"), scratch.join("b.gguf"));
    TINY.write(&folder).unwrap();
    with_weight(&folder, f32::NAN);
    check(&folder, &target, &Options::default(), "tensor `lm_head.weight` holds values that aren't finite");
    with_weight(&folder, 1e6);
    check(&folder, &target, &with(Encoding::Dense(Format::F16)), "holds 1000000, more than F16 can");
    assert!(run(&folder, &target, &Options::default()).unwrap().is_lossless());
}

/// Asks to stop once something has been written.
struct Impatient;

impl Progress for Impatient {
    fn event(&self, _event: Event<'_>) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_run_that_is_stopped_leaves_nothing() {
    let scratch = Scratch::new("convert").unwrap();
    let (folder, file) = (scratch.join("a"), scratch.join("b.gguf"));
    TINY.write(&folder).unwrap();
    for target in ["c.gguf", "d"] {
        if target == "d" {
            run(&folder, &file, &Options::default()).unwrap();
        }
        let source = if target == "d" { &file } else { &folder };
        let stopped = convert(source, &scratch.join(target), &Options::default(), &Pool::new(1), &Impatient);
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    }
    assert_eq!(fs_err::read_dir(&*scratch).unwrap().count(), 2, "a and b.gguf");
}
