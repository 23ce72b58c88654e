//! A knowledge base: kept in a folder, changed a document at a time, searched by words, by meaning, or both.
//!
//! In memory stand the documents, the chunks and both indexes; the file behind them (`store`) is the truth. Another
//! process may change it: [`KnowledgeBase::refresh`] takes over what is new.

mod search;
mod update;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hearth_artifacts::hash::sha256;
use serde::{Deserialize, Serialize};

pub(crate) use self::search::{CANDIDATES, Candidates, fuse, weigh};
pub use self::search::{Fusion, Hit, Method, Query};
pub use self::update::{Changes, FileState, Writer};
use crate::bm25::{Bm25Index, WordCounts};
use crate::chunk::{Chunk, ChunkConfig, ChunkId};
use crate::document::{Corpus, Document, DocumentId};
use crate::embed::Embedder;
use crate::error::{Error, Result};
use crate::store::{ChunkRow, DocumentRow, FORMAT_VERSION, Store};
use crate::vector::VectorIndex;

/// Names and values that a search can ask for.
pub type Metadata = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub chunk: ChunkConfig,
    /// Passages embedded, and kept, at once.
    pub embed_batch: usize,
}

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file it was read from; several documents may share one.
    pub file: String,
    /// sha256 of what was read.
    pub hash: String,
    pub metadata: Metadata,
}

#[derive(Debug)]
pub struct KnowledgeBase {
    folder: PathBuf,
    store: Mutex<Store>,
    /// Rising ids, as in `origins` and `chunks`.
    documents: Vec<Document>,
    origins: Vec<Origin>,
    chunks: Vec<Chunk>,
    /// By chunk id: its document's id.
    owners: Vec<DocumentId>,
    bm25: Bm25Index,
    vectors: VectorIndex,
    config: Config,
    embedder: Option<String>,
    embedder_source: String,
    generation: String,
    epoch: String,
}

impl KnowledgeBase {
    /// Makes an empty base under `folder`. Without an embedder it is searched by words alone.
    pub fn create(folder: &Path, config: &Config, embedder: Option<&dyn Embedder>) -> Result<Self> {
        Self::check_free(folder)?;
        let mut store = Store::open_or_create(folder)?;
        store.transaction(|writing| {
            for (name, value) in settings(config, embedder) {
                writing.set(name, &value)?;
            }
            writing.next_generation()
        })?;
        Self::open(folder)
    }

    fn check_free(folder: &Path) -> Result<()> {
        match Store::open(folder) {
            Err(Error::Missing { .. }) => Ok(()),
            Ok(_) => Err(Error::Exists { path: folder.into() }),
            Err(error) => Err(error),
        }
    }

    /// Opens the base under `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let store = Store::open(folder)?;
        let mut base = store.snapshot(|| {
            let setting = |name: &str| {
                let value = store.setting(name)?;
                value.ok_or_else(|| store.damaged(format!("setting `{name}` is missing")))
            };
            let dim = setting("dim")?.parse().map_err(|_| store.damaged("setting `dim` is no number"))?;
            let config = serde_json::from_str(&setting("config")?).map_err(|error| store.damaged(error))?;
            let mut base = Self {
                folder: folder.into(),
                // Replaced below by the connection that is in use here.
                store: Mutex::new(Store::open(folder)?),
                documents: Vec::new(),
                origins: Vec::new(),
                chunks: Vec::new(),
                owners: Vec::new(),
                bm25: Bm25Index::new(),
                vectors: VectorIndex::new(dim),
                config,
                embedder: Some(setting("embedder")?).filter(|name| !name.is_empty()),
                embedder_source: setting("embedder_source")?,
                generation: setting("generation")?,
                epoch: setting("epoch")?,
            };
            base.load(&store)?;
            Ok(base)
        })?;
        base.store = Mutex::new(store);
        Ok(base)
    }

    /// True if another process has changed the base since.
    pub fn is_stale(&self) -> Result<bool> {
        Ok(self.store().setting("generation")?.unwrap_or_default() != self.generation)
    }

    /// Takes over what another process changed. True if anything did.
    pub fn refresh(&mut self) -> Result<bool> {
        let store = self.store();
        let generation = store.setting("generation")?.unwrap_or_default();
        if generation == self.generation {
            return Ok(false);
        }
        if store.setting("epoch")?.unwrap_or_default() != self.epoch {
            drop(store);
            *self = Self::open(&self.folder)?;
            return Ok(true);
        }
        drop(store);
        let store = Store::open(&self.folder)?;
        store.snapshot(|| {
            let now = store.document_ids()?;
            let gone = self.documents.iter().map(|document| document.id);
            let gone: Vec<DocumentId> = gone.filter(|id| now.binary_search(id).is_err()).collect();
            self.forget(&gone);
            self.load(&store)
        })?;
        self.generation = generation;
        Ok(true)
    }

    /// Puts every row behind the last known one into memory.
    fn load(&mut self, store: &Store) -> Result<()> {
        let from = self.documents.last().map_or(0, |document| document.id.0 + 1);
        store.each_document(from, |row| {
            let DocumentRow { document, file, hash, metadata } = row;
            self.documents.push(document);
            self.origins.push(Origin { file, hash, metadata });
        })?;
        let embedder = self.embedder.clone().unwrap_or_default();
        let from = self.chunks.last().map_or(0, |chunk| chunk.id.0 + 1);
        let Self { chunks, owners, vectors, bm25, .. } = self;
        let mut without = 0;
        store.each_chunk(from, &embedder, bm25, |ChunkRow { chunk, vector }| {
            match vector.filter(|vector| vector.len() == vectors.dim()) {
                Some(vector) => vectors.push(chunk.id.0, &vector),
                None => without += usize::from(vectors.dim() > 0),
            }
            own(owners, &chunk);
            chunks.push(chunk);
        })?;
        match without {
            0 => Ok(()),
            _ => Err(store.damaged(format!("the vectors of {without} chunks are missing"))),
        }
    }

    /// Takes documents with their chunks out of memory.
    fn forget(&mut self, gone: &[DocumentId]) {
        if gone.is_empty() {
            return;
        }
        let is_gone = |id: DocumentId| gone.binary_search(&id).is_ok();
        for chunk in self.chunks.iter().filter(|chunk| is_gone(chunk.document)) {
            let title = self.document(chunk.document).map_or("", |document| &document.title);
            let words = WordCounts::of(&chunk.passage(title));
            self.bm25.remove(chunk.id.0, &words);
            self.vectors.remove(chunk.id.0);
        }
        self.chunks.retain(|chunk| !is_gone(chunk.document));
        let mut kept = self.documents.iter().map(|document| !is_gone(document.id));
        self.origins.retain(|_| kept.next().unwrap_or(true));
        self.documents.retain(|document| !is_gone(document.id));
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// True if building again from these would give this base.
    pub fn is_current(&self, corpus: &Corpus, config: &Config, embedder: &str) -> bool {
        // How many are embedded at once changes nothing in the result.
        self.config.chunk == config.chunk
            && self.embedder.as_deref() == Some(embedder)
            && self.documents.len() == corpus.documents.len()
            && self
                .origins
                .iter()
                .zip(&corpus.documents)
                .all(|(origin, document)| origin.hash == hash(document))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    pub fn document(&self, id: DocumentId) -> Option<&Document> {
        let at = self.documents.binary_search_by_key(&id, |document| document.id).ok()?;
        self.documents.get(at)
    }

    pub fn origin(&self, id: DocumentId) -> Option<&Origin> {
        let at = self.documents.binary_search_by_key(&id, |document| document.id).ok()?;
        self.origins.get(at)
    }

    pub fn chunk(&self, id: ChunkId) -> Option<&Chunk> {
        let at = self.chunks.binary_search_by_key(&id, |chunk| chunk.id).ok()?;
        self.chunks.get(at)
    }

    /// The name of the embedder whose vectors this base holds; none if it is searched by words alone.
    pub fn embedder(&self) -> Option<&str> {
        self.embedder.as_deref()
    }

    /// What that embedder was opened by: the name or path that its user gave.
    pub fn embedder_source(&self) -> Option<&str> {
        self.embedder.as_ref().map(|_| self.embedder_source.as_str())
    }

    /// The files that were read, also those that gave no document.
    pub fn files(&self) -> Result<Vec<FileState>> {
        Ok(self.store().files()?.into_iter().map(FileState::from).collect())
    }

    /// Writes the base into one file: documents, chunks, vectors, settings.
    pub fn export(&self, to: &Path) -> Result<()> {
        if to.exists() {
            return Err(Error::Exists { path: to.into() });
        }
        self.store().copy_to(to)
    }

    /// Makes a base under `folder` from the file that [`KnowledgeBase::export`] wrote.
    pub fn import(file: &Path, folder: &Path) -> Result<Self> {
        Self::check_free(folder)?;
        if !file.is_file() {
            return Err(Error::Missing { path: file.into() });
        }
        fs_err::create_dir_all(folder)?;
        // Beside the place, so that a base that is cut off or of another version never stands in it.
        let copy = folder.join("importing.sqlite");
        let to = folder.join(crate::store::FILE);
        let checked = fs_err::copy(file, &copy).map_err(Error::from).and_then(|_| {
            let store = Store::open_file(&copy, file)?;
            store.check()
        });
        let moved = checked.and_then(|()| Ok(fs_err::rename(&copy, &to)?));
        for left in ["importing.sqlite", "importing.sqlite-wal", "importing.sqlite-shm"] {
            let _ = fs_err::remove_file(folder.join(left));
        }
        // The copy is gone: what is wrong is the user's file.
        let path = file.to_path_buf();
        moved.map_err(|error| match error {
            Error::Sqlite { source, .. } => Error::Sqlite { path, source },
            Error::Damaged { reason, .. } => Error::Damaged { path, reason },
            Error::Format { found, supported, .. } => Error::Format { path, found, supported },
            other => other,
        })?;
        Self::open(folder)
    }
}

/// sha256 over path, title and blocks: equal exactly when the chunks would be.
fn hash(document: &Document) -> String {
    let plain = Document { id: DocumentId::default(), ..document.clone() };
    sha256(&serde_json::to_vec(&plain).expect("strings and numbers become JSON"))
}

/// `id` of each chunk → its document.
fn own(owners: &mut Vec<DocumentId>, chunk: &Chunk) {
    let at = chunk.id.0 as usize;
    if owners.len() <= at {
        owners.resize(at + 1, DocumentId(u32::MAX));
    }
    owners[at] = chunk.document;
}

/// What is written once for a whole base. A new epoch tells readers that ids have changed their meaning.
fn settings(config: &Config, embedder: Option<&dyn Embedder>) -> Vec<(&'static str, String)> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    vec![
        ("format_version", FORMAT_VERSION.to_string()),
        ("config", serde_json::to_string(config).expect("numbers become JSON")),
        ("embedder", embedder.map_or(String::new(), |embedder| embedder.name().to_string())),
        ("embedder_source", embedder.map_or(String::new(), |embedder| embedder.source().to_string())),
        ("dim", embedder.map_or(0, super::embed::Embedder::dim).to_string()),
        ("epoch", format!("{}.{}", now.as_nanos(), std::process::id())),
    ]
}

#[cfg(test)]
mod tests;
