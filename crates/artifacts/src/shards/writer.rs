//! Writes a folder of token shards, document by document; the folder appears when all of it is whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::file::{FOOTER_BYTES, HEADER_BYTES, MAGIC, Width, aligned};
use super::{FORMAT, MANIFEST, Manifest, ShardEntry, ShardsInfo, Source};
use crate::atomic::{PartialFile, PartialFolder};
use crate::hash::Hasher;
use crate::{Error, Result, atomic};

/// Dropped before [`Self::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct ShardWriter {
    folder: PartialFolder,
    manifest: Manifest,
    width: Width,
    max_shard_bytes: u64,
    open: Option<OpenShard>,
    /// The bytes of one document's ids.
    scratch: Vec<u8>,
}

/// The shard that documents go to now. Ids are on their way to the disk, the rest waits for the end of the file.
#[derive(Debug)]
struct OpenShard {
    file: PartialFile,
    hasher: Hasher,
    num_bytes: u64,
    num_tokens: u64,
    mask: Vec<u8>,
    starts: Vec<u64>,
    origin_starts: Vec<u64>,
    origins: Vec<u8>,
}

impl ShardWriter {
    /// Begins a folder; a shard ends with the document that takes it to `max_shard_bytes`.
    pub fn create(folder: &Path, info: ShardsInfo, max_shard_bytes: u64) -> Result<Self> {
        let ShardsInfo { tokenizer_sha256, vocab_size, end_of_document, has_mask } = info;
        if folder.exists() && (!folder.is_dir() || fs_err::read_dir(folder)?.next().is_some()) {
            return Err(Error::FolderInUse { path: folder.into() });
        }
        let manifest = Manifest {
            format: FORMAT,
            tokenizer_sha256,
            vocab_size,
            end_of_document,
            has_mask,
            num_documents: 0,
            num_tokens: 0,
            num_learned: 0,
            sources: Vec::new(),
            shards: Vec::new(),
        };
        let folder = PartialFolder::create(folder)?;
        let width = Width::of(vocab_size);
        Ok(Self { folder, manifest, width, max_shard_bytes, open: None, scratch: Vec::new() })
    }

    /// Adds a document. `mask` is given exactly where the shards have one; `origin` names source file and row.
    pub fn push(&mut self, ids: &[u32], mask: Option<&[bool]>, origin: &str) -> Result<()> {
        self.check(ids, mask, origin)?;
        let mut shard = match self.open.take() {
            Some(shard) => shard,
            None => OpenShard::create(&self.shard_path(), self.width)?,
        };
        self.scratch.clear();
        match self.width {
            Width::Two => self.scratch.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            Width::Four => self.scratch.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
        shard.write(&self.scratch)?;
        let learned = mask.map_or(ids.len(), |mask| mask.iter().filter(|learned| **learned).count());
        if let Some(mask) = mask {
            shard.push_mask(mask);
        }
        shard.num_tokens += ids.len() as u64;
        shard.starts.push(shard.num_tokens);
        shard.origins.extend_from_slice(origin.as_bytes());
        shard.origin_starts.push(shard.origins.len() as u64);
        self.manifest.num_documents += 1;
        self.manifest.num_tokens += ids.len() as u64;
        self.manifest.num_learned += learned as u64;
        if shard.size_at_end() >= self.max_shard_bytes {
            self.end_shard(shard)
        } else {
            self.open = Some(shard);
            Ok(())
        }
    }

    /// Names a file that documents came from, for the lineage.
    pub fn add_source(&mut self, source: Source) {
        self.manifest.sources.push(source);
    }

    pub fn num_documents(&self) -> u64 {
        self.manifest.num_documents
    }

    pub fn num_tokens(&self) -> u64 {
        self.manifest.num_tokens
    }

    /// Ends the last shard, writes `shards.json` and gives the folder its name.
    pub fn finish(mut self) -> Result<Manifest> {
        if let Some(shard) = self.open.take() {
            self.end_shard(shard)?;
        }
        atomic::write_json(&self.folder.inside().join(MANIFEST), &self.manifest)?;
        self.folder.commit()?;
        Ok(self.manifest)
    }

    fn check(&self, ids: &[u32], mask: Option<&[bool]>, origin: &str) -> Result<()> {
        let vocab_size = self.manifest.vocab_size;
        let problem = if let Some(id) = ids.iter().find(|id| **id >= vocab_size) {
            format!("holds token id `{id}`, which isn't in the vocabulary of `{vocab_size}`")
        } else if u32::try_from(ids.len()).is_err() {
            format!("has `{}` tokens, but a document may have 2^32 - 1 at most", ids.len())
        } else if mask.is_some() != self.manifest.has_mask {
            let (is, others) = if mask.is_some() { ("a", "none") } else { ("no", "one") };
            format!("has {is} loss mask, but these shards have {others}")
        } else if let Some(mask) = mask.filter(|mask| mask.len() != ids.len()) {
            format!("has `{}` tokens, but a loss mask of `{}`", ids.len(), mask.len())
        } else {
            return Ok(());
        };
        Err(Error::ShardDocument { origin: origin.into(), problem })
    }

    fn shard_path(&self) -> PathBuf {
        self.folder.inside().join(format!("{:05}.tok", self.manifest.shards.len()))
    }

    fn end_shard(&mut self, shard: OpenShard) -> Result<()> {
        let name = format!("{:05}.tok", self.manifest.shards.len());
        self.manifest.shards.push(shard.end(name, self.manifest.has_mask)?);
        Ok(())
    }
}

impl OpenShard {
    fn create(path: &Path, width: Width) -> Result<Self> {
        let mut shard = Self {
            file: PartialFile::create(path)?,
            hasher: Hasher::default(),
            num_bytes: 0,
            num_tokens: 0,
            mask: Vec::new(),
            starts: vec![0],
            origin_starts: vec![0],
            origins: Vec::new(),
        };
        shard.write(MAGIC)?;
        shard.write(&FORMAT.to_le_bytes())?;
        shard.write(&(width.bytes() as u32).to_le_bytes())?;
        debug_assert_eq!(shard.num_bytes, HEADER_BYTES, "the layout and its writer");
        Ok(shard)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.num_bytes += bytes.len() as u64;
        Ok(self.file.write_all(bytes)?)
    }

    fn push_mask(&mut self, mask: &[bool]) {
        for (token, learned) in (self.num_tokens as usize..).zip(mask) {
            if token.is_multiple_of(8) {
                self.mask.push(0);
            }
            if let Some(last) = self.mask.last_mut() {
                *last |= u8::from(*learned) << (token % 8);
            }
        }
    }

    /// How large the file gets if it ends now.
    fn size_at_end(&self) -> u64 {
        let tables = (self.starts.len() + self.origin_starts.len()) as u64 * 8;
        self.num_bytes + tables + (self.mask.len() + self.origins.len()) as u64 + FOOTER_BYTES
    }

    fn end(mut self, name: String, has_mask: bool) -> Result<ShardEntry> {
        let tables = [std::mem::take(&mut self.mask), bytes_of(&self.starts), bytes_of(&self.origin_starts)];
        let origins = std::mem::take(&mut self.origins);
        let num_documents = self.starts.len() as u64 - 1;
        let footer = [num_documents, self.num_tokens, origins.len() as u64, u64::from(has_mask)];
        for section in tables.into_iter().chain([origins, bytes_of(&footer)]) {
            let padding = aligned(self.num_bytes) - self.num_bytes;
            self.write(&[0; 8][..padding as usize])?;
            self.write(&section)?;
        }
        self.write(MAGIC)?;
        let Self { file, hasher, num_bytes, num_tokens, .. } = self;
        file.commit()?;
        Ok(ShardEntry { file: name, num_documents, num_tokens, num_bytes, sha256: hasher.finish() })
    }
}

fn bytes_of(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
