//! Pictures and scanned pages among documents: the model that reads them is pulled and opened when the first one comes.

use std::sync::{Arc, OnceLock};

use hearth_artifacts::progress::Progress;
use hearth_knowledge::extract::ExtractOptions;
use hearth_knowledge::picture::{Picture, PictureLine, PictureReader};
use hearth_media::{OcrLine, OcrModel};

use crate::args::DEFAULT_OCR_MODEL;
use crate::models::Machine;

/// Reads pictures with the default model.
pub(crate) struct Pictures<'a> {
    machine: &'a Machine,
    progress: &'a dyn Progress,
    /// Why it can't be had is said of every picture, but tried once.
    model: OnceLock<Result<OcrModel, String>>,
}

impl<'a> Pictures<'a> {
    pub(crate) fn new(machine: &'a Machine, progress: &'a dyn Progress) -> Self {
        Self { machine, progress, model: OnceLock::new() }
    }

    /// What readers of documents are given.
    pub(crate) fn options(&self) -> ExtractOptions<'_> {
        ExtractOptions { pictures: Some(self) }
    }

    fn open(&self) -> Result<OcrModel, String> {
        let local = self.machine.pull(DEFAULT_OCR_MODEL, self.progress);
        let local = local.map_err(|error| format!("no model that reads pictures: {error:#}"))?;
        OcrModel::open_with(&local.path, Arc::clone(&self.machine.pool)).map_err(|error| error.to_string())
    }
}

impl PictureReader for Pictures<'_> {
    fn read(&self, picture: &Picture) -> Result<Vec<PictureLine>, String> {
        let model = self.model.get_or_init(|| self.open()).as_ref().map_err(Clone::clone)?;
        let lines = model.read(&picture.rgb, picture.width, picture.height);
        let lines = lines.map_err(|error| error.to_string())?;
        Ok(lines.into_iter().map(|OcrLine { text, score, quad }| PictureLine { text, score, quad }).collect())
    }
}
