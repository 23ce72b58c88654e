//! The adapter: training pairs to examples, examples to a trained LoRA.
//!
//! Most examples ask without documents, as the fine-tuned way does. A part of them has passages before the
//! question (retrieval-augmented fine-tuning, Zhang et al. 2024), so that the adapter also learns to read.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::Progress;
use hearth_eval::compare::{Fact, LossPoint, TrainingCurve};
use hearth_knowledge::answer::rag_prompt;
use hearth_knowledge::knowledge_base::{Hit, Method};
use hearth_knowledge::questions::{Pair, split};
use hearth_model::LoraConfig;
use hearth_tokenizer::{Conversation, Example, Message};
use hearth_train::sft::{self, Input, Output};
use hearth_train::{Checkpoints, Decay, Loss, OnSpike, Resume, SftConfig};

use super::grounding::Documents;
use super::ways::{ADAPTER, PLAIN_SYSTEM};
use super::{Job, TARGETS};

/// Every fifth pair is learned with passages before it: they are eight times as long.
const WITH_PASSAGES: usize = 5;
/// Passages, and tokens of a prompt, of such an example.
const TRAINING_PASSAGES: usize = 2;
const TRAINING_TOKENS: usize = 512;
/// Share of the pairs that validate: one in ten.
const VALIDATION_SHARE: usize = 10;
/// Times each pair is seen if time allows.
const EPOCHS: usize = 4;
/// Tokens of a step: below it decoding the weights costs more than using them.
const BATCH_TOKENS: usize = 512;
/// Between two checkpoints: writing one takes well below a second.
const CHECKPOINT_SECONDS: u64 = 30;

/// Trains the adapter, saves it in the run's folder and makes the engine know it.
pub(super) fn run(
    job: &Job<'_>,
    documents: &Documents,
    pairs: &[Pair],
    time: Duration,
    progress: &dyn Progress,
) -> Result<(Output, TrainingCurve)> {
    if pairs.len() < 4 {
        bail!(
            "only {} question–answer pairs could be made from the documents; fine-tuning needs at least 4",
            pairs.len()
        );
    }
    let (validation, training) = split(pairs, (pairs.len() / VALIDATION_SHARE).clamp(1, 48), job.args.seed);
    let train = examples(job, documents, &training)?;
    let validation = examples(job, documents, &validation)?;
    let tokens: usize = train.iter().map(|example| example.ids.len()).sum();
    let max_steps = (tokens * EPOCHS).div_ceil(BATCH_TOKENS).max(8);
    let config = SftConfig {
        lora: LoraConfig {
            r: 8,
            lora_alpha: 16.0,
            target_modules: TARGETS.map(str::to_owned).to_vec(),
            ..LoraConfig::default()
        },
        seed: job.args.seed,
        max_steps,
        batch_tokens: BATCH_TOKENS,
        micro_batch_tokens: BATCH_TOKENS,
        recompute: false,
        lr: 4e-4,
        warmup_steps: (max_steps / 20).max(2),
        schedule: Decay::Cosine,
        weight_decay: 0.01,
        max_gradient_norm: 1.0,
        neftune_alpha: None,
        validate_every: (max_steps / 10).max(4),
        patience: 3,
    };
    let input = Input {
        decoder: &job.engine.model().decoder,
        train: &train,
        validation: &validation,
        places: &[],
        checkpoints: Checkpoints {
            folder: &job.run.path("checkpoint"),
            every_seconds: CHECKPOINT_SECONDS,
            keep: 1,
            resume: Resume::IfSame,
        },
        metrics: None,
        on_spike: OnSpike::Note,
        time_budget: Some(time),
    };
    let output = sft::run(&config, &input, &job.context.machine.pool, progress)?;
    output.adapter.save(&job.run.path("adapter"))?;
    job.engine.add_adapter(ADAPTER, &output.adapter);
    let curve = curve(&config, &output, train.len(), validation.len());
    Ok((output, curve))
}

fn examples(job: &Job<'_>, documents: &Documents, pairs: &[Pair]) -> Result<Vec<Example>> {
    pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| {
            let (system, user, answer) = match index % WITH_PASSAGES {
                0 => with_passages(job, documents, pair)?,
                _ => (PLAIN_SYSTEM.to_owned(), pair.question.clone(), pair.answer.clone()),
            };
            let messages = vec![Message::system(system), Message::user(user), Message::assistant(answer)];
            let conversation = Conversation { messages, ..Conversation::default() };
            job.engine.model().chat.training(&conversation).context("a training example can't be made")
        })
        .collect()
}

/// The pair with its own passage among those that are found for its question, and the passage's number in the answer.
fn with_passages(job: &Job<'_>, documents: &Documents, pair: &Pair) -> Result<(String, String, String)> {
    let found = job.base.search(&pair.question, Method::Hybrid, TRAINING_PASSAGES, job.embedder.as_ref())?;
    let own = job.base.chunk(pair.chunk).context("a pair names a chunk that isn't there")?;
    let mut hits: Vec<Hit<'_>> = found.into_iter().filter(|hit| hit.chunk.id != pair.chunk).collect();
    hits.truncate(TRAINING_PASSAGES - 1);
    let document = job.base.document(own.document).context("a chunk names a document that isn't there")?;
    let hit =
        Hit { rank: 1, score: 0.0, chunk: own, document, bm25_rank: None, dense_rank: None, cosine: None };
    // Alternating places, so that the number can't be guessed.
    let place = if pair.chunk.0.is_multiple_of(2) { 0 } else { hits.len() };
    hits.insert(place, hit);
    let prompt = rag_prompt(&pair.question, &hits, TRAINING_TOKENS, &|text| documents.count(text));
    let number = prompt.used.iter().position(|&index| index == place);
    let answer = match number {
        Some(number) => format!("{} [{}]", pair.answer, number + 1),
        None => pair.answer.clone(),
    };
    Ok((prompt.system, prompt.user, answer))
}

fn curve(config: &SftConfig, output: &Output, train: usize, validation: usize) -> TrainingCurve {
    let points = |losses: &[Loss]| {
        losses.iter().map(|entry| LossPoint { step: entry.step as u64, loss: entry.loss }).collect()
    };
    let mut facts = vec![
        Fact::new(
            "method",
            format!("LoRA, rank {}, alpha {}, all projections", config.lora.r, config.lora.lora_alpha),
        ),
        Fact::new("trained parameters", output.adapter.num_params().to_string()),
        Fact::new("examples", format!("{train} to train on, {validation} to validate with")),
        Fact::new("steps", format!("{} of {} planned", output.steps, config.max_steps)),
        Fact::new("speed", format!("{:.0} tokens/s", output.tokens as f64 / output.seconds.max(1e-9))),
        Fact::new("peak learning rate", config.lr.to_string()),
    ];
    let lowest = output.curve.validation.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    if lowest.is_some_and(|lowest| lowest.step == 0) {
        let value =
            "no step lowered the validation loss: the adapter is the untrained one, and changes nothing";
        facts.push(Fact::new("warning", value));
    }
    if let Some(reason) = &output.stopped_early {
        facts.push(Fact::new("ended early", reason.clone()));
    }
    TrainingCurve {
        steps: output.steps as u64,
        train_loss: points(&output.curve.train),
        validation_loss: points(&output.curve.validation),
        facts,
    }
}
