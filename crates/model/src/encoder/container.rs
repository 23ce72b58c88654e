//! The `E5S1` container: numbers, Unigram vocabulary with its character map, then tensors by name.
//!
//! Little-endian, in this order: magic `E5S1`, version; the fields of [`Config`] and the block length; pieces with
//! the ids of special tokens, offsets, log-probabilities and spellings; entries of the character map; the
//! directory of tensors with offsets from the start of the file; the tensors, f32 (type 0) or ggml's `Q4_0` (type 1).
//! All tensors together may not be larger than the file, so nothing larger is ever loaded.

use std::collections::BTreeMap;
use std::path::Path;

use hearth_kernels::quant::Format;
use hearth_tokenizer::normalizer::{CharacterMap, Normalizer};
use hearth_tokenizer::{Kind, TokenId, TokenKind, Vocabulary};

use super::error::{Error, Result};
use super::source::Source;
use super::tensors::{Config, LayerPart, Place, Pooling, Table, Tensors};
use crate::files;

const MAGIC: [u8; 4] = *b"E5S1";
const VERSION: u32 = 1;

/// Spelling of the piece that masked-word training used: no text may become it.
const MASK_PIECE: &str = "<mask>";

#[derive(Debug)]
struct Entry {
    format: u8,
    num_elements: u64,
    offset: u64,
    bytes: u64,
}

/// An open container whose head has been read and checked.
#[derive(Debug)]
pub(super) struct Container {
    config: Config,
    entries: BTreeMap<String, Entry>,
    source: Source,
}

impl Container {
    /// Reads everything but the tensors.
    pub(super) fn open(path: &Path) -> Result<(Self, Vocabulary)> {
        let mut source = Source::open(path)?;
        let config = read_config(&mut source)?;
        let vocabulary = read_vocabulary(&mut source, &config)?;
        let entries = read_entries(&mut source)?;
        Ok((Self { config, entries, source }, vocabulary))
    }

    fn stored(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Format, Vec<u8>)> {
        let path = self.source.path();
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| files::Error::MissingTensor { path: path.into(), tensor: name.into() })?;
        let format = match entry.format {
            0 => Format::F32,
            1 => Format::Q4_0,
            other => {
                let (path, tensor, format) = (path.into(), name.into(), format!("type {other}"));
                return Err(files::Error::UnsupportedFormat { path, tensor, format }.into());
            }
        };
        let what = format!("tensor `{name}`");
        if entry.num_elements != rows as u64 * cols as u64 {
            let problem = format!("has {} weights, expected {rows} × {cols}", entry.num_elements);
            return Err(self.source.malformed(&what, problem).into());
        }
        let Some(row_bytes) = format.row_bytes(cols) else {
            let problem = format!("has rows of {cols}, which aren't whole blocks of {format:?}");
            return Err(self.source.malformed(&what, problem).into());
        };
        let expected = row_bytes as u64 * rows as u64;
        if entry.bytes != expected {
            let problem = format!("has {} bytes, expected {expected}", entry.bytes);
            return Err(self.source.malformed(&what, problem).into());
        }
        self.source.seek(entry.offset)?;
        Ok((format, self.source.bytes(expected, &what)?))
    }

    fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (format, bytes) = self.stored(name, 1, len)?;
        let what = format!("tensor `{name}`");
        if format != Format::F32 {
            return Err(self
                .source
                .malformed(&what, format!("is stored as {format:?}, expected F32"))
                .into());
        }
        let values = floats(&bytes);
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let problem = format!("holds `{}` at {index}, expected a finite number", values[index]);
                Err(self.source.malformed(&what, problem).into())
            }
            None => Ok(values),
        }
    }
}

impl Tensors for Container {
    fn config(&self) -> &Config {
        &self.config
    }

    fn matrix(&mut self, place: Place, rows: usize, cols: usize) -> Result<(Format, Vec<u8>)> {
        self.stored(&weight_name(place), rows, cols)
    }

    fn table(&mut self, place: Place, rows: usize, cols: usize) -> Result<Table> {
        let (format, bytes) = self.matrix(place, rows, cols)?;
        Ok(Table::Held { format, bytes })
    }

    fn vector(&mut self, place: Place, len: usize) -> Result<Vec<f32>> {
        self.floats(&weight_name(place), len)
    }

    fn bias(&mut self, place: Place, len: usize) -> Result<Vec<f32>> {
        self.floats(&format!("{}.b", name(place)), len)
    }

    fn malformed(&self, place: Place, problem: String) -> files::Error {
        self.source.malformed(&format!("tensor `{}`", weight_name(place)), problem)
    }
}

/// As the container calls it.
fn name(place: Place) -> String {
    let (index, part) = match place {
        Place::Words => return "emb.word".into(),
        Place::Positions => return "emb.pos".into(),
        Place::Types => return "emb.type".into(),
        Place::EmbeddingNorm => return "emb.ln".into(),
        Place::Layer(index, part) => (index, part),
    };
    let part = match part {
        LayerPart::Query => "q",
        LayerPart::Key => "k",
        LayerPart::Value => "v",
        LayerPart::AttentionOutput => "ao",
        LayerPart::AttentionNorm => "aln",
        LayerPart::Intermediate => "fi",
        LayerPart::Output => "fo",
        LayerPart::OutputNorm => "oln",
    };
    format!("l{index}.{part}")
}

/// Tables have no suffix, everything else has one.
fn weight_name(place: Place) -> String {
    let name = name(place);
    match place {
        Place::Words | Place::Positions | Place::Types => name,
        Place::EmbeddingNorm | Place::Layer(..) => name + ".w",
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn read_config(source: &mut Source) -> Result<Config> {
    let magic = source.bytes(4, "magic")?;
    if magic != MAGIC {
        let problem = format!("is `{}`, expected `E5S1`", magic.escape_ascii());
        return Err(source.malformed("magic", problem).into());
    }
    let version = source.u32("version")?;
    if version != VERSION {
        return Err(source.malformed("version", format!("is `{version}`, expected {VERSION}")).into());
    }
    let mut config = Config {
        hidden_size: source.count(1, "hidden_size")?,
        num_layers: source.count(1, "num_layers")?,
        num_heads: source.count(1, "num_heads")?,
        intermediate_size: source.count(1, "intermediate_size")?,
        vocab_size: source.count(1, "vocab_size")?,
        max_position_embeddings: source.count(1, "max_position_embeddings")?,
        type_vocab_size: source.count(1, "type_vocab_size")?,
        layer_norm_eps: source.f32("layer_norm_eps")?,
        first_position: 0,
        max_tokens: 0,
        pooling: Pooling::Mean,
    };
    config.max_tokens = config.max_position_embeddings;
    if !config.hidden_size.is_multiple_of(config.num_heads) {
        let problem =
            format!("`{}` isn't a multiple of `num_heads` {}", config.hidden_size, config.num_heads);
        return Err(source.malformed("hidden_size", problem).into());
    }
    let eps = config.layer_norm_eps;
    if !(eps.is_finite() && eps > 0.0) {
        let problem = format!("is `{eps}`, expected a small positive number");
        return Err(source.malformed("layer_norm_eps", problem).into());
    }
    let block_len = source.count(1, "block length")?;
    let expected = Format::Q4_0.block_len();
    if block_len != expected {
        let problem = format!("is `{block_len}`, expected {expected}");
        return Err(source.malformed("block length", problem).into());
    }
    Ok(config)
}

fn read_vocabulary(source: &mut Source, config: &Config) -> Result<Vocabulary> {
    let num_pieces = source.count(1, "number of pieces")?;
    if num_pieces > config.vocab_size {
        let problem = format!("is `{num_pieces}`, but `vocab_size` is {}", config.vocab_size);
        return Err(source.malformed("number of pieces", problem).into());
    }
    let mut special = |what| -> Result<TokenId> {
        let id = source.count(0, what)?;
        if id >= num_pieces {
            let problem = format!("is `{id}`, but there are {num_pieces} pieces");
            return Err(source.malformed(what, problem).into());
        }
        Ok(id as TokenId)
    };
    let (bos, eos, pad, unk) = (special("bos")?, special("eos")?, special("pad")?, special("unk")?);
    let spelling_bytes = source.u64("length of spellings")?;
    let offsets = source.bytes((num_pieces as u64 + 1) * 4, "offsets of pieces")?;
    let scores = floats(&source.bytes(num_pieces as u64 * 4, "scores of pieces")?);
    if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
        let problem = format!("is `{}`, expected a finite number", scores[index]);
        return Err(source.malformed(&format!("score of piece {index}"), problem).into());
    }
    let spellings = source.bytes(spelling_bytes, "spellings of pieces")?;
    let tokens = split_pieces(source, &offsets, &spellings)?;
    let mut token_kinds = vec![TokenKind::Normal; num_pieces];
    for (kind, token) in token_kinds.iter_mut().zip(&tokens) {
        if token == MASK_PIECE {
            *kind = TokenKind::Control;
        }
    }
    for id in [bos, eos, pad] {
        token_kinds[id as usize] = TokenKind::Control;
    }
    token_kinds[unk as usize] = TokenKind::Unknown;
    let num_entries = source.count(0, "entries of the character map")?;
    let map_bytes = source.u32("length of the character map")?;
    let map = source.bytes(u64::from(map_bytes), "character map")?;
    let map = CharacterMap::parse(num_entries, &map)
        .map_err(|error| Error::Tokenizer { path: source.path().into(), source: error })?;
    Ok(Vocabulary {
        scores,
        token_kinds,
        bos: Some(bos),
        eos: Some(eos),
        unk: Some(unk),
        pad: Some(pad),
        add_bos: true,
        add_eos: true,
        normalizers: vec![Normalizer::CharacterMap(map), Normalizer::CollapseSpaces],
        ..Vocabulary::new(Kind::Unigram, tokens)
    })
}

/// Cuts the spellings apart. Offsets are four bytes each, one more than there are pieces.
fn split_pieces(source: &Source, offsets: &[u8], spellings: &[u8]) -> Result<Vec<String>> {
    let offsets = offsets.as_chunks::<4>().0;
    let pairs = offsets.iter().zip(&offsets[1..]).enumerate();
    let pieces = pairs.map(|(index, (start, end))| {
        let (start, end) = (u32::from_le_bytes(*start), u32::from_le_bytes(*end));
        let bytes = spellings.get(start as usize..end as usize).ok_or_else(|| {
            let problem = format!("lies at `{start}..{end}` of {} bytes", spellings.len());
            source.malformed(&format!("piece {index}"), problem)
        })?;
        let piece = std::str::from_utf8(bytes).map_err(|error| {
            let problem = format!("isn't UTF-8 after byte {}", error.valid_up_to());
            source.malformed(&format!("piece {index}"), problem)
        })?;
        Ok(piece.to_owned())
    });
    pieces.collect()
}

fn read_entries(source: &mut Source) -> Result<BTreeMap<String, Entry>> {
    let num_tensors = source.count(1, "number of tensors")?;
    let mut entries = BTreeMap::new();
    let mut total_bytes = 0_u64;
    for index in 0..num_tensors {
        let what = format!("directory entry {index}");
        let name_bytes = source.u16(&what)?;
        let name = String::from_utf8(source.bytes(u64::from(name_bytes), &what)?)
            .map_err(|_| source.malformed(&what, "has a name that isn't UTF-8"))?;
        let entry = Entry {
            format: source.u8(&what)?,
            num_elements: u64::from(source.u32(&what)?),
            offset: source.u64(&what)?,
            bytes: source.u64(&what)?,
        };
        total_bytes = total_bytes.saturating_add(entry.bytes);
        if total_bytes > source.len() {
            let problem = format!("takes the tensors to {total_bytes} bytes, the file has {}", source.len());
            return Err(source.malformed(&format!("tensor `{name}`"), problem).into());
        }
        if entries.insert(name.clone(), entry).is_some() {
            return Err(source.malformed(&format!("tensor `{name}`"), "is named twice").into());
        }
    }
    Ok(entries)
}
