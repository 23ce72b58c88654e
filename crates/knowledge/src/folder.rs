//! A folder → its documents: sorted, with what was left out and why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hearth_artifacts::progress::{Event, Progress, Unit};

use crate::document::{Corpus, Document, Skipped};
use crate::error::{Error, ExtractError, Result};
use crate::extract::{self, ExtractOptions, MAX_FILE_BYTES, READABLE};

/// Folders nested deeper are a loop or an accident.
const MAX_DEPTH: usize = 64;

const STAGE: &str = "read";

/// Reads every document under `path`. A file that can't be read is listed in the result, and never stops the rest.
pub fn read_folder(path: &Path, progress: &dyn Progress) -> Result<Corpus> {
    read_folder_with(path, &ExtractOptions::default(), progress)
}

/// [`read_folder`], with a reader of pictures.
pub fn read_folder_with(
    path: &Path,
    options: &ExtractOptions<'_>,
    progress: &dyn Progress,
) -> Result<Corpus> {
    let (files, mut skipped) = list_files(path)?;
    progress.event(Event::Start { stage: STAGE, total: Some(files.len() as u64), unit: Unit::Items });
    let mut documents = Vec::new();
    for (done, relative) in files.iter().enumerate() {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        match read_file(path, relative, options) {
            Ok(read) => {
                for document in &read {
                    for note in &document.notes {
                        let text = format!("{}: {note}", document.path);
                        progress.event(Event::Note { stage: STAGE, text: &text });
                    }
                }
                documents.extend(read);
            }
            Err(reason) => skipped.push(skip(relative, &reason)),
        }
        progress.event(Event::Advance { stage: STAGE, done: done as u64 + 1 });
    }
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    for file in &skipped {
        let text = format!("skipped {}: {}", file.path.display(), file.reason);
        progress.event(Event::Note { stage: STAGE, text: &text });
    }
    if documents.is_empty() {
        let first = skipped.iter().find(|file| file.reason != ExtractError::Hidden.to_string());
        let first = first.map(|file| format!("; `{}`: {}", file.path.display(), file.reason));
        return Err(Error::NoDocuments {
            path: path.into(),
            skipped: skipped.len(),
            readable: READABLE,
            first: first.unwrap_or_default(),
        });
    }
    let summary = format!("{} documents, {} files skipped", documents.len(), skipped.len());
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(Corpus::new(documents, skipped))
}

/// Reads a folder, or one file.
pub fn read_path(path: &Path, options: &ExtractOptions<'_>, progress: &dyn Progress) -> Result<Corpus> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return read_folder_with(path, options, progress);
    };
    if !path.is_file() {
        return read_folder_with(path, options, progress);
    }
    match read_file(folder, Path::new(name), options) {
        Ok(documents) => Ok(Corpus::new(documents, Vec::new())),
        Err(reason) => Err(Error::Unreadable { path: path.into(), reason }),
    }
}

/// The files under a folder by their relative paths, sorted, and what is left out unread.
pub fn list_files(path: &Path) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
    if !path.is_dir() {
        return Err(Error::NotAFolder { path: path.into() });
    }
    let mut found = Found::default();
    found.visit(path, path, 0)?;
    found.files.sort();
    Ok((found.files, found.skipped))
}

fn skip(relative: &Path, reason: &ExtractError) -> Skipped {
    Skipped { path: relative.into(), reason: reason.to_string() }
}

fn read_file(
    folder: &Path,
    relative: &Path,
    options: &ExtractOptions<'_>,
) -> Result<Vec<Document>, ExtractError> {
    let kind = extract::kind_of(relative).ok_or_else(|| ExtractError::UnknownType {
        extension: relative.extension().unwrap_or_default().to_string_lossy().into_owned(),
    })?;
    let unreadable = |error: std::io::Error| ExtractError::Unreadable { reason: error.to_string() };
    let path = folder.join(relative);
    let bytes = fs_err::metadata(&path).map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ExtractError::TooLarge { bytes, limit: MAX_FILE_BYTES });
    }
    let bytes = fs_err::read(&path).map_err(unreadable)?;
    extract::extract_all(&document_path(relative), kind, &bytes, options)
}

/// With `/` between the parts on every system; bytes that are no Unicode become replacement characters.
pub(crate) fn document_path(relative: &Path) -> String {
    let parts = relative.components().map(|part| part.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    skipped: Vec<Skipped>,
    /// Real paths of the folders on the way, against links that lead back.
    visited: BTreeSet<PathBuf>,
}

impl Found {
    fn visit(&mut self, root: &Path, folder: &Path, depth: usize) -> Result<()> {
        let real = fs_err::canonicalize(folder)?;
        if depth > MAX_DEPTH || !self.visited.insert(real) {
            self.skip(root, folder, &ExtractError::Link);
            return Ok(());
        }
        let entries = match fs_err::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if depth > 0 => {
                let reason = error.to_string();
                self.skip(root, folder, &ExtractError::Unreadable { reason });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                // `~$name.docx` is what Word leaves beside an open document.
                name.starts_with('.') || name.starts_with("~$")
            });
            if hidden {
                self.skip(root, &path, &ExtractError::Hidden);
            } else if path.is_dir() {
                if leads_outside(root, &path) {
                    self.skip(root, &path, &ExtractError::Link);
                } else {
                    self.visit(root, &path, depth + 1)?;
                }
            } else if path.is_file() {
                self.files.push(relative(root, &path));
            } else {
                let reason = "neither file nor folder".to_string();
                self.skip(root, &path, &ExtractError::Unreadable { reason });
            }
        }
        Ok(())
    }

    fn skip(&mut self, root: &Path, path: &Path, reason: &ExtractError) {
        self.skipped.push(skip(&relative(root, path), reason));
    }
}

/// Linked folders are followed only within the folder that was named.
fn leads_outside(root: &Path, path: &Path) -> bool {
    let inside = || Some(fs_err::canonicalize(path).ok()?.starts_with(fs_err::canonicalize(root).ok()?));
    path.is_symlink() && inside() != Some(true)
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).into()
}
