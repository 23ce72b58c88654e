//! Changes: documents added, replaced and removed, a whole corpus taken over, another embedder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use hearth_artifacts::home::Lock;
use hearth_artifacts::progress::{Event, Progress, Unit};

use super::{Config, KnowledgeBase, Metadata, Origin, hash, own, settings};
use crate::bm25::WordCounts;
use crate::chunk::{Chunk, chunk_document};
use crate::document::{Corpus, Document, DocumentId};
use crate::embed::Embedder;
use crate::error::{Error, Result};
use crate::store::{FileRow, NewChunk, NewDocument, Store};
use crate::vector::normalize;

const STAGE: &str = "embed";
const LOCK: &str = "build.lock";

/// Extracted text that waits for its turn at most; then it is embedded and kept.
const PENDING_BYTES: usize = 1 << 20;

/// What is remembered of a file, to see whether it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    pub path: String,
    /// The folder it was found under.
    pub root: String,
    pub sha256: String,
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    /// Why it gave no document.
    pub skipped: Option<String>,
}

impl From<FileRow> for FileState {
    fn from(row: FileRow) -> Self {
        let FileRow { path, root, sha256, bytes, modified, skipped } = row;
        Self { path, root, sha256, bytes, modified, skipped }
    }
}

impl From<FileState> for FileRow {
    fn from(state: FileState) -> Self {
        let FileState { path, root, sha256, bytes, modified, skipped } = state;
        Self { path, root, sha256, bytes, modified, skipped }
    }
}

/// How many documents came, went and stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    pub added: usize,
    pub changed: usize,
    pub unchanged: usize,
    pub removed: usize,
    /// Chunks that were made.
    pub chunks: usize,
}

/// A file's documents that aren't kept yet.
struct Pending {
    file: FileRow,
    documents: Vec<Document>,
    metadata: Metadata,
}

/// The one process that changes a base. What [`Writer::flush`] acknowledged survives a kill.
pub struct Writer<'a> {
    base: &'a mut KnowledgeBase,
    embedder: Option<&'a dyn Embedder>,
    progress: &'a dyn Progress,
    pending: Vec<Pending>,
    changes: Changes,
    _lock: Lock,
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.base.folder.display())
    }
}

impl KnowledgeBase {
    /// Begins to change the base; another process that does is an error. `embedder` is the base's own.
    pub fn writer<'a>(
        &'a mut self,
        embedder: Option<&'a dyn Embedder>,
        progress: &'a dyn Progress,
    ) -> Result<Writer<'a>> {
        let given = embedder.map(super::super::embed::Embedder::name);
        if given != self.embedder() {
            return Err(other_embedder(self.embedder(), given));
        }
        let lock = Lock::try_acquire(&self.folder.join(LOCK))?;
        self.refresh()?;
        let (pending, changes) = (Vec::new(), Changes::default());
        Ok(Writer { base: self, embedder, progress, pending, changes, _lock: lock })
    }

    /// Makes the base under `folder` hold exactly this corpus. A build that was stopped goes on where it was; until the
    /// new base is whole, the old one stays.
    pub fn build(
        corpus: &Corpus,
        config: &Config,
        embedder: &dyn Embedder,
        progress: &dyn Progress,
        folder: &Path,
    ) -> Result<Self> {
        let _lock = Lock::try_acquire(&folder.join(LOCK))?;
        let mut store = Store::open_or_replace(folder)?;
        let chunks = corpus.documents.iter().map(|document| cut(document, config, Some(embedder)));
        let chunks: Vec<Vec<(NewChunk, String)>> = chunks.collect();
        let job = EmbedJob { embedder, progress, batch: config.embed_batch.max(1) };
        job.run(chunks.iter().flatten(), &mut store)?;
        let rows = corpus.documents.iter().zip(chunks).map(|(document, chunks)| {
            let chunks: Vec<NewChunk> = chunks.into_iter().map(|(chunk, _)| chunk).collect();
            (document, hash(document), chunks)
        });
        let rows: Vec<_> = rows.collect();
        store.transaction(|writing| {
            writing.clear()?;
            for (document, hash, chunks) in &rows {
                let metadata = &Metadata::new();
                let file = &document.path;
                writing.add_document(&NewDocument { document, file, hash, metadata, chunks })?;
            }
            for (name, value) in settings(config, Some(embedder)) {
                writing.set(name, &value)?;
            }
            writing.drop_unused_vectors()?;
            writing.next_generation()
        })?;
        Self::open(folder)
    }

    /// Embeds every chunk with another embedder, then changes over; until then searches use the old vectors.
    pub fn re_embed(&mut self, embedder: &dyn Embedder, progress: &dyn Progress) -> Result<()> {
        let _lock = Lock::try_acquire(&self.folder.join(LOCK))?;
        let mut store = Store::open(&self.folder)?;
        let job = EmbedJob { embedder, progress, batch: self.config.embed_batch.max(1) };
        job.run_texts(&store.passages()?, &mut store)?;
        store.transaction(|writing| {
            for (name, value) in settings(&self.config, Some(embedder)) {
                writing.set(name, &value)?;
            }
            writing.drop_unused_vectors()?;
            writing.next_generation()
        })?;
        *self = Self::open(&self.folder)?;
        Ok(())
    }
}

impl Writer<'_> {
    /// What is known of a file.
    pub fn file(&self, path: &str) -> Result<Option<FileState>> {
        let waiting = self.pending.iter().find(|pending| pending.file.path == path);
        if let Some(pending) = waiting {
            return Ok(Some(pending.file.clone().into()));
        }
        Ok(self.base.store().file(path)?.map(FileState::from))
    }

    /// Takes over what a file holds now: new and changed documents, and none that it no longer has.
    pub fn put(&mut self, file: FileState, documents: Vec<Document>, metadata: &Metadata) -> Result<()> {
        self.pending.push(Pending { file: file.into(), documents, metadata: metadata.clone() });
        let bytes: usize = self.pending.iter().flat_map(|pending| &pending.documents).map(size).sum();
        if bytes >= PENDING_BYTES { self.flush() } else { Ok(()) }
    }

    /// Removes a file's documents, or one document by its path. False if there is neither.
    pub fn remove(&mut self, path: &str) -> Result<bool> {
        self.flush()?;
        let documents = self.base.documents.iter().zip(&self.base.origins);
        let gone = documents.filter(|(document, origin)| origin.file == path || document.path == path);
        let gone: Vec<DocumentId> = gone.map(|(document, _)| document.id).collect();
        let known = self.base.store().file(path)?.is_some();
        self.base.store().transaction(|writing| {
            for &id in &gone {
                writing.remove_document(id)?;
            }
            writing.remove_file(path)?;
            writing.next_generation()
        })?;
        self.base.forget(&gone);
        self.changes.removed += gone.len();
        Ok(known || !gone.is_empty())
    }

    /// Removes the documents of files under `root` that aren't among `present`.
    pub fn remove_missing(&mut self, root: &str, present: &BTreeSet<String>) -> Result<()> {
        self.flush()?;
        let files = self.base.store().files()?;
        for file in files.iter().filter(|file| file.root == root && !present.contains(&file.path)) {
            self.remove(&file.path)?;
        }
        Ok(())
    }

    /// Keeps everything that was put. What this has acknowledged survives a kill.
    pub fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let mut plan = Plan::default();
        let before = Before::of(self.base);
        for file in &pending {
            plan.file(&before, file);
        }
        plan.new.retain(|new| !new.superseded);
        plan.gone.sort_unstable();
        plan.gone.dedup();
        let config = self.base.config.clone();
        let chunks: Vec<Vec<(NewChunk, String)>> =
            plan.new.iter().map(|new| cut(new.document, &config, self.embedder)).collect();
        if let Some(embedder) = self.embedder {
            let job = EmbedJob { embedder, progress: self.progress, batch: config.embed_batch.max(1) };
            job.run(chunks.iter().flatten(), &mut self.base.store())?;
        }
        let chunks: Vec<Vec<NewChunk>> =
            chunks.into_iter().map(|list| list.into_iter().map(|(chunk, _)| chunk).collect()).collect();
        let ids = self.base.store().transaction(|writing| {
            for &id in &plan.gone {
                writing.remove_document(id)?;
            }
            let mut ids = Vec::new();
            for (new, chunks) in plan.new.iter().zip(&chunks) {
                let Planned { document, hash, file, metadata, .. } = new;
                ids.push(writing.add_document(&NewDocument { document, file, hash, metadata, chunks })?);
            }
            for file in &pending {
                writing.put_file(&file.file)?;
            }
            writing.next_generation()?;
            Ok(ids)
        })?;
        self.base.forget(&plan.gone);
        let embedder = self.base.embedder.clone();
        for ((new, chunks), (document, ids)) in plan.new.iter().zip(chunks).zip(ids) {
            self.base.documents.push(Document { id: document, ..new.document.clone() });
            let (file, metadata) = (new.file.to_owned(), new.metadata.clone());
            self.base.origins.push(Origin { file, hash: new.hash.clone(), metadata });
            self.changes.chunks += chunks.len();
            for (new, id) in chunks.into_iter().zip(ids) {
                if let Some(embedder) = &embedder {
                    let vector = self.base.store().vector(embedder, &new.hash)?;
                    let vector = vector.ok_or_else(|| self.base.store().damaged("a vector is missing"))?;
                    self.base.vectors.push(id.0, &vector);
                }
                self.base.bm25.push(id.0, &new.words);
                let chunk = Chunk { id, document, ..new.chunk };
                own(&mut self.base.owners, &chunk);
                self.base.chunks.push(chunk);
            }
        }
        self.changes.added += plan.changes.added;
        self.changes.changed += plan.changes.changed;
        self.changes.unchanged += plan.changes.unchanged;
        self.changes.removed += plan.changes.removed;
        let generation = self.base.store().setting("generation")?;
        self.base.generation = generation.unwrap_or_default();
        Ok(())
    }

    /// Keeps the rest and says what changed.
    pub fn finish(mut self) -> Result<Changes> {
        self.flush()?;
        Ok(self.changes)
    }
}

struct Planned<'a> {
    document: &'a Document,
    hash: String,
    file: &'a str,
    metadata: &'a Metadata,
    /// True if a later document has the same path.
    superseded: bool,
}

/// What one flush will do.
#[derive(Default)]
struct Plan<'a> {
    new: Vec<Planned<'a>>,
    by_path: HashMap<&'a str, usize>,
    gone: Vec<DocumentId>,
    changes: Changes,
}

/// The documents of a base by their file and by their path.
struct Before<'a> {
    by_file: HashMap<&'a str, Vec<&'a str>>,
    by_path: HashMap<&'a str, (DocumentId, &'a Origin)>,
}

impl<'a> Before<'a> {
    fn of(base: &'a KnowledgeBase) -> Self {
        let (mut by_file, mut by_path): (HashMap<&str, Vec<&str>>, _) = (HashMap::new(), HashMap::new());
        for (document, origin) in base.documents.iter().zip(&base.origins) {
            by_file.entry(&*origin.file).or_default().push(&document.path);
            by_path.insert(&*document.path, (document.id, origin));
        }
        Self { by_file, by_path }
    }
}

impl<'a> Plan<'a> {
    fn file(&mut self, before: &Before<'_>, pending: &'a Pending) {
        let file = pending.file.path.as_str();
        let had = before.by_file.get(file).map(Vec::as_slice).unwrap_or_default();
        let mut left: BTreeSet<&str> = had.iter().copied().collect();
        for document in &pending.documents {
            let path = document.path.as_str();
            left.remove(path);
            // The later of two with one name counts.
            if let Some(at) = self.by_path.remove(path) {
                self.new[at].superseded = true;
            }
            let hash = hash(document);
            match before.by_path.get(path) {
                Some((_, origin))
                    if origin.hash == hash && origin.metadata == pending.metadata && origin.file == file =>
                {
                    self.changes.unchanged += 1;
                    continue;
                }
                Some((id, _)) => {
                    self.changes.changed += 1;
                    self.gone.push(*id);
                }
                None => self.changes.added += 1,
            }
            self.by_path.insert(path, self.new.len());
            let metadata = &pending.metadata;
            self.new.push(Planned { document, hash, file, metadata, superseded: false });
        }
        self.changes.removed += left.len();
        self.gone.extend(left.into_iter().map(|path| before.by_path[path].0));
    }
}

fn size(document: &Document) -> usize {
    document.blocks.iter().map(|block| block.text.len()).sum()
}

/// Chunks with the passages they stand for.
fn cut(document: &Document, config: &Config, embedder: Option<&dyn Embedder>) -> Vec<(NewChunk, String)> {
    let count = |text: &str| match embedder {
        Some(embedder) => embedder.count_tokens(text),
        None => crate::words::plain_words(text).len(),
    };
    let chunks = chunk_document(document, &config.chunk, &count);
    let with_passage = chunks.into_iter().map(|chunk| {
        let passage = chunk.passage(&document.title);
        let hash = hearth_artifacts::hash::sha256(passage.as_bytes());
        let words = WordCounts::of(&passage);
        (NewChunk { chunk, hash, words }, passage)
    });
    with_passage.collect()
}

struct EmbedJob<'a> {
    embedder: &'a dyn Embedder,
    progress: &'a dyn Progress,
    batch: usize,
}

impl EmbedJob<'_> {
    fn run<'b>(&self, chunks: impl Iterator<Item = &'b (NewChunk, String)>, store: &mut Store) -> Result<()> {
        let texts: Vec<(String, String)> =
            chunks.map(|(chunk, passage)| (chunk.hash.clone(), passage.clone())).collect();
        self.run_texts(&texts, store)
    }

    /// Embeds what isn't known, the shortest first: passages of one length make full batches.
    fn run_texts(&self, texts: &[(String, String)], store: &mut Store) -> Result<()> {
        let (name, dim) = (self.embedder.name(), self.embedder.dim());
        let unknown = store.without_vector(name, dim, texts.iter().map(|(hash, _)| hash.as_str()))?;
        let unknown: BTreeSet<&str> = unknown.into_iter().collect();
        let missing = texts.iter().filter(|(hash, _)| unknown.contains(hash.as_str()));
        let missing: BTreeMap<(usize, &str), &str> =
            missing.map(|(hash, passage)| ((passage.len(), hash.as_str()), passage.as_str())).collect();
        let missing: Vec<(&str, &str)> =
            missing.into_iter().map(|((_, hash), passage)| (hash, passage)).collect();
        let total = Some(texts.len() as u64);
        self.progress.event(Event::Start { stage: STAGE, total, unit: Unit::Items });
        let reused = texts.len() - missing.len();
        let mut done = reused as u64;
        for batch in missing.chunks(self.batch) {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let passages: Vec<&str> = batch.iter().map(|(_, passage)| *passage).collect();
            let made = self.embedder.embed_passages(&passages);
            let mut vectors = check_shape(self.embedder, made, passages.len())?;
            for vector in &mut vectors {
                normalize(vector);
            }
            let rows: Vec<(&str, Vec<f32>)> = batch.iter().map(|(hash, _)| *hash).zip(vectors).collect();
            store.add_vectors(name, &rows)?;
            done += batch.len() as u64;
            self.progress.event(Event::Advance { stage: STAGE, done });
        }
        let summary = format!("{} chunks, {reused} of them known before", texts.len());
        self.progress.event(Event::Finish { stage: STAGE, summary: &summary });
        Ok(())
    }
}

/// An embedder that gives the wrong number, length or kind of values must not spoil an index.
pub(super) fn check_shape(
    embedder: &dyn Embedder,
    made: Result<Vec<Vec<f32>>, String>,
    expected: usize,
) -> Result<Vec<Vec<f32>>> {
    let vectors = made.map_err(|reason| Error::Embed { embedder: embedder.name().into(), reason })?;
    let dim = embedder.dim();
    let wrong = vectors.iter().find(|vector| vector.len() != dim || vector.iter().any(|x| !x.is_finite()));
    if vectors.len() == expected && wrong.is_none() {
        return Ok(vectors);
    }
    Err(Error::EmbedShape {
        embedder: embedder.name().into(),
        got: match wrong {
            Some(vector) => format!("a vector of {} values, some perhaps not finite", vector.len()),
            None => format!("{} vectors", vectors.len()),
        },
        expected: format!("{expected} finite vectors of {dim} values"),
    })
}

pub(super) fn other_embedder(built_with: Option<&str>, given: Option<&str>) -> Error {
    let name = |embedder: Option<&str>| embedder.unwrap_or("none").to_owned();
    Error::OtherEmbedder { built_with: name(built_with), given: name(given) }
}
