//! Tensors by the family's names to packed layers.
//!
//! Layers are packed in parallel; the file is mapped and its pages are let go as they are packed. A tensor of a layer
//! that the family doesn't know is an error: a model is never run without a part of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_kernels::matmul::{InputBits, PackedMatrix};
use hearth_kernels::pool::Pool;
use hearth_tensor::graph::KvOptions;
use hearth_tensor::weight::{Linear, Matrix, Param};

use crate::config::names::{ExpertNames, Names, Place, numbered};
use crate::config::{Family, ModelConfig};
use crate::decoder::{Decoder, Experts, GatedMlp, Layer, Mlp, Module, Projection};
use crate::error::{Error, Result};
use crate::files::{GgufFile, SafetensorsFolder, TensorView};

/// Where tensors come from, and what they are called there.
pub(super) struct Source<'a> {
    file: File<'a>,
    names: &'static Names,
    /// Tensors that have been asked for.
    used: Mutex<BTreeSet<String>>,
}

enum File<'a> {
    Gguf(&'a GgufFile),
    Folder(&'a SafetensorsFolder),
}

impl<'a> Source<'a> {
    pub(super) fn gguf(file: &'a GgufFile, config: &ModelConfig) -> Self {
        let names = config.family.gguf_names();
        Self { file: File::Gguf(file), names, used: Mutex::default() }
    }

    pub(super) fn folder(folder: &'a SafetensorsFolder, config: &ModelConfig) -> Self {
        let names = config.family.hugging_face_names();
        Self { file: File::Folder(folder), names, used: Mutex::default() }
    }

    fn find(&self, name: &str) -> Option<TensorView<'a>> {
        let view = match self.file {
            File::Gguf(file) => file.tensor(name),
            File::Folder(folder) => folder.tensor(name),
        };
        if view.is_some() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        }
        view
    }

    fn view(&self, name: &str, expected: &[usize]) -> Result<TensorView<'a>> {
        let Some(view) = self.find(name) else {
            // The file's own error tells why it isn't there.
            match self.file {
                File::Gguf(file) => file.require(name)?,
                File::Folder(folder) => folder.require(name)?,
            };
            unreachable!("a tensor that isn't found is an error")
        };
        if view.shape == expected {
            return Ok(view);
        }
        Err(Error::Shape { tensor: name.into(), found: view.shape, expected: expected.to_vec() })
    }

    /// The first tensor of a layer that nobody has asked for.
    fn unused(&self) -> Option<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = self.names.layer.split("{}").next().unwrap_or_default();
        // Frequencies of the rotation, which old folders repeat in each layer.
        let is_unused = |name: &str| {
            name.starts_with(prefix) && !name.ends_with("rotary_emb.inv_freq") && !used.contains(name)
        };
        match self.file {
            File::Gguf(file) => {
                file.tensors().map(|info| info.name.as_str()).find(|name| is_unused(name)).map(Into::into)
            }
            File::Folder(folder) => folder.names().find(|name| is_unused(name)).map(Into::into),
        }
    }
}

/// `[out_features, in_features]` of a linear layer.
pub(crate) fn module_shape(config: &ModelConfig, module: Module) -> [usize; 2] {
    let of_expert = config.experts.filter(|_| module.expert.is_some());
    let mlp = of_expert.map_or(config.intermediate_size, |experts| experts.intermediate_size);
    let hidden = config.hidden_size;
    let (q, kv) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
    match module.projection {
        Projection::Q => [q, hidden],
        Projection::K | Projection::V => [kv, hidden],
        Projection::O => [hidden, q],
        Projection::Gate | Projection::Up => [mlp, hidden],
        Projection::Down => [hidden, mlp],
    }
}

fn shape(config: &ModelConfig, projection: Projection) -> [usize; 2] {
    module_shape(config, Module { projection, expert: None })
}

pub(super) fn decoder(source: &Source<'_>, config: ModelConfig, pool: &Pool) -> Result<Decoder> {
    let forced = forced_input_bits(std::env::var_os("HEARTH_INPUT_BITS").as_deref())?;
    let slots: Vec<Mutex<Option<Result<Layer>>>> = (0..config.num_layers).map(|_| Mutex::new(None)).collect();
    pool.run(config.num_layers, &|index| {
        let loaded = LayerLoader { source, config: &config, index, forced }.layer();
        *slots[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
    });
    let layers = slots
        .into_iter()
        .map(|slot| {
            let slot = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            slot.expect("every task has run")
        })
        .collect::<Result<_>>()?;
    if let Some(tensor) = source.unused() {
        return Err(Error::UnknownTensor { tensor, family: config.family });
    }
    let names = source.names;
    let table = [config.vocab_size, config.hidden_size];
    let load = |name: &str| -> Result<Linear> {
        let view = source.view(name, &table)?;
        let weight = PackedMatrix::from_blocks_with(pool, view.format, table[0], table[1], view.bytes);
        finite(name, plain(weight))
    };
    let embedding = load(names.embedding)?;
    let is_tied = config.is_tied.unwrap_or_else(|| source.find(names.head).is_none());
    let head = if is_tied { embedding.clone() } else { load(names.head)? };
    let norm = norm(source, names.norm, config.hidden_size, &config)?;
    Ok(Decoder { config, embedding, layers, norm, head, kv: KvOptions::default() })
}

/// Loads one layer.
struct LayerLoader<'a> {
    source: &'a Source<'a>,
    config: &'a ModelConfig,
    index: usize,
    /// What all quantised matrices round their inputs to, if the user says so.
    forced: Option<InputBits>,
}

impl LayerLoader<'_> {
    fn layer(&self) -> Result<Layer> {
        let names = self.source.names;
        let (hidden, head_dim) = (self.config.hidden_size, self.config.head_dim);
        let q = self.linear(Projection::Q)?;
        if self.config.family == Family::Qwen2 && q.bias.is_none() {
            let name = format!("{}.bias", self.name(names.q.tensor));
            self.source.view(&name, &[q.out_features()])?;
        }
        Ok(Layer {
            attention_norm: self.norm(names.attention_norm, hidden)?,
            q,
            k: self.linear(Projection::K)?,
            v: self.linear(Projection::V)?,
            o: self.linear(Projection::O)?,
            qk_norms: match names.qk_norms {
                Some([q, k]) => Some([self.norm(q, head_dim)?, self.norm(k, head_dim)?]),
                None => None,
            },
            post_attention_norm: self.optional_norm(names.post_attention_norm)?,
            mlp_norm: self.norm(names.mlp_norm, hidden)?,
            mlp: self.mlp()?,
            post_mlp_norm: self.optional_norm(names.post_mlp_norm)?,
        })
    }

    fn name(&self, part: &str) -> String {
        self.source.names.in_layer(self.index, part)
    }

    fn norm(&self, part: &str, len: usize) -> Result<Param> {
        norm(self.source, &self.name(part), len, self.config)
    }

    fn optional_norm(&self, part: Option<&str>) -> Result<Option<Param>> {
        part.map(|part| self.norm(part, self.config.hidden_size)).transpose()
    }

    fn mlp(&self) -> Result<Mlp> {
        if !self.config.layers[self.index].has_experts {
            return Ok(Mlp::Dense(GatedMlp {
                gate: self.linear(Projection::Gate)?,
                up: self.linear(Projection::Up)?,
                down: self.linear(Projection::Down)?,
            }));
        }
        let family = self.config.family;
        let missing =
            || Error::Config { what: format!("experts of the family {family:?} aren't known here") };
        let names = self.source.names.experts.ok_or_else(missing)?;
        let experts = self.config.experts.ok_or_else(missing)?;
        let name = self.name(names.router);
        let [rows, cols] = [experts.num_experts, self.config.hidden_size];
        let router = self.source.view(&name, &[rows, cols])?;
        Ok(Mlp::Experts(Experts {
            router: finite(&name, plain(PackedMatrix::from_blocks(router.format, rows, cols, router.bytes)))?,
            experts: (0..experts.num_experts)
                .map(|expert| self.expert(&names, expert, experts.num_experts))
                .collect::<Result<_>>()?,
        }))
    }

    fn expert(&self, names: &ExpertNames, expert: usize, num_experts: usize) -> Result<GatedMlp> {
        let load = |pattern: &'static str, projection: Projection| {
            let [rows, cols] = module_shape(self.config, Module { projection, expert: Some(expert) });
            let name = self.name(&numbered(pattern, expert));
            let view = if pattern.contains("{}") {
                self.source.view(&name, &[rows, cols])?
            } else {
                part(&self.source.view(&name, &[num_experts, rows, cols])?, expert..expert + 1)
            };
            let weight = PackedMatrix::from_blocks(view.format, rows, cols, view.bytes);
            finite(&name, plain(weight.with_input_bits(self.input_bits())))
        };
        Ok(GatedMlp {
            gate: load(names.gate, Projection::Gate)?,
            up: load(names.up, Projection::Up)?,
            down: load(names.down, Projection::Down)?,
        })
    }

    fn linear(&self, which: Projection) -> Result<Linear> {
        let place = self.source.names.place(which);
        let [rows, cols] = shape(self.config, which);
        let (range, total) = self.rows_in(place, which);
        let name = self.name(place.tensor);
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let view = part(&self.source.view(&weight_name, &[total, cols])?, range.clone());
        let bias = match self.source.find(&bias_name) {
            Some(_) => Some(vector(&bias_name, &part(&self.source.view(&bias_name, &[total])?, range))?),
            None => None,
        };
        let weight = PackedMatrix::from_blocks(view.format, rows, cols, view.bytes);
        let weight = weight.with_input_bits(self.input_bits());
        finite(&weight_name, Linear { bias, ..plain(weight) })
    }

    /// What a quantised matrix rounds its input to.
    fn input_bits(&self) -> InputBits {
        let is_wide = self.config.hidden_size >= EIGHT_BITS_FROM;
        self.forced.unwrap_or(if is_wide { InputBits::Eight } else { InputBits::Sixteen })
    }

    /// The rows of a tensor that are one matrix's, and how many there are in all.
    fn rows_in(&self, place: Place, which: Projection) -> (Range<usize>, usize) {
        let rows = |projection: Projection| shape(self.config, projection)[0];
        if place.fused.is_empty() {
            return (0..rows(which), rows(which));
        }
        let before = place.fused.iter().take_while(|&&projection| projection != which);
        let start = before.map(|&projection| rows(projection)).sum();
        (start..start + rows(which), place.fused.iter().map(|&projection| rows(projection)).sum())
    }
}

/// Hidden size from which inputs are rounded to 8 bits, as llama.cpp rounds all. Narrower models feel it: in one of 576
/// channels it moves a log-probability by 0.24, in one of 896 by 0.07 (LOG.md).
const EIGHT_BITS_FROM: usize = 768;

/// What `HEARTH_INPUT_BITS` says: `16` makes all products exact, `8` all fast.
fn forced_input_bits(setting: Option<&OsStr>) -> Result<Option<InputBits>> {
    match setting.map(OsStr::to_string_lossy).as_deref() {
        None | Some("") => Ok(None),
        Some("8") => Ok(Some(InputBits::Eight)),
        Some("16") => Ok(Some(InputBits::Sixteen)),
        Some(other) => {
            let what = format!(
                "`HEARTH_INPUT_BITS` is `{other}`, expected 8 or 16\nhint: unset it to choose by the model"
            );
            Err(Error::Config { what })
        }
    }
}

/// Some of the rows (of whatever rank) of a tensor.
fn part<'a>(view: &TensorView<'a>, rows: Range<usize>) -> TensorView<'a> {
    let (count, row_bytes) = (rows.len(), view.bytes.len() / view.shape[0]);
    let shape = [&[count], &view.shape[1..]].concat();
    TensorView {
        shape,
        format: view.format,
        bytes: &view.bytes[rows.start * row_bytes..rows.end * row_bytes],
    }
}

fn plain(weight: PackedMatrix) -> Linear {
    Linear { weight: Matrix::packed(weight), bias: None, lora: None }
}

fn finite(name: &str, linear: Linear) -> Result<Linear> {
    if linear.weight.is_finite() { Ok(linear) } else { Err(Error::NotFinite { tensor: name.into() }) }
}

fn norm(source: &Source<'_>, name: &str, len: usize, config: &ModelConfig) -> Result<Param> {
    let mut norm = vector(name, &source.view(name, &[len])?)?;
    if config.norms_from_one {
        for weight in Arc::make_mut(&mut norm.data) {
            *weight += 1.0;
        }
    }
    Ok(norm)
}

fn vector(name: &str, view: &TensorView<'_>) -> Result<Param> {
    let data = view.to_f32();
    if !data.iter().all(|value| value.is_finite()) {
        return Err(Error::NotFinite { tensor: name.into() });
    }
    Ok(Param { rows: 1, cols: data.len(), data: Arc::new(data), id: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_input_bits_that_is_not_known_is_named() {
        let forced = |setting: &str| forced_input_bits(Some(OsStr::new(setting)));
        assert_eq!(forced_input_bits(None).unwrap(), None);
        assert_eq!(forced("").unwrap(), None);
        assert_eq!(forced("8").unwrap(), Some(InputBits::Eight));
        assert_eq!(forced("16").unwrap(), Some(InputBits::Sixteen));
        let message = forced("32").unwrap_err().to_string();
        assert!(message.contains("`HEARTH_INPUT_BITS` is `32`, expected 8 or 16"), "{message}");
    }
}
