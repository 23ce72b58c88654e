//! Token shards: what packing writes once and training reads many times, mapped into memory.
//!
//! A folder holds `shards.json` and files `00000.tok`, `00001.tok`, … whose layout is in `file.rs`. Ids take two bytes
//! where the vocabulary fits into them, else four. Each document keeps its boundaries, its origin (so that "was this
//! text in the training data?" has an answer) and, for conversations, a bit a token that says whether it is learned.
//! [`ShardWriter`] makes a folder whole or not at all, [`TokenShards`] reads one, [`packing`] deals documents into rows.
//! What the ids mean is left to the tokenizer whose hash stands in `shards.json`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, atomic, hash};

mod file;
pub mod packing;
mod writer;

use file::ShardFile;
pub use writer::ShardWriter;

/// The version of folder and files; others are refused.
pub const FORMAT: u32 = 1;
pub const MANIFEST: &str = "shards.json";

/// What is known before the first document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardsInfo {
    /// sha256 of the tokenizer's file.
    pub tokenizer_sha256: String,
    pub vocab_size: u32,
    /// The id that ends each document, if one does; it is part of the documents' ids.
    pub end_of_document: Option<u32>,
    /// Whether each token has a bit that says if it is learned.
    pub has_mask: bool,
}

/// A file that documents came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub sha256: String,
    pub num_documents: u64,
    /// Rows that gave no document, such as empty ones.
    #[serde(default)]
    pub num_skipped: u64,
}

/// `shards.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub tokenizer_sha256: String,
    pub vocab_size: u32,
    pub end_of_document: Option<u32>,
    pub has_mask: bool,
    pub num_documents: u64,
    pub num_tokens: u64,
    /// Tokens that are learned: all of them where there is no mask.
    pub num_learned: u64,
    pub sources: Vec<Source>,
    pub shards: Vec<ShardEntry>,
}

/// One file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    pub file: String,
    pub num_documents: u64,
    pub num_tokens: u64,
    pub num_bytes: u64,
    pub sha256: String,
}

/// A folder of token shards, open for reading. Nothing is loaded: pages are read when touched.
#[derive(Debug)]
pub struct TokenShards {
    folder: PathBuf,
    manifest: Manifest,
    shards: Vec<ShardFile>,
    /// The first document of each shard, and behind the last one the number of all.
    first_document: Vec<u64>,
}

/// One document of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    shard: &'a ShardFile,
    index: u64,
    start: u64,
    len: u32,
}

impl TokenShards {
    /// Opens a folder and checks each file's size and layout, not its content (see [`Self::verify`]).
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let version: Version = atomic::read_json(&path)?;
        if version.format != FORMAT {
            return Err(Error::ShardFormat { path, found: version.format, expected: FORMAT });
        }
        let manifest: Manifest = atomic::read_json(&path)?;
        let mut shards = Vec::with_capacity(manifest.shards.len());
        let mut first_document = vec![0];
        let (mut num_documents, mut num_tokens) = (0_u64, 0_u64);
        for entry in &manifest.shards {
            let shard = ShardFile::open(&folder.join(&entry.file), entry, &manifest)?;
            num_documents = num_documents.saturating_add(entry.num_documents);
            num_tokens = num_tokens.saturating_add(entry.num_tokens);
            first_document.push(num_documents);
            shards.push(shard);
        }
        if (num_documents, num_tokens) != (manifest.num_documents, manifest.num_tokens) {
            let reason = format!(
                "its shards hold `{num_documents}` documents and `{num_tokens}` tokens, \
                 but it says `{}` and `{}`",
                manifest.num_documents, manifest.num_tokens
            );
            return Err(Error::ShardDamaged { path, reason });
        }
        Ok(Self { folder: folder.into(), manifest, shards, first_document })
    }

    /// Reads all of it: each file's sha256, and that all ids lie in the vocabulary.
    pub fn verify(&self) -> Result<()> {
        for (entry, shard) in self.manifest.shards.iter().zip(&self.shards) {
            let path = self.folder.join(&entry.file);
            let found = hash::sha256_file(&path)?;
            if found != entry.sha256 {
                let reason = format!("its sha256 is `{found}`, but shards.json says `{}`", entry.sha256);
                return Err(Error::ShardDamaged { path, reason });
            }
            shard.verify()?;
        }
        Ok(())
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn num_documents(&self) -> u64 {
        self.manifest.num_documents
    }

    pub fn num_tokens(&self) -> u64 {
        self.manifest.num_tokens
    }

    /// A document by its place in the order in which they were written.
    ///
    /// # Panics
    /// If there are fewer documents.
    pub fn document(&self, index: u64) -> Result<Document<'_>> {
        assert!(index < self.num_documents(), "document {index} of {}", self.num_documents());
        let shard_index = self.first_document.partition_point(|first| *first <= index) - 1;
        self.shards[shard_index].document(index - self.first_document[shard_index])
    }

    /// Where a document came from: source file and row, as they were given to the writer.
    pub fn origin(&self, index: u64) -> Result<&str> {
        self.document(index)?.origin()
    }

    /// The number of tokens of each document, in order.
    pub fn lengths(&self) -> Result<Vec<u32>> {
        let mut lengths = Vec::with_capacity(self.num_documents() as usize);
        for shard in &self.shards {
            shard.lengths_into(&mut lengths)?;
        }
        Ok(lengths)
    }

    /// The documents that hold `ids` somewhere, at most `limit` of them: one pass over all tokens.
    pub fn find(&self, ids: &[u32], limit: usize) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for (shard, first) in self.shards.iter().zip(&self.first_document) {
            if found.len() < limit {
                shard.find(ids, limit - found.len(), |document| found.push(first + document))?;
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl<'a> Document<'a> {
    /// The number of tokens.
    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends all ids to `out`.
    pub fn ids_into(&self, out: &mut Vec<u32>) -> Result<()> {
        self.ids_of(0..self.len, out)
    }

    /// Appends the ids of a part of the document to `out`.
    ///
    /// # Panics
    /// If the part reaches beyond the document.
    pub fn ids_of(&self, part: Range<u32>, out: &mut Vec<u32>) -> Result<()> {
        self.shard.ids_into(self.tokens(part), out)
    }

    /// Appends to `out` whether each token of a part is learned; all are where the shards have no mask.
    ///
    /// # Panics
    /// If the part reaches beyond the document.
    pub fn mask_of(&self, part: Range<u32>, out: &mut Vec<bool>) {
        self.shard.mask_into(self.tokens(part), out);
    }

    /// Source file and row.
    pub fn origin(&self) -> Result<&'a str> {
        self.shard.origin(self.index)
    }

    fn tokens(&self, part: Range<u32>) -> Range<u64> {
        assert!(
            part.start <= part.end && part.end <= self.len,
            "tokens {part:?} of a document of {}",
            self.len
        );
        self.start + u64::from(part.start)..self.start + u64::from(part.end)
    }
}

#[cfg(test)]
mod tests;
