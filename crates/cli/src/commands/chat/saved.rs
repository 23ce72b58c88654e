//! A conversation as a file: `{"version": 1, "model": …, "messages": [{"role", "content"} …]}`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use hearth_artifacts::atomic;
use hearth_tokenizer::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The model that gave the answers.
    pub(super) model: String,
    pub(super) messages: Vec<Message>,
}

impl Saved {
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut value = serde_json::json!({ "version": VERSION });
        value["model"] = self.model.clone().into();
        value["messages"] = serde_json::to_value(&self.messages)?;
        Ok(atomic::write_json(path, &value)?)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_slice(&fs_err::read(path)?)
            .with_context(|| format!("`{}` isn't a saved conversation", path.display()))?;
        match &value["version"] {
            version if version == VERSION => {}
            version => bail!("`{}` has version {version}, this program reads {VERSION}", path.display()),
        }
        serde_json::from_value(value)
            .with_context(|| format!("`{}` isn't a saved conversation", path.display()))
    }
}
