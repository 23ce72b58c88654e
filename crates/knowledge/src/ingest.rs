//! Files and folders → a knowledge base: only what changed is read, and what a file no longer holds is dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::{Event, Progress, Unit};

use crate::document::{Document, DocumentKind, Skipped};
use crate::error::{Error, ExtractError, Result};
use crate::extract::{self, ExtractOptions, MAX_FILE_BYTES};
use crate::folder::{document_path, list_files};
use crate::knowledge_base::{FileState, Metadata, Writer};

const STAGE: &str = "read";

/// How files are taken into a base.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// What pictures and scanned pages are read with.
    pub extract: ExtractOptions<'a>,
    /// Given to every document.
    pub metadata: Metadata,
    /// Documents of files that are gone from the folder are removed.
    pub prune: bool,
}

/// What was found under one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub files: usize,
    /// Files whose size and time, or whose content, are as they were.
    pub unchanged: usize,
    pub skipped: Vec<Skipped>,
}

/// A file to look at.
struct Candidate {
    path: PathBuf,
    /// What its documents are named by.
    name: String,
    root: String,
}

/// Adds a file, or a folder with all it holds. A file that can't be read is listed in the report and never stops the rest.
pub fn add_path(
    writer: &mut Writer<'_>,
    path: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut report = Report::default();
    let full = fs_err::canonicalize(path)?;
    let (root, files) = if full.is_dir() {
        let (files, skipped) = list_files(&full)?;
        report.skipped = skipped;
        (full.clone(), files)
    } else {
        let name = full.file_name().ok_or_else(|| Error::NotAFolder { path: path.into() })?;
        (full.parent().unwrap_or(&full).to_path_buf(), vec![PathBuf::from(name)])
    };
    progress.event(Event::Start { stage: STAGE, total: Some(files.len() as u64), unit: Unit::Items });
    let mut seen = BTreeSet::new();
    for (done, relative) in files.iter().enumerate() {
        if progress.cancelled() {
            writer.flush()?;
            return Err(Error::Cancelled);
        }
        let candidate = candidate(writer, &root, relative)?;
        seen.insert(candidate.name.clone());
        if let Some(reason) = add_file(writer, &candidate, options, &mut report, progress)? {
            let text = format!("skipped {}: {reason}", candidate.name);
            progress.event(Event::Note { stage: STAGE, text: &text });
            report.skipped.push(Skipped { path: relative.clone(), reason });
        }
        progress.event(Event::Advance { stage: STAGE, done: done as u64 + 1 });
    }
    report.files = files.len();
    if options.prune && full.is_dir() {
        writer.remove_missing(&root.to_string_lossy(), &seen)?;
    }
    let summary =
        format!("{} files, {} unchanged, {} skipped", report.files, report.unchanged, report.skipped.len());
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(report)
}

/// Adds what was fetched from elsewhere under the name it has there. True if it is new or has changed.
pub fn add_bytes(
    writer: &mut Writer<'_>,
    name: &str,
    (kind, bytes): (DocumentKind, &[u8]),
    options: &Options<'_>,
) -> Result<bool> {
    let sha256 = sha256(bytes);
    if writer.file(name)?.is_some_and(|known| known.sha256 == sha256) {
        return Ok(false);
    }
    let documents = extract::extract_all(name, kind, bytes, &options.extract)
        .map_err(|reason| Error::Unreadable { path: name.into(), reason })?;
    let (root, length) = ("web".to_owned(), bytes.len() as u64);
    let state = FileState { path: name.into(), root, sha256, bytes: length, modified: 0, skipped: None };
    writer.put(state, documents, &options.metadata)?;
    Ok(true)
}

/// A file is named by its path in its folder; where another folder's file has that name, the folder stands before it.
fn candidate(writer: &Writer<'_>, root: &Path, relative: &Path) -> Result<Candidate> {
    let name = document_path(relative);
    let root_name = root.to_string_lossy().into_owned();
    let taken = writer.file(&name)?.is_some_and(|state| state.root != root_name);
    let folder = root.file_name().unwrap_or_default().to_string_lossy();
    let name = if taken { format!("{folder}/{name}") } else { name };
    Ok(Candidate { path: root.join(relative), name, root: root_name })
}

/// Gives the reason if the file can't be read.
fn add_file(
    writer: &mut Writer<'_>,
    candidate: &Candidate,
    options: &Options<'_>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<Option<String>> {
    let known = writer.file(&candidate.name)?;
    let mut state = FileState {
        path: candidate.name.clone(),
        root: candidate.root.clone(),
        sha256: String::new(),
        bytes: 0,
        modified: 0,
        skipped: None,
    };
    let documents = read(&candidate.path, &mut state, known.as_ref(), &options.extract);
    let documents = match documents {
        Ok(Some(documents)) => documents,
        Ok(None) => {
            let skipped = known.and_then(|known| known.skipped);
            report.unchanged += usize::from(skipped.is_none());
            return Ok(skipped);
        }
        Err(reason) => {
            state.skipped = Some(reason.to_string());
            Vec::new()
        }
    };
    for (document, note) in
        documents.iter().flat_map(|document| document.notes.iter().map(move |n| (document, n)))
    {
        let text = format!("{}: {note}", document.path);
        progress.event(Event::Note { stage: STAGE, text: &text });
    }
    let reason = state.skipped.clone();
    writer.put(state, documents, &options.metadata)?;
    Ok(reason)
}

/// The file's documents; none if it is as it was. Fills in what is known of the file.
fn read(
    path: &Path,
    state: &mut FileState,
    known: Option<&FileState>,
    options: &ExtractOptions<'_>,
) -> Result<Option<Vec<Document>>, ExtractError> {
    let unreadable = |error: std::io::Error| ExtractError::Unreadable { reason: error.to_string() };
    let metadata = fs_err::metadata(path).map_err(unreadable)?;
    state.bytes = metadata.len();
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    state.modified = modified.map_or(0, |time| time.as_nanos() as i64);
    let same = |known: &FileState| (known.bytes, known.modified) == (state.bytes, state.modified);
    if let Some(known) = known.filter(|known| same(known)) {
        state.sha256.clone_from(&known.sha256);
        return Ok(None);
    }
    let kind = extract::kind_of(path).ok_or_else(|| ExtractError::UnknownType {
        extension: path.extension().unwrap_or_default().to_string_lossy().into_owned(),
    })?;
    if state.bytes > MAX_FILE_BYTES {
        return Err(ExtractError::TooLarge { bytes: state.bytes, limit: MAX_FILE_BYTES });
    }
    let bytes = fs_err::read(path).map_err(unreadable)?;
    state.sha256 = sha256(&bytes);
    Ok(Some(extract::extract_all(&state.path, kind, &bytes, options)?))
}
