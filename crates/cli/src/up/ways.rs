//! The five ways: what each asks the model, and what came back.
//!
//! Questions go to the engine eight at a time, as a small team would use it; an answer's seconds are its share of
//! the group's time. Each finished group is on the disk before the next begins.

use std::time::Instant;

use anyhow::{Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_engine::{Completion, Error, Request, Stream};
use hearth_eval::compare::{CitationRecord, Record, WayKind};
use hearth_eval::question::Question;
use hearth_knowledge::answer::LongPrompt;
use hearth_knowledge::chunk::ChunkId;
use hearth_knowledge::cite;
use hearth_tokenizer::{Conversation, Message};

use super::grounding::{Documents, RAG_TOKENS};
use super::{Job, MAX_ANSWER_TOKENS};

/// What the model is told when it has no documents before it, in training as in answering.
pub(super) const PLAIN_SYSTEM: &str =
    "Answer the question briefly, in its own language: give the fact itself, without explanation.";

/// Questions asked together.
const TOGETHER: usize = 8;

/// The name under which the engine knows the trained adapter.
pub(super) const ADAPTER: &str = "finetuned";

/// What the ways need.
pub(super) struct Ways<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) documents: &'a Documents,
    pub(super) long: &'a LongPrompt,
}

/// A question on its way to the engine.
struct Asked {
    conversation: Conversation,
    chunks: Vec<ChunkId>,
    cut: Option<String>,
}

impl Ways<'_> {
    /// Answers `questions` by one way; those answered in an earlier sitting are read back.
    pub(super) fn run(
        &self,
        way: WayKind,
        questions: &[Question],
        progress: &dyn Progress,
    ) -> Result<Vec<Record>> {
        let file = format!("answers-{}.jsonl", way.name().replace('+', "-"));
        let mut records: Vec<Record> = self.job.run.lines(&file)?;
        records.retain(|record| questions.iter().any(|question| question.id == record.question_id));
        let missing: Vec<&Question> =
            questions.iter().filter(|q| !records.iter().any(|record| record.question_id == q.id)).collect();
        let stage = way.title();
        progress.event(Event::Start { stage, total: Some(questions.len() as u64), unit: Unit::Items });
        for group in missing.chunks(TOGETHER) {
            if progress.cancelled() {
                bail!("stopped while comparing; run the same command again to go on");
            }
            let answered = self.group(way, group)?;
            self.job.run.append(&file, &answered)?;
            records.extend(answered);
            progress.event(Event::Advance { stage, done: records.len() as u64 });
        }
        // In the order of the questions, whatever sitting they were answered in.
        records.sort_by_key(|record| questions.iter().position(|question| question.id == record.question_id));
        progress.event(Event::Finish { stage, summary: &format!("{} answers", records.len()) });
        Ok(records)
    }

    fn group(&self, way: WayKind, questions: &[&Question]) -> Result<Vec<Record>> {
        let start = Instant::now();
        let mut under_way = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = self.ask(way, &question.question)?;
            let stream = self.submit(way, &asked.conversation)?;
            under_way.push((question, asked, stream));
        }
        let answers: Vec<_> = under_way
            .into_iter()
            .map(|(question, asked, stream)| (question, asked, stream.and_then(Stream::collect)))
            .collect();
        let seconds = start.elapsed().as_secs_f64() / questions.len() as f64;
        Ok(answers
            .into_iter()
            .map(|(question, asked, answer)| self.record(way, question, asked, answer, seconds))
            .collect())
    }

    fn ask(&self, way: WayKind, question: &str) -> Result<Asked> {
        let (system, user, chunks, cut) = match way {
            WayKind::Base | WayKind::Finetune => {
                (PLAIN_SYSTEM.to_owned(), question.to_owned(), Vec::new(), None)
            }
            WayKind::Prompt => {
                let long = self.long;
                let (left_out, blocks) = (long.num_blocks_left_out, long.num_blocks);
                let cut = (left_out > 0)
                    .then(|| format!("{left_out} of {blocks} blocks of the documents had no room"));
                (long.system.clone(), long.user(question), Vec::new(), cut)
            }
            WayKind::Rag | WayKind::RagFinetune => {
                let (prompt, chunks) =
                    self.documents.retrieve(question, RAG_TOKENS).map_err(anyhow::Error::msg)?;
                let cut = (prompt.num_left_out > 0)
                    .then(|| format!("{} found passages had no room", prompt.num_left_out));
                (prompt.system, prompt.user, chunks, cut)
            }
        };
        let messages = vec![Message::system(system), Message::user(user)];
        Ok(Asked { conversation: Conversation { messages, ..Conversation::default() }, chunks, cut })
    }

    fn submit(&self, way: WayKind, conversation: &Conversation) -> Result<Result<Stream, Error>> {
        let chat = &self.job.engine.model().chat;
        let mut request =
            Request::greedy(chat.prompt(conversation)?, MAX_ANSWER_TOKENS, chat.stops().to_vec());
        request.stop = chat.stop_texts().iter().map(|&stop| stop.to_owned()).collect();
        request.adapter = matches!(way, WayKind::Finetune | WayKind::RagFinetune).then(|| ADAPTER.to_owned());
        Ok(self.job.engine.submit(request))
    }

    fn record(
        &self,
        way: WayKind,
        question: &Question,
        asked: Asked,
        answer: Result<Completion, Error>,
        seconds: f64,
    ) -> Record {
        let mut record = Record {
            question_id: question.id.clone(),
            way,
            answer: String::new(),
            citations: Vec::new(),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            seconds,
            cut: asked.cut,
            error: None,
        };
        match answer {
            Err(error) => record.error = Some(error.to_string()),
            Ok(answer) => {
                record.citations =
                    self.documents.cite(&answer.text, &asked.chunks).into_iter().map(citation).collect();
                cite::strip_marks(&answer.text).trim().clone_into(&mut record.answer);
                record.prompt_tokens = answer.usage.prompt_tokens;
                record.cached_tokens = answer.usage.cached_tokens;
                record.completion_tokens = answer.usage.completion_tokens;
            }
        }
        record
    }

    /// Computes the long prompt's documents once, so that every question finds them in the prefix cache.
    pub(super) fn warm_long_prompt(&self) -> Result<f64> {
        let start = Instant::now();
        let messages = vec![Message::system(&self.long.system), Message::user(&self.long.prefix)];
        let conversation = Conversation { messages, ..Conversation::default() };
        let chat = &self.job.engine.model().chat;
        let request = Request::greedy(chat.prompt(&conversation)?, 1, Vec::new());
        self.job.engine.generate(request)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn citation(found: cite::Citation) -> CitationRecord {
    CitationRecord {
        document: found.path,
        page: found.page,
        heading: found.heading,
        quote: found.quote,
        chunk: found.chunk.0.to_string(),
    }
}
