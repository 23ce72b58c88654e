//! The layout of one shard file, little-endian; each section starts at a multiple of 8 bytes.
//!
//! 1. `hearthtk`, the format's version (u32), bytes an id takes (u32: 2 or 4);
//! 2. the ids of all documents;
//! 3. with a mask: a bit a token, the lowest first;
//! 4. where each document starts (u64, in tokens), and behind the last one where it ends;
//! 5. where each origin starts (u64, in bytes), and behind the last one where it ends; then the origins in UTF-8;
//! 6. the numbers of documents, tokens and bytes of origins (u64 each), 1 or 0 for a mask (u64), `hearthtk`.
//!
//! The counts come last so that a writer needs no second pass. The file's sha256 stands in `shards.json`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::map::{self, Mmap};

use super::{Document, FORMAT, Manifest, ShardEntry};
use crate::{Error, Result};

pub(super) const MAGIC: &[u8; 8] = b"hearthtk";
pub(super) const HEADER_BYTES: u64 = 16;
pub(super) const FOOTER_BYTES: u64 = 40;

/// Bytes an id takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
}

impl Width {
    pub(super) fn of(vocab_size: u32) -> Self {
        if vocab_size <= 1 << 16 { Self::Two } else { Self::Four }
    }

    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// The next multiple of 8.
pub(super) fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(8)
}

/// A mapped file, with the places of its sections.
#[derive(Debug)]
pub(super) struct ShardFile {
    path: PathBuf,
    map: Mmap,
    width: Width,
    vocab_size: u32,
    num_documents: u64,
    num_tokens: u64,
    mask: Option<Range<usize>>,
    starts: Range<usize>,
    origin_starts: Range<usize>,
    origins: Range<usize>,
}

impl ShardFile {
    pub(super) fn open(path: &Path, entry: &ShardEntry, manifest: &Manifest) -> Result<Self> {
        let damaged = |reason: String| Error::ShardDamaged { path: path.into(), reason };
        let num_bytes = fs_err::metadata(path)?.len();
        if num_bytes != entry.num_bytes || num_bytes < HEADER_BYTES + FOOTER_BYTES {
            return Err(damaged(format!(
                "it has `{num_bytes}` bytes, but shards.json says `{}`",
                entry.num_bytes
            )));
        }
        let map = map::map(path)?;
        let width = Width::of(manifest.vocab_size);
        if map[..8] != *MAGIC || map[map.len() - 8..] != *MAGIC {
            return Err(damaged("it doesn't begin and end with `hearthtk`".into()));
        }
        let (version, found_width) = (u32_at(&map, 8), u32_at(&map, 12));
        if version != FORMAT {
            return Err(Error::ShardFormat { path: path.into(), found: version, expected: FORMAT });
        }
        if u64::from(found_width) != width.bytes() {
            let expected = width.bytes();
            return Err(damaged(format!("its ids take `{found_width}` bytes, expected `{expected}`")));
        }
        let footer = map.len() - FOOTER_BYTES as usize;
        let [num_documents, num_tokens, origin_bytes, mask_flag] =
            [0, 8, 16, 24].map(|offset| u64_at(&map, footer + offset));
        if (num_documents, num_tokens) != (entry.num_documents, entry.num_tokens) {
            return Err(damaged(format!(
                "it holds `{num_documents}` documents and `{num_tokens}` tokens, but shards.json says `{}` and `{}`",
                entry.num_documents, entry.num_tokens
            )));
        }
        if mask_flag != u64::from(manifest.has_mask) {
            return Err(damaged(format!("its mask flag is `{mask_flag}`, but shards.json says otherwise")));
        }
        let sections = sections(width, manifest.has_mask, [num_documents, num_tokens, origin_bytes]);
        let sections = sections.filter(|sections| sections.end == footer);
        let Some(Sections { mask, starts, origin_starts, origins, end: _ }) = sections else {
            return Err(damaged(format!("its sections don't add up to its `{num_bytes}` bytes")));
        };
        let mask = manifest.has_mask.then_some(mask);
        let (path, vocab_size) = (path.into(), manifest.vocab_size);
        Ok(Self {
            path,
            map,
            width,
            vocab_size,
            num_documents,
            num_tokens,
            mask,
            starts,
            origin_starts,
            origins,
        })
    }

    /// All ids, boundaries and origins are what they may be.
    pub(super) fn verify(&self) -> Result<()> {
        let mut lengths = Vec::new();
        self.lengths_into(&mut lengths)?;
        for index in 0..self.num_documents {
            self.origin(index)?;
        }
        let mut ids = Vec::new();
        let mut at = 0;
        while at < self.num_tokens {
            let end = self.num_tokens.min(at + (1 << 16));
            ids.clear();
            self.ids_into(at..end, &mut ids)?;
            at = end;
        }
        Ok(())
    }

    pub(super) fn document(&self, index: u64) -> Result<Document<'_>> {
        let start = self.entry(&self.starts, index);
        let end = self.entry(&self.starts, index + 1);
        let len = end.checked_sub(start).and_then(|len| u32::try_from(len).ok());
        match len.filter(|_| end <= self.num_tokens) {
            Some(len) => Ok(Document { shard: self, index, start, len }),
            None => Err(self.damaged(format!("document {index} reaches from token `{start}` to `{end}`"))),
        }
    }

    pub(super) fn lengths_into(&self, lengths: &mut Vec<u32>) -> Result<()> {
        for index in 0..self.num_documents {
            lengths.push(self.document(index)?.len);
        }
        let ends = (self.entry(&self.starts, 0), self.entry(&self.starts, self.num_documents));
        if ends != (0, self.num_tokens) {
            return Err(self.damaged(format!("its documents reach from token `{}` to `{}`", ends.0, ends.1)));
        }
        Ok(())
    }

    pub(super) fn ids_into(&self, tokens: Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        let width = self.width.bytes();
        let first = (HEADER_BYTES + tokens.start * width) as usize;
        let end = (HEADER_BYTES + tokens.end * width) as usize;
        let bytes = &self.map[first..end];
        let from = out.len();
        match self.width {
            Width::Two => out.extend(bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_le_bytes(*id)))),
            Width::Four => out.extend(bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id))),
        }
        match out[from..].iter().max() {
            Some(largest) if *largest >= self.vocab_size => Err(self
                .damaged(format!("token id `{largest}` isn't in the vocabulary of `{}`", self.vocab_size))),
            _ => Ok(()),
        }
    }

    pub(super) fn mask_into(&self, tokens: Range<u64>, out: &mut Vec<bool>) {
        match &self.mask {
            None => out.resize(out.len() + (tokens.end - tokens.start) as usize, true),
            Some(section) => {
                let bits = &self.map[section.clone()];
                out.extend(tokens.map(|token| bits[(token / 8) as usize] >> (token % 8) & 1 == 1));
            }
        }
    }

    pub(super) fn origin(&self, index: u64) -> Result<&str> {
        let start = self.entry(&self.origin_starts, index) as usize;
        let end = self.entry(&self.origin_starts, index + 1) as usize;
        let bytes = self.map[self.origins.clone()].get(start..end);
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.ok_or_else(|| self.damaged(format!("the origin of document {index} can't be read")))
    }

    /// Gives the documents that hold `ids`, each once, until `limit` are found.
    pub(super) fn find(&self, ids: &[u32], limit: usize, mut found: impl FnMut(u64)) -> Result<()> {
        let mut document = Vec::new();
        let mut num_found = 0;
        for index in 0..self.num_documents {
            document.clear();
            self.document(index)?.ids_into(&mut document)?;
            if num_found < limit && holds(&document, ids) {
                found(index);
                num_found += 1;
            }
        }
        Ok(())
    }

    fn entry(&self, table: &Range<usize>, index: u64) -> u64 {
        u64_at(&self.map[table.clone()], index as usize * 8)
    }

    fn damaged(&self, reason: String) -> Error {
        Error::ShardDamaged { path: self.path.clone(), reason }
    }
}

fn holds(document: &[u32], ids: &[u32]) -> bool {
    let Some((first, rest)) = ids.split_first() else { return true };
    let mut at = 0;
    while let Some(found) = document[at..].iter().position(|id| id == first) {
        at += found + 1;
        if document[at..].starts_with(rest) {
            return true;
        }
    }
    false
}

struct Sections {
    mask: Range<usize>,
    starts: Range<usize>,
    origin_starts: Range<usize>,
    origins: Range<usize>,
    end: usize,
}

/// Where the sections lie by the counts of the footer; `None` if they would lie beyond any file.
fn sections(width: Width, has_mask: bool, counts: [u64; 3]) -> Option<Sections> {
    let [num_documents, num_tokens, origin_bytes] = counts;
    let mut at = usize::try_from(HEADER_BYTES).ok()?;
    let mut section = |bytes: Option<u64>| {
        let start = at;
        let bytes = bytes?;
        let next = bytes.checked_next_multiple_of(8)?;
        at = at.checked_add(usize::try_from(next).ok()?)?;
        Some(start..start + bytes as usize)
    };
    let table = num_documents.checked_add(1).and_then(|entries| entries.checked_mul(8));
    section(num_tokens.checked_mul(width.bytes()))?;
    let mask = section(Some(if has_mask { num_tokens.div_ceil(8) } else { 0 }))?;
    let starts = section(table)?;
    let origin_starts = section(table)?;
    let origins = section(Some(origin_bytes))?;
    Some(Sections { mask, starts, origin_starts, origins, end: at })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}
