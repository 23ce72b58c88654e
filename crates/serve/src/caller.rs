//! Who asks: the key a request came with, and the application it names.

use std::sync::Arc;

use crate::ledger::Key;

/// The sender of a request. Without keys everybody on this machine is one caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub(crate) key: Option<Arc<Key>>,
    /// What the header `x-hearth-app` says; a label for the accounts.
    pub(crate) app: String,
}

impl Caller {
    /// Id of the key in the accounts; empty without one.
    pub(crate) fn key_id(&self) -> &str {
        self.key.as_ref().map_or("", |key| &key.id)
    }

    /// Whom the engine takes turns between.
    pub(crate) fn client(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.id.clone())
    }
}
