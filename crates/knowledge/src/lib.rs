//! Documents to chunks to indexes to cited answers.
//!
//! In the order the data flows:
//! * [`document`] — what extraction gives: blocks of text with kind and page
//! * [`picture`] — what is asked of a reader of pictures
//! * [`extract`] — one file of a known type → a document
//! * [`folder`] — a folder → a corpus, and what was left out
//! * [`words`], [`sentences`] — the parts of English and Chinese text
//! * [`chunk`] — documents → pieces that can be found and quoted
//! * [`embed`] — what is asked of an embedder
//! * [`bm25`], [`vector`] — the two indexes
//! * [`filter`] — which documents a search looks at
//! * [`knowledge_base`] — build, keep, change, open, search
//! * [`ingest`] — files and folders into a base, only what changed
//! * [`retrieve`] — a question to the passages of its answer, stage by stage
//! * [`rephrase`], [`evidence`] — what a model is asked before a search, and whether what was found can answer
//! * [`questions`], [`pairs`], [`facts`] — questions from a file, from a chat model, by rule; held out without leaks
//! * [`untrusted`] — what retrieved text may not say to a model
//! * [`answer`], [`cite`] — prompts over passages or documents, and citations that are checked

pub mod document;
pub mod picture;
pub mod extract;
pub mod folder;
pub mod words;

pub mod sentences;

pub mod chunk;
pub mod embed;

pub mod bm25;
pub mod filter;
pub mod vector;

pub mod ingest;
pub mod knowledge_base;

pub mod evidence;
pub mod rephrase;
pub mod retrieve;

pub mod facts;
pub mod pairs;
pub mod questions;

pub mod untrusted;

pub mod answer;
pub mod cite;

mod error;
mod store;
mod top_k;

pub use error::{Error, ExtractError, Result};
pub use top_k::Keep;
