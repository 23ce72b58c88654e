//! What serve asks of documents and embedders. The knowledge base itself lives elsewhere.
//!
//! Every call may take a while and is made from a thread that may block. An `Err` is a sentence for the user.

use std::fmt;

use hearth_tokenizer::Conversation;
use serde::Serialize;

/// Answers that lean on documents.
pub trait Grounding: Send + Sync {
    /// Finds passages for the conversation's last question and puts them into what the model is asked.
    /// The prompt made of the result should hold at most `max_prompt_tokens`.
    fn ground(&self, conversation: &Conversation, max_prompt_tokens: usize) -> Result<Grounded, String>;
}

/// Finds what an answer quotes.
pub type Cite = Box<dyn Fn(&str) -> Vec<Citation> + Send>;

/// A conversation with passages in it.
pub struct Grounded {
    /// What the model is asked.
    pub conversation: Conversation,
    /// Given the whole answer, what it cites: only passages in which the quoted words occur.
    pub cite: Cite,
}

/// A place in a document that an answer leans on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// The number in brackets, from 1.
    pub index: usize,
    /// The document's path in the folder.
    pub document: String,
    pub title: String,
    pub page: Option<u32>,
    pub heading: Option<String>,
    /// For [`Passages::passage`].
    pub chunk: String,
    /// Words of the passage, exactly as they stand there.
    pub quote: String,
    /// Where in the answer the number belongs if the answer doesn't hold it itself: behind so many Unicode characters.
    pub marks: Vec<usize>,
}

/// Documents to look into.
pub trait Passages: Send + Sync {
    fn passage(&self, id: &str) -> Option<Passage>;

    /// In the order of their paths.
    fn documents(&self) -> Vec<DocumentSummary>;
}

/// A chunk of a document, and its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    pub id: String,
    pub document: String,
    pub title: String,
    pub page: Option<u32>,
    pub heading: Option<String>,
    pub text: String,
    /// Id of the passage before it in the same document.
    pub previous: Option<String>,
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentSummary {
    pub document: String,
    pub title: String,
    pub num_passages: usize,
}

/// Texts to vectors, for `/v1/embeddings`.
pub trait Embedding: Send + Sync {
    fn name(&self) -> &str;

    fn embed(&self, texts: &[&str], input_type: InputType) -> Result<Embedded, String>;
}

/// Some embedders read questions and passages differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    Query,
    Passage,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, all of one length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens the model saw.
    pub num_tokens: usize,
}

impl fmt::Debug for Grounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grounded").field("conversation", &self.conversation).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Grounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dyn Grounding")
    }
}

impl fmt::Debug for dyn Passages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dyn Passages")
    }
}

impl fmt::Debug for dyn Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({})", self.name())
    }
}
