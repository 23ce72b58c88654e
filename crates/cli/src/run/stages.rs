//! What each stage of a recipe does in its folder, from the folders of the stages before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256_file;
use hearth_artifacts::shards::{Manifest, ShardWriter, ShardsInfo, Source};
use hearth_data::{Input, Output, clean, dedup};
use hearth_model::Model;
use hearth_tokenizer::pack::{PackConfig, Packer, Row, RowContent, pack};
use hearth_tokenizer::train::{CHATML_SPECIAL_TOKENS, TrainConfig, train};
use hearth_tokenizer::{ChatFormat, Conversation, Message, Role, Tokenizer};
use hearth_train::checkpoints::Resume;
use hearth_train::sample;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::recipe::{Collect, Evaluate, Pack, TokenizerSettings};
use super::stories::{Question, World};
use crate::commands::{Context, vocabulary};
use crate::pretraining::{self, Plan, Settings};
use crate::rows::Rows;

/// What a stage is given.
pub(super) struct Work<'a> {
    pub(super) context: &'a Context,
    pub(super) folder: &'a Path,
    pub(super) settings: &'a Value,
    pub(super) seed: u64,
}

/// Does the stage; gives its figures, those to show under `shown`. `input` finds the folder of a stage before it.
pub(super) fn run(stage: &str, work: &Work<'_>, input: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Value> {
    let input = |name: &str| input(name).with_context(|| format!("it needs the stage `{name}` before it"));
    match stage {
        "collect" => collect(work),
        "clean" => cleaned(work, &input("collect")?),
        "dedup" => deduplicated(work, &input("clean")?),
        "tokenizer" => tokenizer(work, &input("dedup")?),
        "pack" => packed(work, &input("dedup")?, &input("tokenizer")?),
        "pretrain" => pretrained(work, &input("pack")?, &input("tokenizer")?),
        "sft" => fine_tuned(work, &input("collect")?, &input("pretrain")?),
        _ => evaluated(work, &input("collect")?, &input("sft")?),
    }
}

impl Work<'_> {
    fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let mut settings = self.settings.clone();
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("seed");
            settings.remove("files");
        }
        Ok(serde_json::from_value(settings)?)
    }

    /// Where a job of `hearth data` writes.
    fn rows(&self) -> Output {
        Output { threads: self.threads(), ..Output::new(self.folder.join("rows")) }
    }

    fn threads(&self) -> usize {
        self.context.machine.pool.threads()
    }
}

const CHATS: &str = "chats.jsonl";
const QUESTIONS: &str = "questions.jsonl";
const TEXTS: &str = "texts";

/// Texts, conversations and questions: one's own where files are given, made-up ones elsewhere.
fn collect(work: &Work<'_>) -> Result<Value> {
    let settings: Collect = work.settings()?;
    let lines = |name: &str, rows: &mut dyn Iterator<Item = Value>| -> Result<usize> {
        let (mut text, mut count) = (String::new(), 0);
        for row in rows {
            text.push_str(&row.to_string());
            text.push('\n');
            count += 1;
        }
        atomic::write(&work.folder.join(name), text.as_bytes())?;
        Ok(count)
    };
    let texts = work.folder.join(TEXTS);
    fs_err::create_dir_all(&texts)?;
    let sources = match settings.texts.is_empty() {
        true => {
            let rows = World::new(work.seed).texts(settings.made_up_texts);
            let mut rows = rows
                .into_iter()
                .enumerate()
                .map(|(n, text)| json!({ "id": format!("made-up-{n}"), "text": text }));
            lines("texts/made-up.jsonl", &mut rows)?;
            vec![texts.join("made-up.jsonl")]
        }
        false => settings.texts.clone(),
    };
    atomic::write_json(&work.folder.join("sources.json"), &sources)?;
    // Other seeds, or the conversations would tell the stories of the texts.
    let num_chats = match settings.chats.is_empty() {
        true => lines(CHATS, &mut World::new(work.seed ^ 0xC4A7).chats(settings.made_up_chats).into_iter())?,
        false => joined(&settings.chats, &work.folder.join(CHATS))?,
    };
    let num_questions = match settings.questions.is_empty() {
        true => {
            let questions = World::new(work.seed ^ 0x0A5C).questions(settings.made_up_questions);
            let row = |Question { asked: question, answer, kind }| json!({ "question": question, "answer": answer, "kind": kind });
            lines(QUESTIONS, &mut questions.into_iter().map(row))?
        }
        false => joined(&settings.questions, &work.folder.join(QUESTIONS))?,
    };
    let shown = [
        format!("{} sources of text", sources.len()),
        format!("{num_chats} conversations"),
        format!("{num_questions} questions"),
    ];
    Ok(json!({ "chats": num_chats, "questions": num_questions, "shown": shown }))
}

/// Lines of several files in one; how many there are.
fn joined(files: &[PathBuf], to: &Path) -> Result<usize> {
    let mut text = String::new();
    for row in Rows::new(files.to_vec()) {
        let row = row?;
        let RowContent::Json(json) = &row.content else { bail!("`{row}` isn't a line of JSON") };
        text.push_str(json.trim_end());
        text.push('\n');
    }
    atomic::write(to, text.as_bytes())?;
    Ok(text.lines().count())
}

fn rows_of(folder: &Path) -> Result<Input> {
    let sources = folder.join("sources.json");
    let paths: Vec<PathBuf> = match sources.is_file() {
        true => atomic::read_json(&sources)?,
        false => vec![folder.join("rows")],
    };
    Ok(Input { paths, read: hearth_data::read::ReadConfig::default() })
}

fn cleaned(work: &Work<'_>, from: &Path) -> Result<Value> {
    let summary = clean::run(&work.settings()?, &rows_of(from)?, &work.rows(), &work.context.terminal)?;
    Ok(tallied(&summary.tally))
}

fn deduplicated(work: &Work<'_>, from: &Path) -> Result<Value> {
    let summary = dedup::run(&work.settings()?, &rows_of(from)?, &work.rows(), &work.context.terminal)?;
    Ok(tallied(&summary.tally))
}

fn tallied(tally: &hearth_data::job::Tally) -> Value {
    let removed: Vec<String> =
        tally.removed.iter().map(|(name, reason)| format!("{name} {}", reason.rows)).take(4).collect();
    let mut shown = vec![format!("{} of {} rows stay", tally.rows_out, tally.rows_in)];
    shown.extend(removed);
    json!({ "rows_in": tally.rows_in, "rows_out": tally.rows_out, "bytes_out": tally.bytes_out, "shown": shown })
}

/// The files of rows that a stage of data wrote, or those that were given.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let sources = folder.join("sources.json");
    if sources.is_file() {
        return Ok(atomic::read_json(&sources)?);
    }
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder.join("rows"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-")))
        .collect();
    files.sort();
    Ok(files)
}

fn tokenizer(work: &Work<'_>, from: &Path) -> Result<Value> {
    let TokenizerSettings { vocab_size, pattern, min_frequency } = work.settings()?;
    let pattern = vocabulary::pattern(&pattern)?;
    let config = TrainConfig {
        vocab_size,
        pattern,
        min_frequency,
        max_token_length: None,
        nfc: false,
        special_tokens: CHATML_SPECIAL_TOKENS.map(String::from).to_vec(),
        threads: work.threads(),
    };
    let trained = train(Rows::new(files_of(from)?).into_texts(), &config, &work.context.terminal)?;
    vocabulary::write(&trained, work.folder)?;
    let shown = [format!("{} tokens", trained.vocab_size()), format!("{} merges", trained.merges().len())];
    Ok(json!({ "vocab_size": trained.vocab_size(), "bytes": trained.stats.num_bytes, "shown": shown }))
}

/// Which side of the split a row is on: by the hash of its text, so that equal texts are on one side.
fn validates(row: &Row, share: f64) -> bool {
    let (RowContent::Json(text) | RowContent::Plain(text)) = &row.content;
    // FNV-1a (Fowler, Noll & Vo), mixed once more.
    let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    (mixed as f64) < share * (1u64 << 53) as f64
}

/// Packs rows into `train` and `validation`.
fn pack_both(
    work: &Work<'_>,
    files: &[PathBuf],
    packer: &Packer,
    info: &ShardsInfo,
    (share, max_shard_bytes): (f64, u64),
) -> Result<[Manifest; 2]> {
    let one = |name: &str, wanted: bool| -> Result<Manifest> {
        let folder = work.folder.join(name);
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        let mut writer = ShardWriter::create(&folder, info.clone(), max_shard_bytes)?;
        let rows = Rows::new(files.to_vec())
            .filter(|row| row.as_ref().map_or(true, |row| validates(row, share) == wanted));
        let config = PackConfig { threads: work.threads(), skip_bad: false };
        let stats = pack(rows, packer, config, &mut writer, &work.context.terminal)?;
        for stats in stats {
            let sha256 = sha256_file(Path::new(&stats.name))?;
            let num_skipped = stats.num_empty + stats.num_bad;
            writer.add_source(Source {
                name: stats.name,
                sha256,
                num_documents: stats.num_documents,
                num_skipped,
            });
        }
        if writer.num_documents() == 0 {
            bail!("no row is left for {name}\nhint: more texts, or another `validation_share` than {share}");
        }
        Ok(writer.finish()?)
    };
    Ok([one("train", false)?, one("validation", true)?])
}

fn open_tokenizer(folder: &Path) -> Result<(Arc<Tokenizer>, String)> {
    let file = folder.join("tokenizer.json");
    Ok((Arc::new(Tokenizer::from_json(&fs_err::read(&file)?)?), sha256_file(&file)?))
}

fn packed(work: &Work<'_>, from: &Path, tokenizer: &Path) -> Result<Value> {
    let Pack { validation_share, max_shard_bytes } = work.settings()?;
    let (tokenizer, tokenizer_sha256) = open_tokenizer(tokenizer)?;
    let end_of_document = tokenizer.token_to_id(CHATML_SPECIAL_TOKENS[0]);
    let vocab_size = u32::try_from(tokenizer.vocab_size())?;
    let info = ShardsInfo { tokenizer_sha256, vocab_size, end_of_document, has_mask: false };
    let packer = Packer::Texts { tokenizer, end_of_document };
    let shares = (validation_share, max_shard_bytes);
    let [train, validation] = pack_both(work, &files_of(from)?, &packer, &info, shares)?;
    let shown = [
        format!("{} tokens of {} documents", train.num_tokens, train.num_documents),
        format!("{} to validate with", validation.num_tokens),
    ];
    Ok(json!({ "tokens": train.num_tokens, "validation_tokens": validation.num_tokens, "shown": shown }))
}

fn pretrained(work: &Work<'_>, pack: &Path, tokenizer: &Path) -> Result<Value> {
    let settings: Settings = work.settings()?;
    let settings = Settings {
        tokens: pack.join("train"),
        validation_tokens: pack.join("validation"),
        tokenizer: tokenizer.to_owned(),
        ..settings
    };
    trained(work, &settings, "pretrain")
}

fn trained(work: &Work<'_>, settings: &Settings, what: &str) -> Result<Value> {
    let settings = Settings { seed: work.seed, ..settings.clone() };
    let plan = Plan::new(work.context, &settings)?;
    let done = plan
        .run(work.context, work.folder, what, Resume::IfSame)
        .map_err(|error| pretraining::hinted(error, "the same command again"))?;
    let mut summary = done.summary;
    let figure = |name: &str| summary[name].as_f64().unwrap_or(f64::NAN);
    let shown = [
        format!("validation {:.3}", figure("validation_loss")),
        format!("{:.3} bits a byte", figure("bits_per_byte")),
        format!("{} steps, {:.0} tok/s", summary["steps"], figure("tokens_per_s")),
    ];
    summary["shown"] = json!(shown);
    Ok(summary)
}

fn fine_tuned(work: &Work<'_>, collected: &Path, base: &Path) -> Result<Value> {
    let settings: Value = work.settings()?;
    let share = settings["validation_share"].as_f64().context("`validation_share` isn't a number")?;
    let train: Settings = serde_json::from_value(settings["train"].clone())?;
    let base = base.join("model");
    let (tokenizer, tokenizer_sha256) = open_tokenizer(&base)?;
    let vocab_size = u32::try_from(tokenizer.vocab_size())?;
    let info = ShardsInfo { tokenizer_sha256, vocab_size, end_of_document: None, has_mask: true };
    let template = hearth_model::load::folder_template(&base)?;
    let packer = Packer::Conversations(Box::new(ChatFormat::new(tokenizer, template.as_deref())?));
    pack_both(work, &[collected.join(CHATS)], &packer, &info, (share, 256 << 20))?;
    let settings = Settings {
        tokens: work.folder.join("train"),
        validation_tokens: work.folder.join("validation"),
        model: Some(base),
        ..train
    };
    trained(work, &settings, "sft")
}

/// Asks the questions and counts answers that are right to the letter.
fn evaluated(work: &Work<'_>, collected: &Path, model: &Path) -> Result<Value> {
    let Evaluate { max_tokens, shown } = work.settings()?;
    let model = Model::open(&model.join("model"), &work.context.machine.pool)?;
    let mut kinds: std::collections::BTreeMap<String, (usize, usize)> = std::collections::BTreeMap::new();
    let (mut lines, mut records) = (Vec::new(), String::new());
    let text = fs_err::read_to_string(collected.join(QUESTIONS))?;
    for (number, line) in text.lines().enumerate() {
        let row: Value = serde_json::from_str(line).with_context(|| format!("question {}", number + 1))?;
        let field = |name: &str| {
            row[name].as_str().with_context(|| format!("question {} has no `{name}`", number + 1))
        };
        let (question, expected) = (field("question")?, field("answer")?);
        let conversation =
            Conversation { messages: vec![Message::new(Role::User, question)], ..Conversation::default() };
        let prompt = model.chat.prompt(&conversation)?;
        let stops = model.chat.stops();
        let ids = sample::greedy(&work.context.machine.pool, &model.decoder, &prompt, max_tokens, stops);
        let answer = model.tokenizer().decode(&ids);
        let right = answer.trim() == expected.trim();
        let kind = kinds.entry(row["kind"].as_str().unwrap_or("question").to_owned()).or_default();
        *kind = (kind.0 + usize::from(right), kind.1 + 1);
        let record = json!({ "question": question, "expected": expected, "answer": answer, "right": right });
        records.push_str(&record.to_string());
        records.push('\n');
        if lines.len() < shown {
            lines.push(format!("{} → {}", question.lines().next_back().unwrap_or_default(), answer.trim()));
        }
    }
    atomic::write(&work.folder.join("answers.jsonl"), records.as_bytes())?;
    for line in &lines {
        work.context.terminal.say(&format!("evaluate: {line}"));
    }
    let (right, all) = kinds.values().fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
    let mut figures = vec![format!("{right} of {all} answers right to the letter")];
    figures.extend(kinds.iter().map(|(kind, (right, all))| format!("{kind} {right}/{all}")));
    Ok(json!({ "right": right, "questions": all, "kinds": kinds, "shown": figures }))
}
