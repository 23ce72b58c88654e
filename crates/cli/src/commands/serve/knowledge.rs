//! Knowledge bases behind a server: opened when they are first asked for, as their files are now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::Silent;
use hearth_knowledge::answer::{NOT_FOUND_CHINESE, NOT_FOUND_ENGLISH, rag_prompt};
use hearth_knowledge::chunk::{Chunk, ChunkConfig};
use hearth_knowledge::document::{Block, BlockKind, Document, DocumentId, DocumentKind};
use hearth_knowledge::embed::Embedder;
use hearth_knowledge::evidence::{self, evidence, signs};
use hearth_knowledge::extract::extract;
use hearth_knowledge::filter::Filter;
use hearth_knowledge::knowledge_base::{Config, FileState, Fusion, Hit, KnowledgeBase, Metadata, Method};
use hearth_knowledge::retrieve::{self, Options, Rerank, Source, retrieve};
use hearth_knowledge::words::is_chinese;
use hearth_model::Model;
use hearth_serve::{Citation, Grounded, Grounding, Knowledge, KnowledgeError, NewDocument, Search};
use hearth_tokenizer::{Conversation, Message, Role};
use serde_json::{Value, json};

use crate::args::DEFAULT_EMBEDDER;
use crate::commands::kb::{is_name, passage_json};
use crate::models::{Machine, TextEmbedder};
use crate::up::grounding::{cited, with_history};
use crate::up::knowledge_config;

/// Passages put before a question.
const NUM_PASSAGES: usize = 3;
/// Tokens of a prompt with passages at most.
const PROMPT_TOKENS: usize = 1536;

type Shared = Arc<RwLock<KnowledgeBase>>;

/// The bases a server may show.
pub(super) struct Bases {
    machine: Machine,
    /// Names that may be asked for; `*` stands for all.
    allowed: Vec<String>,
    open: Mutex<BTreeMap<String, Shared>>,
    embedders: Mutex<BTreeMap<String, Arc<TextEmbedder>>>,
}

fn failed(error: impl std::fmt::Display) -> KnowledgeError {
    KnowledgeError::Failed { reason: error.to_string() }
}

fn invalid(param: &str, reason: impl Into<String>) -> KnowledgeError {
    KnowledgeError::Invalid { param: param.into(), reason: reason.into() }
}

fn said(error: KnowledgeError) -> String {
    match error {
        KnowledgeError::Unknown { name } => format!("no knowledge base is called `{name}`"),
        KnowledgeError::Invalid { param, reason } => format!("{param}: {reason}"),
        KnowledgeError::Failed { reason } => reason,
    }
}

fn unknown(name: &str) -> KnowledgeError {
    KnowledgeError::Unknown { name: name.into() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(base: &Shared) -> RwLockReadGuard<'_, KnowledgeBase> {
    base.read().unwrap_or_else(PoisonError::into_inner)
}

/// A base with the embedder its vectors were made by.
struct Opened {
    name: String,
    base: Shared,
    embedder: Option<Arc<TextEmbedder>>,
}

impl Bases {
    pub(super) fn new(machine: &Machine, allowed: &[String]) -> Self {
        Self {
            machine: machine.clone(),
            allowed: allowed.to_vec(),
            open: Mutex::default(),
            embedders: Mutex::default(),
        }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, KnowledgeError> {
        if !is_name(name) {
            return Err(invalid(
                "name",
                format!("`{name}` can't name a base: use letters, digits, `-`, `_`, `.`"),
            ));
        }
        if !self.allowed.iter().any(|allowed| allowed == "*" || allowed == name) {
            return Err(unknown(name));
        }
        Ok(self.machine.home.knowledge().join(name))
    }

    /// Says what is wrong with a base, if anything is.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        self.opened(name).map(|_| ()).map_err(said)
    }

    /// The base as its file is now, with its embedder.
    fn opened(&self, name: &str) -> Result<Opened, KnowledgeError> {
        let folder = self.folder(name)?;
        let known = lock(&self.open).get(name).cloned();
        let base = match known {
            Some(base) if folder.is_dir() => base,
            _ => {
                let base = KnowledgeBase::open(&folder).map_err(|error| match error {
                    hearth_knowledge::Error::Missing { .. } => unknown(name),
                    other => failed(other),
                })?;
                let base = Arc::new(RwLock::new(base));
                lock(&self.open).insert(name.to_owned(), Arc::clone(&base));
                base
            }
        };
        if read(&base).is_stale().map_err(failed)? {
            base.write().unwrap_or_else(PoisonError::into_inner).refresh().map_err(failed)?;
        }
        let source = read(&base).embedder_source().map(str::to_owned);
        let embedder = source.map(|source| self.embedder(&source)).transpose()?;
        Ok(Opened { name: name.into(), base, embedder })
    }

    fn embedder(&self, source: &str) -> Result<Arc<TextEmbedder>, KnowledgeError> {
        let mut embedders = lock(&self.embedders);
        if let Some(known) = embedders.get(source) {
            return Ok(Arc::clone(known));
        }
        let made = self.machine.embedder(source, &Silent).map_err(|error| failed(format!("{error:#}")))?;
        let made = Arc::new(made);
        embedders.insert(source.into(), Arc::clone(&made));
        Ok(made)
    }

    fn summary(&self, name: &str) -> Value {
        match self.opened(name) {
            Ok(opened) => {
                let base = read(&opened.base);
                json!({
                    "name": name, "object": "knowledge_base", "documents": base.documents().len(),
                    "chunks": base.chunks().len(), "embedder": base.embedder(),
                })
            }
            Err(KnowledgeError::Failed { reason }) => json!({ "name": name, "error": reason }),
            Err(_) => json!({ "name": name, "error": "can't be opened" }),
        }
    }

    fn writing<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut hearth_knowledge::knowledge_base::Writer<'_>) -> hearth_knowledge::Result<T>,
    ) -> Result<(T, Value), KnowledgeError> {
        let Opened { base, embedder, .. } = self.opened(name)?;
        let mut base = base.write().unwrap_or_else(PoisonError::into_inner);
        let embedder = embedder.as_deref().map(|embedder| embedder as &dyn Embedder);
        let mut writer = base.writer(embedder, &Silent).map_err(failed)?;
        let value = change(&mut writer).map_err(failed)?;
        let changes = writer.finish().map_err(failed)?;
        let line = json!({
            "name": name, "added": changes.added, "changed": changes.changed, "unchanged": changes.unchanged,
            "removed": changes.removed, "documents": base.documents().len(), "chunks": base.chunks().len(),
        });
        Ok((value, line))
    }
}

impl Knowledge for Bases {
    fn list(&self) -> Result<Vec<Value>, KnowledgeError> {
        let entries = fs_err::read_dir(self.machine.home.knowledge());
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.folder(name).is_ok_and(|folder| folder.is_dir()))
            .collect();
        names.sort();
        Ok(names.iter().map(|name| self.summary(name)).collect())
    }

    fn create(&self, name: &str, embedder: Option<&str>) -> Result<Value, KnowledgeError> {
        let folder = self.folder(name)?;
        let embedder = match embedder.unwrap_or(DEFAULT_EMBEDDER) {
            "none" => None,
            source => Some(self.embedder(source)?),
        };
        let config = knowledge_config();
        let max_tokens = embedder.as_ref().map_or(usize::MAX, |embedder| embedder.max_passage_tokens());
        let chunk = ChunkConfig {
            max_tokens: config.chunk.max_tokens.min(max_tokens),
            target_tokens: config.chunk.target_tokens.min(max_tokens),
        };
        let config = Config { chunk, ..config };
        let embedder = embedder.as_deref().map(|embedder| embedder as &dyn Embedder);
        KnowledgeBase::create(&folder, &config, embedder).map_err(|error| match error {
            hearth_knowledge::Error::Exists { .. } => invalid("name", format!("`{name}` is there already")),
            other => failed(other),
        })?;
        Ok(self.summary(name))
    }

    fn delete(&self, name: &str) -> Result<(), KnowledgeError> {
        let folder = self.folder(name)?;
        if !folder.is_dir() {
            return Err(unknown(name));
        }
        let held = hearth_artifacts::home::Lock::try_acquire(&folder.join("build.lock")).map_err(failed)?;
        lock(&self.open).remove(name);
        fs_err::remove_dir_all(&folder).map_err(failed)?;
        drop(held);
        Ok(())
    }

    fn documents(&self, name: &str) -> Result<Vec<Value>, KnowledgeError> {
        let opened = self.opened(name)?;
        let base = read(&opened.base);
        let mut counts: BTreeMap<DocumentId, usize> = BTreeMap::new();
        for chunk in base.chunks() {
            *counts.entry(chunk.document).or_default() += 1;
        }
        let line = |document: &Document| {
            let origin = base.origin(document.id);
            json!({
                "id": document.path, "title": document.title, "kind": document.kind,
                "chunks": counts.get(&document.id), "metadata": origin.map(|origin| &origin.metadata),
            })
        };
        Ok(base.documents().iter().map(line).collect())
    }

    fn add(&self, name: &str, documents: Vec<NewDocument>) -> Result<Value, KnowledgeError> {
        let mut ready = Vec::with_capacity(documents.len());
        for NewDocument { id, title, text, metadata } in documents {
            let mut document = extract(&id, DocumentKind::Markdown, text.as_bytes())
                .map_err(|error| invalid("documents", format!("`{id}`: {error}")))?;
            if let Some(title) = title.filter(|title| !title.trim().is_empty()) {
                document.title = title;
            } else if !document.blocks.iter().any(is_heading) {
                document.title = String::new();
            }
            let sha256 = sha256(text.as_bytes());
            let (root, bytes) = ("/v1/knowledge".to_owned(), text.len() as u64);
            let state = FileState { path: id, root, sha256, bytes, modified: 0, skipped: None };
            ready.push((state, document, Metadata::from_iter(metadata)));
        }
        let put = |writer: &mut hearth_knowledge::knowledge_base::Writer<'_>| {
            ready
                .into_iter()
                .try_for_each(|(state, document, metadata)| writer.put(state, vec![document], &metadata))
        };
        Ok(self.writing(name, put)?.1)
    }

    fn remove(&self, name: &str, document: &str) -> Result<Value, KnowledgeError> {
        let (was_there, line) = self.writing(name, |writer| writer.remove(document))?;
        if was_there { Ok(line) } else { Err(unknown(document)) }
    }

    fn search(&self, names: &str, search: Search) -> Result<Value, KnowledgeError> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let opened = names.map(|name| self.opened(name)).collect::<Result<Vec<_>, _>>()?;
        let options = options(&search)?;
        let guards: Vec<RwLockReadGuard<'_, KnowledgeBase>> =
            opened.iter().map(|opened| read(&opened.base)).collect();
        let sources: Vec<Source<'_>> = opened
            .iter()
            .zip(&guards)
            .map(|(opened, base)| Source {
                name: &opened.name,
                base,
                embedder: opened.embedder.as_deref().map(|embedder| embedder as &dyn Embedder),
            })
            .collect();
        let found = retrieve(&[&search.query], &sources, &options).map_err(failed)?;
        let signs = signs(&search.query, &found.passages, &sources);
        let data = found.passages.iter().enumerate();
        let data: Vec<Value> = data.map(|(index, passage)| passage_json(index + 1, passage)).collect();
        Ok(json!({
            "object": "list", "data": data, "trace": found.trace, "evidence": evidence(signs),
        }))
    }
}

fn is_heading(block: &Block) -> bool {
    matches!(block.kind, BlockKind::Heading(_))
}

fn options(search: &Search) -> Result<Options<'static>, KnowledgeError> {
    let method = match search.method.as_str() {
        "bm25" => Method::Bm25,
        "dense" => Method::Dense,
        "hybrid" | "rerank" => Method::Hybrid,
        other => return Err(invalid("method", format!("`{other}`: expected bm25, dense, hybrid or rerank"))),
    };
    let context = match search.context.as_str() {
        "chunk" => retrieve::Context::Chunk,
        "neighbours" => retrieve::Context::Neighbours,
        "section" => retrieve::Context::Section,
        other => return Err(invalid("context", format!("`{other}`: expected chunk, neighbours or section"))),
    };
    if let Some(share) = search.dense_share.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(invalid("dense_share", format!("is {share}, expected 0 to 1")));
    }
    let filter = Filter::parse(&search.filter).map_err(|error| invalid("filter", error.to_string()))?;
    let plain = Options::new(method, search.k);
    Ok(Options {
        fusion: search.dense_share.map_or(plain.fusion, |dense| Fusion::Weighted { dense }),
        filter,
        context,
        max_tokens: search.max_passage_tokens.unwrap_or(usize::MAX),
        drop_duplicates: !search.keep_duplicates,
        rerank: if search.method == "rerank" { Rerank::Clusters } else { Rerank::Off },
        ..plain
    })
}

/// Answers from one base, for an assistant of its name.
pub(super) struct Answers {
    pub(super) bases: Arc<Bases>,
    pub(super) name: String,
    pub(super) model: Arc<Model>,
}

impl Grounding for Answers {
    fn ground(&self, conversation: &Conversation, max_prompt_tokens: usize) -> Result<Grounded, String> {
        let question = conversation.messages.iter().rev().find(|message| message.role == Role::User);
        let question = question.map(|message| message.content.as_str());
        let question = question.ok_or("the conversation has no question of the user's")?;
        let opened = self.bases.opened(&self.name).map_err(said)?;
        let base = read(&opened.base);
        let embedder = opened.embedder.as_deref().map(|embedder| embedder as &dyn Embedder);
        let method = if embedder.is_some() { Method::Hybrid } else { Method::Bm25 };
        let sources = [Source { name: &self.name, base: &base, embedder }];
        let found = retrieve(&[question], &sources, &Options::new(method, NUM_PASSAGES));
        let found = found.map_err(|error| error.to_string())?;
        if evidence(signs(question, &found.passages, &sources)) < evidence::THRESHOLD {
            return Ok(nothing(question));
        }
        let hits: Vec<Hit<'_>> =
            found.passages.iter().enumerate().map(|(index, passage)| passage.hit(index + 1)).collect();
        let count = |text: &str| self.model.tokenizer().encode(text).len();
        let prompt = rag_prompt(question, &hits, max_prompt_tokens.min(PROMPT_TOKENS), &count);
        let used: Vec<(Chunk, Document)> =
            prompt.passages(&hits).iter().map(|hit| (hit.chunk.clone(), hit.document.clone())).collect();
        Ok(Grounded {
            conversation: with_history(conversation, prompt.system, prompt.user),
            cite: Box::new(move |answer| citations(answer, &used)),
        })
    }
}

/// What is asked where the documents hold no answer: to say so.
fn nothing(question: &str) -> Grounded {
    let (ask, reply) = match is_chinese(question) {
        true => ("只回复这句话：", NOT_FOUND_CHINESE),
        false => ("Reply with this sentence only: ", NOT_FOUND_ENGLISH),
    };
    let messages = vec![Message::user(format!("{ask}{reply}"))];
    Grounded {
        conversation: Conversation { messages, ..Conversation::default() },
        cite: Box::new(|_| Vec::new()),
    }
}

fn citations(answer: &str, used: &[(Chunk, Document)]) -> Vec<Citation> {
    let hits: Vec<Hit<'_>> = used
        .iter()
        .enumerate()
        .map(|(index, (chunk, document))| Hit::of(index + 1, chunk, document))
        .collect();
    cited(answer, &hits)
}
