//! Text to vectors: a BERT encoder (Devlin et al. 2018), such as multilingual-e5-small (Wang et al. 2022).
//!
//! In: an `E5S1` container or a folder of safetensors, and texts. Out: one vector of length 1 per text; the cosine of
//! a question's and a passage's vector says how well they fit. Texts are packed one after the other without padding, and each
//! text's vector is equal to the bit alone, in a batch and on any number of threads. Training is left out.
//!
//! * [`error`] — what can go wrong
//! * `source` — a file read field by field, never past its end
//! * `tensors` — what is asked of either form: numbers, and tensors by their place
//! * `container` — the `E5S1` layout: numbers, vocabulary, tensors
//! * `folder` — a sentence embedder's folder of safetensors
//! * `prompts` — the words before questions and passages
//! * `weights` — matrices packed, vectors dense
//! * `forward` — tokens to pooled vectors

mod container;
pub mod error;
mod folder;
mod forward;
mod prompts;
mod source;
mod tensors;
mod weights;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hearth_kernels::pool::Pool;
use hearth_tokenizer::{TokenId, Tokenizer};

pub use error::{Error, Result};

use container::Container;
use folder::Folder;
use prompts::Prompts;
use tensors::Tensors;
use weights::Weights;

/// Tokens of one forward pass at most, unless one text alone has more: the intermediate activations of 512 tokens
/// of multilingual-e5-small are 3 MiB.
const TOKENS_PER_PASS: usize = 512;

/// What became of a list of texts. All lists but `truncated` follow the order of the texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedded {
    /// Vectors of length 1 with [`Encoder::dim`] values.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens each text took, prefix and special tokens counted.
    pub token_counts: Vec<usize>,
    /// Indices of texts longer than [`Encoder::max_tokens`], of which only the beginning was read.
    pub truncated: Vec<usize>,
}

/// A text embedder. Many threads may share one.
pub struct Encoder {
    name: String,
    tokenizer: Tokenizer,
    weights: Weights,
    pool: Arc<Pool>,
    prompts: Prompts,
    /// Whether the file says what its prompts are; else they follow from the name.
    has_prompts: bool,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("name", &self.name)
            .field("dim", &self.dim())
            .field("num_layers", &self.weights.config.num_layers)
            .field("vocab_size", &self.weights.config.vocab_size)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Opens an `E5S1` container or a folder of safetensors. Its name is the file's, without the extension.
    pub fn open(path: &Path, pool: Arc<Pool>) -> Result<Self> {
        let (mut tensors, tokenizer, prompts): (Box<dyn Tensors>, _, _) = match path.is_dir() {
            true => {
                let (folder, tokenizer, prompts) = Folder::open(path)?;
                (Box::new(folder), tokenizer, prompts)
            }
            false => {
                let (container, vocabulary) = Container::open(path)?;
                let tokenizer = Tokenizer::from_parts(vocabulary)
                    .map_err(|source| Error::Tokenizer { path: path.into(), source })?;
                (Box::new(container), tokenizer, Some(Prompts::e5()))
            }
        };
        let weights = Weights::read(tensors.as_mut())?;
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name = name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let has_prompts = prompts.is_some();
        let prompts = prompts.unwrap_or_else(|| Prompts::of_name(&name));
        let encoder = Self { name, tokenizer, weights, pool, prompts, has_prompts };
        let prefix_tokens = encoder.count_tokens("");
        if prefix_tokens == 0 || prefix_tokens >= encoder.max_tokens() {
            let problem = format!(
                "is `{}`, but prefix and special tokens alone take {prefix_tokens}",
                encoder.max_tokens()
            );
            let what = "the number of tokens it reads".into();
            return Err(crate::files::Error::Malformed { path: path.into(), what, problem }.into());
        }
        Ok(encoder)
    }

    /// The same encoder under another name, such as the one it is pulled by. The words before texts follow the name
    /// where the model's files don't give them.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let prompts = if self.has_prompts { self.prompts } else { Prompts::of_name(&name) };
        Self { name, prompts, ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.weights.config.hidden_size
    }

    /// Tokens a text may take, prefix and special tokens counted.
    pub fn max_tokens(&self) -> usize {
        self.weights.config.max_tokens
    }

    /// Tokens `text` takes as a passage, prefix and special tokens counted; it is read whole if these are at
    /// most [`Self::max_tokens`].
    pub fn count_tokens(&self, text: &str) -> usize {
        self.encode(&self.prompts.passage, text).len()
    }

    /// Vectors of questions, to be compared with those of passages.
    pub fn embed_queries(&self, texts: &[&str]) -> Result<Embedded> {
        self.embed(&self.prompts.query, texts)
    }

    /// Vectors of passages that may answer questions.
    pub fn embed_passages(&self, texts: &[&str]) -> Result<Embedded> {
        self.embed(&self.prompts.passage, texts)
    }

    fn encode(&self, prefix: &str, text: &str) -> Vec<TokenId> {
        self.tokenizer.wrap(&self.tokenizer.encode(&format!("{prefix}{text}")))
    }

    fn embed(&self, prefix: &str, texts: &[&str]) -> Result<Embedded> {
        let mut embedded = Embedded { vectors: vec![Vec::new(); texts.len()], ..Embedded::default() };
        let mut ids: Vec<Vec<TokenId>> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let mut text_ids = self.encode(prefix, text);
            if self.cut(&mut text_ids) {
                embedded.truncated.push(index);
            }
            embedded.token_counts.push(text_ids.len());
            ids.push(text_ids);
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| ids[index].len());
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(texts_of_pass(rest, &embedded.token_counts));
            rest = after;
            let batch_ids: Vec<&[TokenId]> = batch.iter().map(|&index| &ids[index][..]).collect();
            let vectors = self.weights.pooled(&self.pool, &batch_ids);
            for (&index, mut vector) in batch.iter().zip(vectors) {
                if !normalise(&mut vector) {
                    return Err(Error::NotFinite { encoder: self.name.clone(), text_index: index });
                }
                embedded.vectors[index] = vector;
            }
        }
        Ok(embedded)
    }

    /// Cuts a text's tokens to what the model takes, keeping the end token; says whether it had to.
    fn cut(&self, ids: &mut Vec<TokenId>) -> bool {
        let max_tokens = self.max_tokens();
        if ids.len() <= max_tokens {
            return false;
        }
        let end = ids.split_off(ids.len() - 1);
        ids.truncate(max_tokens - 1);
        ids.extend(end);
        true
    }
}

/// How many texts from the front fit into one pass; at least one.
fn texts_of_pass(order: &[usize], token_counts: &[usize]) -> usize {
    let mut tokens = 0;
    let fits = order.iter().take_while(|&&index| {
        tokens += token_counts[index];
        tokens <= TOKENS_PER_PASS
    });
    fits.count().max(1)
}

/// Scales to length 1; false if that can't be done.
fn normalise(vector: &mut [f32]) -> bool {
    let squares: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    if !squares.is_finite() || squares == 0.0 {
        return false;
    }
    let inverse = squares.sqrt().recip();
    for value in vector {
        *value = (f64::from(*value) * inverse) as f32;
    }
    true
}

#[cfg(test)]
mod tests;
