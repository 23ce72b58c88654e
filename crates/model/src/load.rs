//! A model on disk to a model in memory: shapes checked, weights packed, tokenizer and template built.
//!
//! In: a GGUF file, or a Hugging Face folder (config.json, safetensors, tokenizer.json).
//!
//! * `weights` — tensors by the family's names to packed layers

mod weights;

use std::path::Path;
use std::sync::Arc;

use hearth_kernels::pool::Pool;
use hearth_tokenizer::{ChatFormat, Tokenizer};

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::files::{self, GgufFile, SafetensorsFolder, vocabulary};
use weights::Source;

pub(crate) use weights::module_shape;

/// A decoder with its tokenizer and its conversation format.
#[derive(Debug)]
pub struct Model {
    pub decoder: Decoder,
    pub chat: ChatFormat,
}

impl Model {
    /// Opens a `.gguf` file or a folder with `config.json`.
    pub fn open(path: &Path, pool: &Pool) -> Result<Self> {
        if path.is_dir() {
            if !path.join("config.json").is_file() {
                return Err(Error::NotAModel { path: path.into() });
            }
            return Self::open_folder(path, pool);
        }
        let file = GgufFile::open(path)?;
        let config = ModelConfig::from_gguf(&file)?;
        let tokenizer = Arc::new(Tokenizer::from_parts(vocabulary::vocabulary(&file)?)?);
        check_vocabulary(&tokenizer, &config)?;
        let template = vocabulary::chat_template(&file)?;
        let chat = ChatFormat::new(tokenizer, template)?;
        let decoder = weights::decoder(&Source::gguf(&file, &config), config, pool)?;
        Ok(Self { decoder, chat })
    }

    fn open_folder(path: &Path, pool: &Pool) -> Result<Self> {
        let folder = SafetensorsFolder::open(path)?;
        let config = ModelConfig::from_folder(&folder)?;
        let json = fs_err::read(path.join("tokenizer.json")).map_err(files::Error::from)?;
        let tokenizer = Arc::new(Tokenizer::from_json(&json)?);
        check_vocabulary(&tokenizer, &config)?;
        let template = folder_template(path)?;
        let chat = ChatFormat::new(tokenizer, template.as_deref())?;
        let decoder = weights::decoder(&Source::folder(&folder, &config), config, pool)?;
        Ok(Self { decoder, chat })
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.chat.tokenizer()
    }

    pub fn config(&self) -> &ModelConfig {
        &self.decoder.config
    }
}

impl Decoder {
    /// Opens the weights alone of a `.gguf` file or a folder with `config.json`: for tokens that are ids already.
    pub fn open(path: &Path, pool: &Pool) -> Result<Self> {
        if path.is_dir() {
            let folder = SafetensorsFolder::open(path)?;
            let config = ModelConfig::from_folder(&folder)?;
            return weights::decoder(&Source::folder(&folder, &config), config, pool);
        }
        let file = GgufFile::open(path)?;
        let config = ModelConfig::from_gguf(&file)?;
        weights::decoder(&Source::gguf(&file, &config), config, pool)
    }
}

/// `chat_template.jinja`, or the template inside `tokenizer_config.json`.
pub fn folder_template(path: &Path) -> Result<Option<String>> {
    let file = path.join("chat_template.jinja");
    if file.is_file() {
        return Ok(Some(fs_err::read_to_string(file).map_err(files::Error::from)?));
    }
    let config = path.join("tokenizer_config.json");
    if !config.is_file() {
        return Ok(None);
    }
    Ok(hearth_tokenizer::chat_template(&fs_err::read(config).map_err(files::Error::from)?)?)
}

/// The embedding may be padded beyond the vocabulary, never the other way round.
fn check_vocabulary(tokenizer: &Tokenizer, config: &ModelConfig) -> Result<()> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    let what = format!("the tokenizer has {tokens} tokens, the embedding only {rows} rows");
    Err(Error::Config { what })
}
