//! A model on disk to a model in memory: shapes checked, weights packed, tokenizer and template built.
//!
//! In: a GGUF file, or a Hugging Face folder (config.json, safetensors, tokenizer.json). Tensors are packed in
//! parallel; the file is mapped and its pages are let go as they are packed.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::pool::Pool;
use hearth_tensor::weight::{Linear, Param};
use hearth_tokenizer::{ChatFormat, Tokenizer};

use crate::config::{Family, ModelConfig};
use crate::decoder::{Decoder, Layer, Projection};
use crate::error::{Error, Result};
use crate::files::{self, GgufFile, SafetensorsFolder, TensorView, vocabulary};

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
        let decoder = decoder(&Source::Gguf(&file), config, pool)?;
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
        let decoder = decoder(&Source::Folder(&folder), config, pool)?;
        Ok(Self { decoder, chat })
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.chat.tokenizer()
    }

    pub fn config(&self) -> &ModelConfig {
        &self.decoder.config
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

/// Where tensors come from, and what they are called there.
enum Source<'a> {
    Gguf(&'a GgufFile),
    Folder(&'a SafetensorsFolder),
}

impl Source<'_> {
    fn find(&self, name: &str) -> Option<TensorView<'_>> {
        match self {
            Self::Gguf(file) => file.tensor(name),
            Self::Folder(folder) => folder.tensor(name),
        }
    }

    fn require(&self, name: &str) -> Result<TensorView<'_>> {
        Ok(match self {
            Self::Gguf(file) => file.require(name)?,
            Self::Folder(folder) => folder.require(name)?,
        })
    }

    fn embedding(&self) -> &'static str {
        match self {
            Self::Gguf(_) => "token_embd.weight",
            Self::Folder(_) => "model.embed_tokens.weight",
        }
    }

    fn final_norm(&self) -> &'static str {
        match self {
            Self::Gguf(_) => "output_norm.weight",
            Self::Folder(_) => "model.norm.weight",
        }
    }

    fn head(&self) -> &'static str {
        match self {
            Self::Gguf(_) => "output.weight",
            Self::Folder(_) => "lm_head.weight",
        }
    }

    /// The name of a layer's norm: before attention or before the MLP.
    fn norm(&self, layer: usize, attention: bool) -> String {
        match (self, attention) {
            (Self::Gguf(_), true) => format!("blk.{layer}.attn_norm.weight"),
            (Self::Gguf(_), false) => format!("blk.{layer}.ffn_norm.weight"),
            (Self::Folder(_), true) => format!("model.layers.{layer}.input_layernorm.weight"),
            (Self::Folder(_), false) => format!("model.layers.{layer}.post_attention_layernorm.weight"),
        }
    }

    /// The name of a projection without `.weight` or `.bias`.
    fn projection(&self, layer: usize, which: Projection) -> String {
        match self {
            Self::Gguf(_) => {
                let name = match which {
                    Projection::Q => "attn_q",
                    Projection::K => "attn_k",
                    Projection::V => "attn_v",
                    Projection::O => "attn_output",
                    Projection::Gate => "ffn_gate",
                    Projection::Up => "ffn_up",
                    Projection::Down => "ffn_down",
                };
                format!("blk.{layer}.{name}")
            }
            Self::Folder(_) => {
                format!("model.layers.{layer}.{}.{}", which.module(), which.name())
            }
        }
    }
}

/// `[out_features, in_features]` of a projection.
pub(crate) fn projection_shape(config: &ModelConfig, which: Projection) -> [usize; 2] {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
    match which {
        Projection::Q => [q, hidden],
        Projection::K | Projection::V => [kv, hidden],
        Projection::O => [hidden, q],
        Projection::Gate | Projection::Up => [mlp, hidden],
        Projection::Down => [hidden, mlp],
    }
}

fn decoder(source: &Source<'_>, config: ModelConfig, pool: &Pool) -> Result<Decoder> {
    let slots: Vec<Mutex<Option<Result<Layer>>>> = (0..config.num_layers).map(|_| Mutex::new(None)).collect();
    pool.run(config.num_layers, &|index| {
        let loaded = layer(source, &config, index);
        *slots[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(loaded);
    });
    let layers = slots
        .into_iter()
        .map(|slot| {
            let slot = slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            slot.expect("every task has run")
        })
        .collect::<Result<_>>()?;
    let table = [config.vocab_size, config.hidden_size];
    let embedding = plain(matrix(source, source.embedding(), table, Some(pool))?);
    let head = match source.find(source.head()) {
        Some(_) => plain(matrix(source, source.head(), table, Some(pool))?),
        None => embedding.clone(),
    };
    let norm = vector(source, source.final_norm(), config.hidden_size)?;
    Ok(Decoder { config, embedding, layers, norm, head })
}

fn plain(weight: Arc<PackedMatrix>) -> Linear {
    Linear { weight, bias: None, lora: None }
}

fn layer(source: &Source<'_>, config: &ModelConfig, index: usize) -> Result<Layer> {
    let linear = |which: Projection| -> Result<Linear> {
        let name = source.projection(index, which);
        let shape = projection_shape(config, which);
        let weight = matrix(source, &format!("{name}.weight"), shape, None)?;
        let bias_name = format!("{name}.bias");
        let bias = match source.find(&bias_name) {
            Some(_) => Some(vector(source, &bias_name, shape[0])?),
            None => None,
        };
        Ok(Linear { weight, bias, lora: None })
    };
    let needs_bias = config.family == Family::Qwen2;
    let q = linear(Projection::Q)?;
    if needs_bias && q.bias.is_none() {
        source.require(&format!("{}.bias", source.projection(index, Projection::Q)))?;
    }
    Ok(Layer {
        attention_norm: vector(source, &source.norm(index, true), config.hidden_size)?,
        q,
        k: linear(Projection::K)?,
        v: linear(Projection::V)?,
        o: linear(Projection::O)?,
        mlp_norm: vector(source, &source.norm(index, false), config.hidden_size)?,
        gate: linear(Projection::Gate)?,
        up: linear(Projection::Up)?,
        down: linear(Projection::Down)?,
    })
}

fn view<'a>(source: &'a Source<'_>, name: &str, expected: &[usize]) -> Result<TensorView<'a>> {
    let view = source.require(name)?;
    if view.shape == expected {
        return Ok(view);
    }
    Err(Error::Shape { tensor: name.into(), found: view.shape, expected: expected.to_vec() })
}

/// A packed matrix; with a pool its rows are packed in parallel.
fn matrix(
    source: &Source<'_>,
    name: &str,
    shape: [usize; 2],
    pool: Option<&Pool>,
) -> Result<Arc<PackedMatrix>> {
    let view = view(source, name, &shape)?;
    let packed = match pool {
        Some(pool) => PackedMatrix::from_blocks_with(pool, view.format, shape[0], shape[1], view.bytes),
        None => PackedMatrix::from_blocks(view.format, shape[0], shape[1], view.bytes),
    };
    if !packed.is_finite() {
        return Err(Error::NotFinite { tensor: name.into() });
    }
    Ok(Arc::new(packed))
}

fn vector(source: &Source<'_>, name: &str, len: usize) -> Result<Param> {
    let data = view(source, name, &[len])?.to_f32();
    if !data.iter().all(|value| value.is_finite()) {
        return Err(Error::NotFinite { tensor: name.into() });
    }
    Ok(Param { data: Arc::new(data), rows: 1, cols: len, id: None })
}
