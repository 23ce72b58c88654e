//! Questions through all ways within the time budget; the report, and the winner as the assistant.
//!
//! The budget is divided as it goes: pairs may take a fifth, training three eighths of what is left then, and
//! the number of questions is what fits into the rest, judged by a first group of each way.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use hearth_artifacts::atomic;
use hearth_artifacts::progress::Progress;
use hearth_eval::compare::{Comparison, Fact, Preparation, Record, Setup, TrainingCurve, WayKind, compare};
use hearth_eval::question::Question;
use hearth_eval::report;
use hearth_knowledge::answer::{LongPrompt, long_prompt};

use super::announce::Announcer;
use super::grounding::{Documents, Learned, NUM_PASSAGES, RAG_TOKENS, Whole};
use super::questions::{self, Pairs, Sets};
use super::ways::{ADAPTER, Ways};
use super::{Job, finetune, knowledge_config};
use crate::commands::Context;

/// Questions of the first group, by which the rest is planned.
const PILOT: usize = 8;

/// How much time there is, and how much of it is left.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    budget: Duration,
}

impl Clock {
    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.start.elapsed())
    }
}

/// What the preparations took, and what must be said about them.
#[derive(Debug, Default)]
struct Ledger {
    pairs_seconds: f64,
    prompt_seconds: f64,
    training_seconds: f64,
    curve: Option<TrainingCurve>,
    notes: Vec<String>,
}

/// Runs or resumes the comparison and registers its winner.
pub(super) fn run(job: &Job<'_>) -> Result<Comparison> {
    let announcer = Announcer::new(&job.context.terminal, &job.state);
    let budget = Duration::from_secs_f64(job.args.time_budget * 60.0);
    let clock = Clock { start: job.started, budget };
    let mut ledger = Ledger::default();
    for skipped in &job.skipped {
        ledger.notes.push(format!("Not read: {skipped}"));
    }
    let pairs = job.run.once("pairs.json", || questions::make_pairs(job, &announcer, clock.left() / 5))?;
    ledger.pairs_seconds = pairs.seconds;
    let sets = job.run.once("questions.json", || questions::sets(job, &pairs))?;
    note_questions(&pairs, &sets, &mut ledger);
    let documents =
        Documents::new(Arc::clone(&job.base), Arc::clone(&job.embedder), Arc::clone(job.engine.model()));
    let long = long_prompt(job.base.documents(), job.args.long_prompt_tokens, &|text| documents.count(text));
    let ways = Ways { job, documents: &documents, long: &long };
    let (asked, records) = ask_all(&ways, &sets, clock, &announcer, &mut ledger)?;
    let comparison =
        compare(asked, &records, &preparations(job, &ledger, &long), setup(job, &sets, &long, &mut ledger))?;
    atomic::write_json(&job.run.path("report.json"), &comparison)?;
    report::write(&job.run.path("report.html"), &comparison)?;
    job.state.set_behind(None);
    job.state.set_report(job.run.path("report.html"));
    register_best(job, &comparison, documents, long)?;
    Ok(comparison)
}

fn note_questions(pairs: &Pairs, sets: &Sets, ledger: &mut Ledger) {
    if pairs.chunks_read < pairs.chunks {
        ledger.notes.push(format!(
            "The model wrote training pairs for {} of {} chunks; the time budget ended there.",
            pairs.chunks_read, pairs.chunks
        ));
    }
    if sets.generated {
        ledger.notes.push(
            "The questions are generated from the documents, not asked by people: each was kept because its answer's words stand in its source and the base model gives the same answer when it reads that passage alone."
                .into(),
        );
    }
    ledger.notes.push(format!(
        "{} pairs to learn from; {} left out because they are about a held-out question or its fact.",
        sets.training.len(),
        sets.excluded
    ));
}

/// All five ways over as many questions as the time allows.
fn ask_all(
    ways: &Ways<'_>,
    sets: &Sets,
    clock: Clock,
    progress: &dyn Progress,
    ledger: &mut Ledger,
) -> Result<(Vec<Question>, Vec<Record>)> {
    let job = ways.job;
    let training_time = clock.left() * 3 / 8;
    ledger.prompt_seconds = job.run.once("long-prompt.json", || ways.warm_long_prompt())?;
    let asked = plan(ways, sets, clock, training_time, progress, ledger)?;
    let mut records = Vec::new();
    for way in [WayKind::Base, WayKind::Prompt, WayKind::Rag] {
        records.extend(ways.run(way, &asked, progress)?);
    }
    match finetune::run(job, ways.documents, &sets.training, training_time, progress) {
        Ok((output, curve)) => {
            ledger.training_seconds = output.seconds;
            ledger.curve = Some(curve);
            if let Some(reason) = output.stopped_early {
                ledger.notes.push(format!("Training ended early: {reason}."));
            }
            let asked = trim(job, asked, &records, clock, ledger)?;
            for way in [WayKind::Finetune, WayKind::RagFinetune] {
                records.extend(ways.run(way, &asked, progress)?);
            }
            records.retain(|record| asked.iter().any(|question| question.id == record.question_id));
            Ok((asked, records))
        }
        Err(error) if progress.cancelled() => Err(error),
        Err(error) => {
            ledger.notes.push(format!("The fine-tuned ways could not be run: {error:#}."));
            Ok((asked, records))
        }
    }
}

/// Fewer questions if training took longer than planned: the fine-tuned ways cost what base and RAG cost.
fn trim(
    job: &Job<'_>,
    mut asked: Vec<Question>,
    records: &[Record],
    clock: Clock,
    ledger: &mut Ledger,
) -> Result<Vec<Question>> {
    let seconds = records.iter().filter(|record| record.way != WayKind::Prompt).map(|record| record.seconds);
    let each = seconds.sum::<f64>() / asked.len().max(1) as f64;
    let count = job.run.once("plan-finetuned.json", || {
        let fits = (clock.left().as_secs_f64() / each.max(1e-6)) as usize;
        Ok(fits.max(PILOT).min(asked.len()))
    })?;
    if count < asked.len() {
        ledger.notes.push(format!(
            "All ways are compared on {count} questions: after training there was no time for the other {}.",
            asked.len() - count
        ));
        asked.truncate(count);
    }
    Ok(asked)
}

/// Which questions are asked: the first group tells how many more fit.
fn plan(
    ways: &Ways<'_>,
    sets: &Sets,
    clock: Clock,
    training_time: Duration,
    progress: &dyn Progress,
    ledger: &mut Ledger,
) -> Result<Vec<Question>> {
    let pilot: Vec<Question> = sets.held_out.iter().take(PILOT).cloned().collect();
    let mut each = 0.0;
    for (way, times) in [(WayKind::Base, 2.0), (WayKind::Prompt, 1.0), (WayKind::Rag, 2.0)] {
        let records = ways.run(way, &pilot, progress)?;
        each +=
            times * records.iter().map(|record| record.seconds).sum::<f64>() / records.len().max(1) as f64;
    }
    let count = ways.job.run.once("plan.json", || {
        let time = clock.left().saturating_sub(training_time).as_secs_f64();
        // What the pilot answered needs no more time, except by the two fine-tuned ways.
        let fits = pilot.len() + (time / each.max(1e-6)) as usize;
        Ok(fits.clamp(pilot.len(), sets.held_out.len()))
    })?;
    if count < sets.held_out.len() {
        ledger.notes.push(format!(
            "{count} of {} questions were asked to keep within the time budget of {:.0} minutes.",
            sets.held_out.len(),
            clock.budget.as_secs_f64() / 60.0
        ));
    }
    Ok(sets.held_out.iter().take(count).cloned().collect())
}

fn preparations(job: &Job<'_>, ledger: &Ledger, long: &LongPrompt) -> Vec<Preparation> {
    let base = job.base_seconds;
    let tuning = ledger.pairs_seconds + ledger.training_seconds;
    let index = "read, cut and embed the documents";
    let train = "write training pairs and train the adapter";
    let row = |way, seconds, note: String| Preparation { way, seconds, note };
    vec![
        row(WayKind::Base, 0.0, "nothing".into()),
        row(WayKind::Prompt, ledger.prompt_seconds, format!("compute {} documents once", long.num_documents)),
        row(WayKind::Rag, base, index.into()),
        row(WayKind::Finetune, tuning, train.into()),
        row(WayKind::RagFinetune, base + tuning, format!("{index}; {train}")),
    ]
}

fn setup(job: &Job<'_>, sets: &Sets, long: &LongPrompt, ledger: &mut Ledger) -> Setup {
    if long.num_blocks_left_out > 0 {
        ledger.notes.push(format!(
            "The long prompt holds {} tokens of documents: {} of {} blocks ({} tokens) had no room.",
            job.args.long_prompt_tokens, long.num_blocks_left_out, long.num_blocks, long.num_tokens_left_out
        ));
    }
    let chunk = knowledge_config().chunk;
    Setup {
        name: job.name.clone(),
        documents: job.base.documents().len(),
        generated: sets.generated,
        model: job.local.name.clone(),
        embedder: job.embedder.short_name().into(),
        seed: job.args.seed,
        notes: std::mem::take(&mut ledger.notes),
        retrieval: vec![
            Fact::new(
                "passages",
                format!("{} of at most {} tokens", job.base.chunks().len(), chunk.max_tokens),
            ),
            Fact::new("method", "BM25 and embeddings, reciprocal rank fusion"),
            Fact::new("in the prompt", format!("{NUM_PASSAGES} passages, {RAG_TOKENS} tokens at most")),
        ],
        training: ledger.curve.take(),
        details: vec![
            Fact::new("model's sha256", job.local.sha256.clone()),
            Fact::new(
                "decoding",
                "greedy, eight questions together; an answer's seconds are its share of the group's",
            ),
        ],
        machine: machine(job.context),
        started: started(job),
        seconds: job.started.elapsed().as_secs_f64(),
    }
}

fn machine(context: &Context) -> String {
    let threads = context.machine.pool.threads();
    format!(
        "{} {}, {threads} threads, {:?}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        hearth_kernels::cpu::level()
    )
}

/// Seconds since 1970 when the run began, for people who keep several reports.
fn started(job: &Job<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.saturating_sub(job.started.elapsed()).as_secs();
    date(seconds)
}

/// `YYYY-MM-DD HH:MM UTC` (civil-from-days, Hinnant 2021).
fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The winner answers from now on under the assistant's name.
fn register_best(
    job: &Job<'_>,
    comparison: &Comparison,
    documents: Documents,
    long: LongPrompt,
) -> Result<()> {
    let best = comparison.best;
    let adapter = matches!(best, WayKind::Finetune | WayKind::RagFinetune).then(|| ADAPTER.to_owned());
    let grounding: Arc<dyn hearth_serve::Grounding> = match best {
        WayKind::Rag | WayKind::RagFinetune => Arc::new(documents),
        WayKind::Prompt => Arc::new(Whole { prompt: long, base: Arc::clone(&job.base) }),
        WayKind::Base | WayKind::Finetune => Arc::new(Learned),
    };
    let description =
        format!("the best of five ways on {} questions: {}", comparison.questions, best.title());
    job.register(grounding, adapter, &description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_392_000), "2026-11-23 00:00 UTC");
    }
}
