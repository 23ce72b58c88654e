//! The laws of training all weights: resumed = uninterrupted, any threads, any parts, and one model for training and
//! serving.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_artifacts::progress::{Event, Progress, Silent};
use hearth_artifacts::shards::packing::Packing;
use hearth_artifacts::shards::{ShardWriter, ShardsInfo, TokenShards};
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_model::trained::Sizes;
use hearth_train::checkpoints::{Checkpoints, Resume};
use hearth_train::guard::OnSpike;
use hearth_train::pretrain::{self, Input, Method, Output, PretrainConfig};
use hearth_train::schedule::{Decay, Schedule};
use hearth_train::{Error, metrics};
use serde_json::json;

const VOCAB_SIZE: usize = 23;
const SEQ_LEN: u32 = 12;

fn sizes() -> Sizes {
    Sizes {
        vocab_size: VOCAB_SIZE,
        hidden_size: 16,
        num_layers: 2,
        num_heads: 2,
        num_kv_heads: 1,
        intermediate_size: 24,
        max_seq_len: 64,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        qk_norm: true,
        tied: true,
    }
}

fn config() -> PretrainConfig {
    PretrainConfig {
        sizes: Some(sizes()),
        seed: 7,
        num_steps: 12,
        seq_len: SEQ_LEN,
        batch_rows: 4,
        micro_rows: 2,
        method: Method::Muon,
        schedule: Schedule {
            lr: 0.01,
            warmup_steps: 2,
            decay: Decay::Cosine,
            min_lr_share: 0.1,
            decay_share: 0.2,
        },
        beta1: 0.9,
        beta2: 0.95,
        momentum: 0.95,
        weight_decay: 0.1,
        max_gradient_norm: 1.0,
        recompute: false,
        validate_every: 5,
        validation_rows: 4,
        patience: 100,
    }
}

/// Documents that count up by a step of their own, each from another start.
fn documents(seed: u32, count: u32) -> Vec<Vec<u32>> {
    let document = |n: u32| {
        let (start, step, len) = (n * 5 + seed, n % 3 + 1, 5 + n * 7 % 20);
        (0..len).map(|i| (start + i * step) % VOCAB_SIZE as u32).collect()
    };
    (0..count).map(document).collect()
}

fn shards(folder: &Path, documents: &[Vec<u32>], mask: Option<&dyn Fn(usize) -> bool>) -> TokenShards {
    let info = ShardsInfo {
        tokenizer_sha256: "none".into(),
        vocab_size: VOCAB_SIZE as u32,
        end_of_document: None,
        has_mask: mask.is_some(),
    };
    let mut writer = ShardWriter::create(folder, info, 1 << 20).unwrap();
    for (row, ids) in documents.iter().enumerate() {
        let mask: Option<Vec<bool>> = mask.map(|mask| (0..ids.len()).map(mask).collect());
        writer.push(ids, mask.as_deref(), &format!("counting.jsonl:{}", row + 1)).unwrap();
    }
    writer.finish().unwrap();
    TokenShards::open(folder).unwrap()
}

/// A folder with shards for training and validation.
struct Place {
    folder: tempfile::TempDir,
    train: (TokenShards, Packing),
    validation: (TokenShards, Packing),
}

impl Place {
    fn new(mask: Option<&dyn Fn(usize) -> bool>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, seed: u32, count: u32| {
            let shards = shards(&folder.path().join(name), &documents(seed, count), mask);
            let packing = Packing::new(&shards.lengths().unwrap(), SEQ_LEN, 3).unwrap();
            (shards, packing)
        };
        let (train, validation) = (open("train", 0, 30), open("validation", 2, 6));
        Self { folder, train, validation }
    }

    fn run(
        &self,
        config: &PretrainConfig,
        name: &str,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Output, Error> {
        self.run_from(None, config, name, threads, progress)
    }

    fn run_from(
        &self,
        initial: Option<&Decoder>,
        config: &PretrainConfig,
        name: &str,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Output, Error> {
        let folder = self.folder.path().join(name);
        let checkpoints = folder.join("checkpoints");
        let input = Input {
            stage: "pretrain",
            train: (&self.train.0, &self.train.1),
            validation: (&self.validation.0, &self.validation.1),
            initial,
            config_json: &sizes().config_json(None),
            token_bytes: Some(&[2; VOCAB_SIZE]),
            checkpoints: Checkpoints {
                folder: &checkpoints,
                every_seconds: 0,
                keep: 2,
                resume: Resume::IfSame,
            },
            metrics: Some(&folder.join("metrics.jsonl")),
            on_spike: OnSpike::Stop,
            time_budget: None,
            sample: None,
        };
        fs_err::create_dir_all(&folder).unwrap();
        pretrain::run(config, &input, &Pool::new(threads), progress)
    }
}

/// Asks to stop after some steps.
struct StopAfter {
    steps: usize,
    done: AtomicUsize,
}

impl Progress for StopAfter {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Advance { .. }) {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.steps
    }
}

fn bits(output: &Output) -> (Vec<u64>, Vec<u64>) {
    let of = |losses: &[hearth_train::Loss]| losses.iter().map(|entry| entry.loss.to_bits()).collect();
    (of(&output.curve.train), of(&output.curve.validation))
}

#[test]
fn a_stopped_run_goes_on_to_the_bit_whatever_moves_the_weights() {
    let place = Place::new(None);
    for method in [Method::AdamW, Method::Muon] {
        let config = PretrainConfig { method, ..config() };
        let whole = place.run(&config, &format!("{method:?} whole"), 2, &Silent).unwrap();
        let name = format!("{method:?} in parts");
        for steps in [1, 4, 6] {
            let stop = StopAfter { steps, done: AtomicUsize::new(0) };
            let error = place.run(&config, &name, 1, &stop).unwrap_err();
            assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        }
        let resumed = place.run(&config, &name, 3, &Silent).unwrap();
        assert_eq!(bits(&whole), bits(&resumed), "{method:?}");
        assert_eq!((whole.steps, whole.tokens), (resumed.steps, resumed.tokens));
        let lines = metrics::read(&place.folder.path().join(&name).join("metrics.jsonl")).unwrap();
        let losses: Vec<u64> = lines.iter().filter_map(|line| line.loss).map(f64::to_bits).collect();
        assert_eq!(losses, bits(&whole).0, "each step has one line");
    }
}

#[test]
fn another_config_does_not_take_a_checkpoint_up() {
    let place = Place::new(None);
    let stop = StopAfter { steps: 3, done: AtomicUsize::new(0) };
    place.run(&config(), "run", 1, &stop).unwrap_err();
    let other = PretrainConfig { weight_decay: 0.0, ..config() };
    let (fresh, resumed) =
        (place.run(&other, "fresh", 1, &Silent).unwrap(), place.run(&other, "run", 1, &Silent).unwrap());
    assert_eq!(bits(&fresh), bits(&resumed));
}

#[test]
fn rows_in_parts_equal_rows_at_once_within_1e_5() {
    let place = Place::new(None);
    let losses = |micro_rows: usize| {
        let config = PretrainConfig { batch_rows: 8, micro_rows, method: Method::AdamW, ..config() };
        place.run(&config, &format!("by {micro_rows}"), 2, &Silent).unwrap().curve.train
    };
    let (one, eight) = (losses(1), losses(8));
    assert_eq!((one.len(), eight.len()), (12, 12));
    for (a, b) in one.iter().zip(&eight) {
        assert!((a.loss - b.loss).abs() < 1e-5 * b.loss, "step {}: {} vs. {}", a.step, a.loss, b.loss);
    }
}

#[test]
fn counting_is_learned_and_the_model_on_disk_is_the_model_in_memory() {
    let place = Place::new(None);
    let config = PretrainConfig { num_steps: 80, batch_rows: 8, validate_every: 20, ..config() };
    let mut output = place.run(&config, "run", 2, &Silent).unwrap();
    let (first, best) = (output.curve.validation[0].loss, output.best.loss);
    assert!((first - (VOCAB_SIZE as f64).ln()).abs() < 0.1, "a new model knows nothing: {first}");
    assert!(best < 0.6 * first, "{first} to {best}");
    let bits_per_byte = output.best.bits_per_byte.unwrap();
    assert!((bits_per_byte - best / std::f64::consts::LN_2 / 2.0).abs() < 1e-9);

    let folder = place.folder.path().join("model");
    fs_err::create_dir_all(&folder).unwrap();
    output.decoder.write_folder(&folder, Some(&sizes().config_json(Some(0)))).unwrap();
    let pool = Pool::new(2);
    let opened = Decoder::open(&folder, &pool).unwrap();
    let logits = |decoder: &Decoder| {
        use hearth_tensor::tape::{Keep, Tape};
        let arena = hearth_tensor::tensor::Arena::default();
        let mut tape = Tape::new(&pool, &arena, &[5], Keep::Nothing);
        decoder.logits(&mut tape, &[3, 5, 7, 9, 11], &[0, 4]).value().data().to_vec()
    };
    assert_eq!(logits(&output.decoder), logits(&opened));
    assert_eq!(logits(&opened), logits(&opened.thawed().unwrap()));
}

#[test]
fn only_tokens_of_the_mask_are_learned() {
    // Every second token counts, and going on from a model changes nothing in that.
    let place = Place::new(Some(&|index| index % 2 == 1));
    let initial = Decoder::fresh(&sizes(), 99).unwrap();
    let from_model = PretrainConfig { sizes: None, num_steps: 2, ..config() };
    let output = place.run_from(Some(&initial), &from_model, "run", 1, &Silent).unwrap();
    let lines = metrics::read(&place.folder.path().join("run/metrics.jsonl")).unwrap();
    let step = lines.iter().find(|line| line.loss.is_some()).unwrap();
    let (tokens, learned) = (step.tokens.unwrap(), step.learned_tokens.unwrap());
    assert!(learned * 3 < tokens * 2 && learned * 3 > tokens, "{learned} of {tokens}");
    assert_eq!(output.steps, 2);

    let nothing = Place::new(Some(&|_| false));
    let error = nothing.run(&config(), "run", 1, &Silent).unwrap_err();
    assert!(matches!(error, Error::NothingToLearn { step: 0 }), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_documents() {
    let place = Place::new(None);
    let mut initial = Decoder::fresh(&sizes(), 1).unwrap();
    // One embedding overflows: the documents that hold the token are to blame.
    initial.update(|params| {
        let embedding = params.into_iter().next().unwrap().param;
        std::sync::Arc::make_mut(&mut embedding.data)[5 * 16..6 * 16].fill(f32::NAN);
    });
    let config = PretrainConfig { sizes: None, ..config() };
    let error = place.run_from(Some(&initial), &config, "run", 1, &Silent).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::NotFinite { step: 0, .. }), "{message}");
    assert!(message.contains("counting.jsonl:"), "{message}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_too() {
    let place = Place::new(None);
    let stop = StopAfter { steps: 4, done: AtomicUsize::new(0) };
    place.run(&config(), "run", 1, &stop).unwrap_err();
    let last = place.folder.path().join("run/checkpoints/step-4/model.safetensors");
    let mut bytes = fs_err::read(&last).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs_err::write(&last, bytes).unwrap();
    let message = place.run(&config(), "run", 1, &Silent).unwrap_err().to_string();
    assert!(message.contains("`model.safetensors` is damaged") && message.contains("of step 3"), "{message}");
}

#[test]
fn config_json_says_what_transformers_reads() {
    let json = sizes().config_json(Some(2));
    assert_eq!(json["model_type"], json!("qwen3"));
    assert_eq!(json["eos_token_id"], json!(2));
    assert_eq!(json["head_dim"], json!(8));
}
