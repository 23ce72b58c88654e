//! Answers from documents: retrieval, or as many documents in the prompt as fit.

use std::sync::Arc;

use hearth_knowledge::answer::{self, LongPrompt, Prompt};
use hearth_knowledge::chunk::{Chunk, ChunkId};
use hearth_knowledge::cite;
use hearth_knowledge::knowledge_base::{Hit, KnowledgeBase, Method};
use hearth_model::Model;
use hearth_serve::{Citation, DocumentSummary, Grounded, Grounding, Passage, Passages};
use hearth_tokenizer::{Conversation, Message, Role};

use crate::models::TextEmbedder;

/// Passages put before a question.
pub(super) const NUM_PASSAGES: usize = 3;
/// Tokens of a prompt with passages at most.
pub(super) const RAG_TOKENS: usize = 1024;
/// Earlier messages that stay in a conversation.
const HISTORY: usize = 4;

/// A knowledge base with what it takes to ask it.
#[derive(Debug)]
pub(super) struct Documents {
    base: Arc<KnowledgeBase>,
    embedder: Arc<TextEmbedder>,
    model: Arc<Model>,
}

impl Documents {
    pub(super) fn new(base: Arc<KnowledgeBase>, embedder: Arc<TextEmbedder>, model: Arc<Model>) -> Self {
        Self { base, embedder, model }
    }

    pub(super) fn count(&self, text: &str) -> usize {
        self.model.tokenizer().encode(text).len()
    }

    /// The prompt for a question and the chunks in it, in the order of their numbers.
    pub(super) fn retrieve(
        &self,
        question: &str,
        max_tokens: usize,
    ) -> Result<(Prompt, Vec<ChunkId>), String> {
        let hits = self
            .base
            .search(question, Method::Hybrid, NUM_PASSAGES, self.embedder.as_ref())
            .map_err(|error| error.to_string())?;
        let prompt =
            answer::rag_prompt(question, &hits, max_tokens.min(RAG_TOKENS), &|text| self.count(text));
        let used = prompt.used.iter().map(|&index| hits[index].chunk.id).collect();
        Ok((prompt, used))
    }

    /// The prompt for a question with this one chunk before it.
    pub(super) fn with_chunk(&self, question: &str, chunk: ChunkId) -> Prompt {
        answer::rag_prompt(question, &hits(&self.base, &[chunk]), RAG_TOKENS, &|text| self.count(text))
    }

    /// Citations of an answer that had these chunks before it.
    pub(super) fn cite(&self, answer: &str, chunks: &[ChunkId]) -> Vec<cite::Citation> {
        cite::cite(answer, &hits(&self.base, chunks))
    }
}

/// Chunks as the hits they were.
fn hits<'a>(base: &'a KnowledgeBase, chunks: &[ChunkId]) -> Vec<Hit<'a>> {
    let found = chunks.iter().filter_map(|&id| {
        let chunk = base.chunk(id)?;
        Some((chunk, base.document(chunk.document)?))
    });
    found.enumerate().map(|(index, (chunk, document))| Hit::of(index + 1, chunk, document)).collect()
}

fn last_question(conversation: &Conversation) -> Result<&str, String> {
    let last = conversation.messages.iter().rev().find(|message| message.role == Role::User);
    last.map(|message| message.content.as_str())
        .ok_or_else(|| "the conversation has no question of the user's".into())
}

/// The system message, what was said before, and the question in its new form.
pub(crate) fn with_history(conversation: &Conversation, system: String, user: String) -> Conversation {
    let said: Vec<&Message> =
        conversation.messages.iter().filter(|message| message.role != Role::System).collect();
    let before = &said[..said.len().saturating_sub(1)];
    let mut messages = vec![Message::system(system)];
    messages.extend(before[before.len().saturating_sub(HISTORY)..].iter().map(|&message| message.clone()));
    messages.push(Message::user(user));
    Conversation { messages, ..Conversation::default() }
}

fn citations(base: &KnowledgeBase, answer: &str, chunks: &[ChunkId]) -> Vec<Citation> {
    cited(answer, &hits(base, chunks))
}

/// The citations of an answer as the server shows them; `hits` are the passages in the order of their numbers.
pub(crate) fn cited(answer: &str, hits: &[Hit<'_>]) -> Vec<Citation> {
    let end = answer.chars().count();
    cite::cite(answer, hits)
        .into_iter()
        .map(|citation| Citation {
            index: citation.index,
            document: citation.path,
            title: citation.title,
            page: citation.page,
            heading: citation.heading,
            chunk: citation.chunk.0.to_string(),
            quote: citation.quote,
            marks: if citation.marked { Vec::new() } else { vec![end] },
        })
        .collect()
}

impl Grounding for Documents {
    fn ground(&self, conversation: &Conversation, max_prompt_tokens: usize) -> Result<Grounded, String> {
        let (prompt, chunks) = self.retrieve(last_question(conversation)?, max_prompt_tokens)?;
        let base = Arc::clone(&self.base);
        Ok(Grounded {
            conversation: with_history(conversation, prompt.system, prompt.user),
            cite: Box::new(move |answer| citations(&base, answer, &chunks)),
        })
    }
}

/// Every question behind the same documents.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) prompt: LongPrompt,
    pub(super) base: Arc<KnowledgeBase>,
}

impl Grounding for Whole {
    fn ground(&self, conversation: &Conversation, _max_prompt_tokens: usize) -> Result<Grounded, String> {
        let user = self.prompt.user(last_question(conversation)?);
        let base = Arc::clone(&self.base);
        let chunks: Vec<ChunkId> = base.chunks().iter().map(|chunk| chunk.id).collect();
        let conversation = with_history(conversation, self.prompt.system.clone(), user);
        Ok(Grounded { conversation, cite: Box::new(move |answer| citations(&base, answer, &chunks)) })
    }
}

/// No documents: what the model has learned.
#[derive(Debug)]
pub(super) struct Learned;

impl Grounding for Learned {
    fn ground(&self, conversation: &Conversation, _max_prompt_tokens: usize) -> Result<Grounded, String> {
        let question = last_question(conversation)?.to_owned();
        let conversation = with_history(conversation, super::ways::PLAIN_SYSTEM.into(), question);
        Ok(Grounded { conversation, cite: Box::new(|_| Vec::new()) })
    }
}

impl Passages for Documents {
    fn passage(&self, id: &str) -> Option<Passage> {
        let id = ChunkId(id.parse().ok()?);
        let chunk = self.base.chunk(id)?;
        let document = self.base.document(chunk.document)?;
        let neighbour = |id: Option<u32>| {
            let chunk = self.base.chunk(ChunkId(id?))?;
            (chunk.document == document.id).then(|| chunk.id.0.to_string())
        };
        Some(Passage {
            id: id.0.to_string(),
            document: document.path.clone(),
            title: document.title.clone(),
            page: chunk.page,
            heading: chunk.headings.last().cloned(),
            text: chunk.text.clone(),
            previous: neighbour(id.0.checked_sub(1)),
            next: neighbour(id.0.checked_add(1)),
        })
    }

    fn documents(&self) -> Vec<DocumentSummary> {
        let num_passages =
            |id| self.base.chunks().iter().filter(|chunk: &&Chunk| chunk.document == id).count();
        let documents = self.base.documents().iter();
        documents
            .map(|document| DocumentSummary {
                document: document.path.clone(),
                title: document.title.clone(),
                num_passages: num_passages(document.id),
            })
            .collect()
    }
}
