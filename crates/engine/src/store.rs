//! Pages of keys and values that outlive the process: a prompt computed yesterday needn't be computed today.
//!
//! A file a page, named by the hash of everything its content depends on: model, adapter, layout, version, and all
//! tokens up to its end. So a file is either the right one or never looked at, several processes may share a folder,
//! and an old version's files are only aged out. Each file carries a checksum; a damaged one is said, removed and
//! computed again. Files aren't synced: what a crash leaves half-written is what the checksum is for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use hearth_artifacts::atomic::partial_path;
use hearth_artifacts::hash::{Hasher, sha256};
use hearth_artifacts::progress::{Event, Progress};
use hearth_kernels::attention::{PAGE, PageLayout};
use hearth_tensor::kv::Page;
use hearth_tokenizer::TokenId;

/// Changes when the file's form changes, or any bit of what the forward pass computes.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"hearthkv";
/// Pages on their way to disk at most.
const IN_FLIGHT: usize = 16;
/// What a killed process left half-written is removed after a day.
const STALE: Duration = Duration::from_hours(24);
const SHA_HEX: usize = 64;
/// Bytes of a file before its content.
const HEAD: usize = MAGIC.len() + 2 * SHA_HEX;

/// Where an engine keeps pages on disk.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub folder: PathBuf,
    /// sha256 of the model's file, or whatever else names its weights.
    pub model: String,
    /// Bytes of all files in the folder at most.
    pub max_bytes: u64,
    /// Hears of files that can't be used or written.
    pub progress: Arc<dyn Progress>,
}

/// The hash of a model, an adapter and all tokens up to the end of a page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain(String);

impl Chain {
    /// Before the first page.
    fn start(model: &str, adapter: &str, layout: PageLayout) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self(sha256(format!("{FORMAT}|{version}|{model}|{adapter}|{layout:?}|{PAGE}").as_bytes()))
    }

    pub(crate) fn next(&self, tokens: &[TokenId]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(self.0.as_bytes());
        for id in tokens {
            hasher.update(&id.to_le_bytes());
        }
        Self(hasher.finish())
    }

    /// The last of a beginning of whole pages.
    pub(crate) fn end(&self, tokens: &[TokenId]) -> Self {
        tokens.chunks_exact(PAGE).fold(self.clone(), |chain, page| chain.next(page))
    }
}

#[derive(Debug)]
struct File {
    bytes: u64,
    last_used: SystemTime,
}

#[derive(Debug, Default)]
struct Index {
    files: BTreeMap<Chain, File>,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Store {
    config: StoreConfig,
    index: Arc<Mutex<Index>>,
    in_flight: Arc<AtomicUsize>,
    writer: Option<SyncSender<(Chain, Page)>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Reads the folder's list of files; what they hold is read when it is needed.
    pub(crate) fn open(config: StoreConfig) -> std::io::Result<Self> {
        fs_err::create_dir_all(&config.folder)?;
        make_private(&config.folder)?;
        let mut index = Index::default();
        for entry in fs_err::read_dir(&config.folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let last_used = metadata.modified()?;
            if path.extension().is_some_and(|extension| extension == "partial") {
                if last_used.elapsed().is_ok_and(|age| age > STALE) {
                    fs_err::remove_file(&path)?;
                }
            } else if let Some(chain) = chain_of(&path) {
                index.bytes += metadata.len();
                index.files.insert(chain, File { bytes: metadata.len(), last_used });
            }
        }
        index.shrink(&config, 0);
        let index = Arc::new(Mutex::new(index));
        let in_flight = Arc::<AtomicUsize>::default();
        let (writer, pages) = sync_channel::<(Chain, Page)>(IN_FLIGHT);
        let thread = std::thread::spawn({
            let (config, index, in_flight) = (config.clone(), Arc::clone(&index), Arc::clone(&in_flight));
            move || {
                for (chain, page) in pages {
                    write(&config, &index, chain, &page);
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { config, index, in_flight, writer: Some(writer), thread: Some(thread) })
    }

    /// The chain of a model with an adapter, before the first page.
    pub(crate) fn start(&self, adapter: &str, layout: PageLayout) -> Chain {
        Chain::start(&self.config.model, adapter, layout)
    }

    pub(crate) fn has(&self, chain: &Chain) -> bool {
        lock(&self.index).files.contains_key(chain)
    }

    /// Pages that may be given to [`Self::save`] without waiting.
    pub(crate) fn room(&self) -> usize {
        IN_FLIGHT - self.in_flight.load(Ordering::Relaxed).min(IN_FLIGHT)
    }

    pub(crate) fn max_pages(&self, page_bytes: usize) -> usize {
        usize::try_from(self.config.max_bytes).unwrap_or(usize::MAX) / (page_bytes + HEAD)
    }

    /// Writes a page behind the caller's back; waits if there is no [`Self::room`].
    pub(crate) fn save(&self, chain: Chain, page: Page) {
        if self.has(&chain) {
            return;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if let Some(writer) = &self.writer {
            // The writer ends after its channel, so it is there.
            let _ = writer.send((chain, page));
        }
    }

    /// Reads a page. `None` where it can't be used: it is removed, and computed again.
    pub(crate) fn read(&self, chain: &Chain, layout: PageLayout) -> Option<Page> {
        let path = path_of(&self.config.folder, chain);
        let read = fs_err::read(&path).map_err(|error| error.to_string());
        let page = read.and_then(|bytes| decode(&bytes, chain, layout).map_err(Into::into));
        let mut index = lock(&self.index);
        match page {
            Ok(page) => {
                let now = SystemTime::now();
                if let Some(file) = index.files.get_mut(chain) {
                    file.last_used = now;
                }
                // Only the order of removal depends on it.
                let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(now));
                Some(page)
            }
            Err(reason) => {
                let text = format!("`{}` isn't used: {reason}; it is computed again", path.display());
                self.config.progress.event(Event::Note { stage: "cache", text: &text });
                index.forget(&self.config, chain);
                None
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            // A page that couldn't be written has been said.
            let _ = thread.join();
        }
    }
}

impl Index {
    /// Removes the files used longest ago until `more` bytes fit.
    fn shrink(&mut self, config: &StoreConfig, more: u64) {
        while self.bytes + more > config.max_bytes {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.last_used);
            let Some(chain) = oldest.map(|(chain, _)| chain.clone()) else { return };
            self.forget(config, &chain);
        }
    }

    fn forget(&mut self, config: &StoreConfig, chain: &Chain) {
        if let Some(file) = self.files.remove(chain) {
            self.bytes -= file.bytes;
        }
        // Another process may have been faster.
        let _ = fs_err::remove_file(path_of(&config.folder, chain));
    }
}

/// Keys and values tell what was asked, and that is nobody else's business.
#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(folder: &Path, chain: &Chain) -> PathBuf {
    folder.join(format!("{}.page", chain.0))
}

fn chain_of(path: &Path) -> Option<Chain> {
    let name = path.file_name()?.to_str()?.strip_suffix(".page")?;
    (name.len() == SHA_HEX && name.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Chain(name.into()))
}

fn write(config: &StoreConfig, index: &Mutex<Index>, chain: Chain, page: &Page) {
    let bytes = encode(&chain, page);
    let num_bytes = bytes.len() as u64;
    if num_bytes > config.max_bytes {
        return;
    }
    lock(index).shrink(config, num_bytes);
    let path = path_of(&config.folder, &chain);
    let partial = partial_path(&path);
    if let Err(error) = fs_err::write(&partial, bytes).and_then(|()| fs_err::rename(&partial, &path)) {
        let _ = fs_err::remove_file(&partial);
        let text = format!("a page of keys and values can't be kept: {error}");
        return config.progress.event(Event::Note { stage: "cache", text: &text });
    }
    let mut index = lock(index);
    let file = File { bytes: num_bytes, last_used: SystemTime::now() };
    index.bytes += num_bytes;
    if let Some(old) = index.files.insert(chain, file) {
        index.bytes -= old.bytes;
    }
}

/// Magic, chain, checksum of chain and content, content.
fn encode(chain: &Chain, page: &Page) -> Vec<u8> {
    let content = page.to_bytes();
    [MAGIC.as_slice(), chain.0.as_bytes(), checksum(chain, &content).as_bytes(), &content].concat()
}

fn decode(bytes: &[u8], chain: &Chain, layout: PageLayout) -> Result<Page, &'static str> {
    let (head, content) = bytes.split_at_checked(HEAD).ok_or("it is cut")?;
    let (magic, hashes) = head.split_at(MAGIC.len());
    let (named, sum) = hashes.split_at(SHA_HEX);
    if magic != MAGIC {
        return Err("it isn't a page of keys and values");
    }
    if named != chain.0.as_bytes() {
        return Err("it holds another page than its name says");
    }
    if sum != checksum(chain, content).as_bytes() {
        return Err("its checksum is wrong");
    }
    Page::from_bytes(layout, content).ok_or("it has another size than a page of this model")
}

fn checksum(chain: &Chain, content: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(chain.0.as_bytes());
    hasher.update(content);
    hasher.finish()
}
