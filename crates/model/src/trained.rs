//! A decoder all of whose weights are trained: made anew from sizes, or from a model that was opened.
//!
//! In: [`Sizes`] and a seed, or a decoder. Out: parameters by their names in `model.safetensors`, to update and to
//! write as a Hugging Face folder's `config.json` and weights. A head that is tied to the embedding is one parameter.

use std::path::Path;
use std::sync::Arc;

use hearth_kernels::quant::Format;
use hearth_tensor::graph::KvOptions;
use hearth_tensor::tape::Tape;
use hearth_tensor::weight::{Linear, Matrix, Param, ParamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Family, ModelConfig};
use crate::decoder::{Decoder, GatedMlp, Layer, Mlp, Projection};
use crate::error::{Error, Result};
use crate::files::gguf::sink::Entry;
use crate::files::safetensors::sink::{SHARD_BYTES, SafetensorsSink};
use crate::random::SplitMix;

/// Standard deviation of new weights, as transformers' `initializer_range`; outputs of a block are smaller by
/// `1/sqrt(2·num_layers)`, so that the residual stream doesn't grow with depth (GPT-2, Radford et al. 2019).
const INITIAL_STD: f64 = 0.02;

/// The shape of a new decoder; names as in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub intermediate_size: usize,
    pub max_seq_len: usize,
    pub rope_theta: f32,
    pub rms_norm_eps: f32,
    /// Norms of each head of q and k: a Qwen3 instead of a Llama.
    pub qk_norm: bool,
    /// The head is the embedding.
    pub tied: bool,
}

impl Sizes {
    /// `config.json` as transformers reads it. `eos` is the id that ends a text or turn.
    pub fn config_json(&self, eos: Option<u32>) -> Value {
        let family = if self.qk_norm { Family::Qwen3 } else { Family::Llama };
        json!({
            "architectures": [family.class()],
            "model_type": family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.hidden_size / self.num_heads.max(1),
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_seq_len,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "initializer_range": INITIAL_STD,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
            "bos_token_id": null,
            "eos_token_id": eos,
            "use_cache": true,
        })
    }

    /// Trained values of a decoder of these sizes.
    pub fn num_params(&self) -> usize {
        let head_dim = self.hidden_size / self.num_heads.max(1);
        let attention = 2 * self.hidden_size * (self.num_heads + self.num_kv_heads) * head_dim;
        let norms = 2 * self.hidden_size + if self.qk_norm { 2 * head_dim } else { 0 };
        let layer = attention + 3 * self.hidden_size * self.intermediate_size + norms;
        let tables = if self.tied { 1 } else { 2 };
        tables * self.vocab_size * self.hidden_size + self.num_layers * layer + self.hidden_size
    }
}

/// A parameter and what `model.safetensors` calls it.
#[derive(Debug)]
pub struct Named<'a> {
    pub name: String,
    pub param: &'a mut Param,
    /// A matrix inside a layer: neither embedding nor head nor vector.
    pub hidden: bool,
}

impl Decoder {
    /// A new decoder with random weights, every one trained.
    pub fn fresh(sizes: &Sizes, seed: u64) -> Result<Self> {
        if !sizes.hidden_size.is_multiple_of(sizes.num_heads.max(1)) {
            let Sizes { hidden_size, num_heads, .. } = sizes;
            let what = format!("`hidden_size` {hidden_size} isn't a multiple of `num_heads` {num_heads}");
            return Err(Error::Config { what });
        }
        let config = ModelConfig::from_json(&sizes.config_json(None))?;
        let mut maker = Maker { seed, next: 0 };
        let table = [config.vocab_size, config.hidden_size];
        let embedding = maker.matrix(table, INITIAL_STD);
        let layers = (0..config.num_layers).map(|_| maker.layer(&config, sizes.qk_norm)).collect();
        let norm = maker.ones(config.hidden_size);
        let head = if sizes.tied { embedding.clone() } else { maker.matrix(table, INITIAL_STD) };
        Ok(Self { config, embedding, layers, norm, head, kv: KvOptions::default() })
    }

    /// The same decoder with every weight dense and trained. What is quantised is decoded first.
    pub fn thawed(&self) -> Result<Self> {
        let config = &self.config;
        let reason = if config.experts.is_some() {
            Some("a mixture of experts")
        } else if config.interleaved {
            Some("a GGUF file of the llama family, whose q and k have another order of rows")
        } else {
            None
        };
        if let Some(reason) = reason {
            let what = format!(
                "all weights of {reason} can't be trained\nhint: train an adapter, or `hearth convert` a GGUF file to a folder first"
            );
            return Err(Error::Config { what });
        }
        let mut thawed = self.clone();
        let tied = self.head.weight.is_same(&self.embedding.weight);
        let mut next = 0;
        let mut id = || {
            next += 1;
            Some(ParamId(next - 1))
        };
        thaw(&mut thawed.embedding, &mut id);
        for layer in &mut thawed.layers {
            layer.attention_norm.id = id();
            for projection in Projection::ALL {
                if projection == Projection::Gate {
                    for norm in layer.qk_norms.iter_mut().flatten() {
                        norm.id = id();
                    }
                    let Layer { post_attention_norm, mlp_norm, .. } = layer;
                    for norm in post_attention_norm.iter_mut().chain([mlp_norm]) {
                        norm.id = id();
                    }
                }
                thaw(layer.module_mut(projection.into()), &mut id);
            }
            if let Some(norm) = &mut layer.post_mlp_norm {
                norm.id = id();
            }
        }
        thawed.norm.id = id();
        if tied {
            thawed.head = thawed.embedding.clone();
        } else {
            thaw(&mut thawed.head, &mut id);
        }
        Ok(thawed)
    }

    /// Lets `update` change all parameters, in the order of their ids; a tied head follows the embedding.
    pub fn update<R>(&mut self, update: impl FnOnce(Vec<Named<'_>>) -> R) -> R {
        let tied = self.head.weight.is_same(&self.embedding.weight);
        if tied {
            // Nobody else may hold the embedding while it changes, or it would be copied.
            self.head.weight = Matrix::Dense(Param { data: Arc::default(), rows: 0, cols: 0, id: None });
        }
        let names = self.config.family.hugging_face_names();
        let mut named = Vec::new();
        let mut add = |name: String, param, hidden| named.push(Named { name, param, hidden });
        linear(&mut self.embedding, names.embedding.trim_end_matches(".weight"), false, &mut add);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            of_layer(layer, &|part| names.in_layer(index, part), names, &mut add);
        }
        add(names.norm.into(), &mut self.norm, false);
        if !tied {
            linear(&mut self.head, names.head.trim_end_matches(".weight"), false, &mut add);
        }
        let result = update(named);
        if tied {
            self.head = self.embedding.clone();
        }
        result
    }

    /// The mean loss of the wanted rows, each with its weight, without all logits at once where the model lets us.
    ///
    /// # Shapes
    /// wanted, targets, weights `[R]`
    pub fn cross_entropy(
        &self,
        tape: &mut Tape<'_>,
        ids: &[u32],
        wanted: &[usize],
        (targets, weights): (&[u32], &[f32]),
    ) -> f64 {
        use hearth_tensor::graph::Graph as _;
        if self.config.final_soft_cap.is_some() {
            let logits = self.logits(tape, ids, wanted);
            return tape.cross_entropy(logits, targets, weights);
        }
        let hidden = self.hidden(tape, ids);
        let rows = tape.take_rows(&hidden, wanted);
        drop(hidden);
        let rows = tape.rms_norm(&rows, &self.norm, self.config.rms_norm_eps);
        tape.cross_entropy_of_head(&rows, &self.head, targets, weights)
    }

    /// Writes `model.safetensors` in f32 and, if `config` is given, `config.json`.
    pub fn write_folder(&mut self, folder: &Path, config: Option<&Value>) -> Result<()> {
        if let Some(family) = self.fused_family() {
            let what = format!("weights of the family {family:?} can't be written as a folder yet");
            return Err(Error::Config { what });
        }
        let from_one = self.config.norms_from_one;
        self.update(|params| {
            let entries: Vec<Entry> = params
                .iter()
                .map(|Named { name, param, .. }| {
                    let is_vector = param.rows == 1;
                    let shape = if is_vector { vec![param.cols] } else { vec![param.rows, param.cols] };
                    Entry { name: name.clone(), shape, format: Format::F32 }
                })
                .collect();
            let mut sink = SafetensorsSink::create(folder, &entries, SHARD_BYTES)?;
            for Named { name, param, .. } in &params {
                let less = if from_one && name.ends_with("norm.weight") { 1.0 } else { 0.0 };
                for values in param.data.chunks(1 << 18) {
                    let bytes: Vec<u8> =
                        values.iter().flat_map(|value| (value - less).to_le_bytes()).collect();
                    sink.write(&bytes)?;
                }
            }
            sink.finish()
        })?;
        if let Some(config) = config {
            hearth_artifacts::atomic::write_json(&folder.join("config.json"), config)?;
        }
        Ok(())
    }

    /// The family, if some of its tensors hold several matrices.
    fn fused_family(&self) -> Option<Family> {
        let names = self.config.family.hugging_face_names();
        let is_fused = |projection: Projection| !names.place(projection).fused.is_empty();
        Projection::ALL.into_iter().any(is_fused).then_some(self.config.family)
    }
}

/// The parameters of a layer, in the order of their ids.
fn of_layer<'a>(
    layer: &'a mut Layer,
    in_layer: &dyn Fn(&str) -> String,
    names: &crate::config::names::Names,
    add: &mut impl FnMut(String, &'a mut Param, bool),
) {
    let norm = |part: Option<&'static str>| in_layer(part.expect("a norm that was loaded has a name"));
    let Layer { attention_norm, q, k, v, o, qk_norms, post_attention_norm, mlp_norm, mlp, post_mlp_norm } =
        layer;
    add(in_layer(names.attention_norm), attention_norm, false);
    for (projection, module) in
        [Projection::Q, Projection::K, Projection::V, Projection::O].into_iter().zip([q, k, v, o])
    {
        linear(module, &in_layer(names.place(projection).tensor), true, add);
    }
    for (index, param) in qk_norms.iter_mut().flatten().enumerate() {
        add(norm(names.qk_norms.map(|names| names[index])), param, false);
    }
    if let Some(param) = post_attention_norm {
        add(norm(names.post_attention_norm), param, false);
    }
    add(in_layer(names.mlp_norm), mlp_norm, false);
    for part in mlp.parts_mut() {
        let GatedMlp { gate, up, down } = part;
        for (projection, module) in
            [Projection::Gate, Projection::Up, Projection::Down].into_iter().zip([gate, up, down])
        {
            linear(module, &in_layer(names.place(projection).tensor), true, add);
        }
    }
    if let Some(param) = post_mlp_norm {
        add(norm(names.post_mlp_norm), param, false);
    }
}

/// The matrix of a layer, if it is dense, and its bias.
fn linear<'a>(
    linear: &'a mut Linear,
    name: &str,
    hidden: bool,
    add: &mut impl FnMut(String, &'a mut Param, bool),
) {
    if let Matrix::Dense(param) = &mut linear.weight {
        add(format!("{name}.weight"), param, hidden);
    }
    if let Some(bias) = &mut linear.bias {
        add(format!("{name}.bias"), bias, false);
    }
}

fn thaw(linear: &mut Linear, id: &mut impl FnMut() -> Option<ParamId>) {
    let (rows, cols) = (linear.out_features(), linear.in_features());
    let mut data = vec![0.0; rows * cols];
    for (row, out) in data.chunks_exact_mut(cols).enumerate() {
        linear.weight.row(row, out);
    }
    linear.weight = Matrix::Dense(Param { data: Arc::new(data), rows, cols, id: id() });
    if let Some(bias) = &mut linear.bias {
        bias.id = id();
    }
}

/// Makes parameters; each one's values depend on the seed and its id alone.
struct Maker {
    seed: u64,
    next: u32,
}

impl Maker {
    fn layer(&mut self, config: &ModelConfig, qk_norm: bool) -> Layer {
        let of = |projection: Projection| crate::load::module_shape(config, projection.into());
        let small = INITIAL_STD / (2.0 * config.num_layers as f64).sqrt();
        Layer {
            attention_norm: self.ones(config.hidden_size),
            q: self.matrix(of(Projection::Q), INITIAL_STD),
            k: self.matrix(of(Projection::K), INITIAL_STD),
            v: self.matrix(of(Projection::V), INITIAL_STD),
            o: self.matrix(of(Projection::O), small),
            qk_norms: qk_norm.then(|| [self.ones(config.head_dim), self.ones(config.head_dim)]),
            post_attention_norm: None,
            mlp_norm: self.ones(config.hidden_size),
            mlp: Mlp::Dense(GatedMlp {
                gate: self.matrix(of(Projection::Gate), INITIAL_STD),
                up: self.matrix(of(Projection::Up), INITIAL_STD),
                down: self.matrix(of(Projection::Down), small),
            }),
            post_mlp_norm: None,
        }
    }

    fn matrix(&mut self, [rows, cols]: [usize; 2], std: f64) -> Linear {
        let mut random =
            SplitMix((self.seed << 20) ^ u64::from(self.next).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let data: Vec<f32> = (0..rows * cols).map(|_| (random.next_normal() * std) as f32).collect();
        Linear { weight: Matrix::Dense(self.param(data, rows, cols)), bias: None, lora: None }
    }

    fn ones(&mut self, len: usize) -> Param {
        self.param(vec![1.0; len], 1, len)
    }

    fn param(&mut self, data: Vec<f32>, rows: usize, cols: usize) -> Param {
        let id = Some(ParamId(self.next));
        self.next += 1;
        Param { data: Arc::new(data), rows, cols, id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> Sizes {
        Sizes {
            vocab_size: 50,
            hidden_size: 16,
            num_layers: 2,
            num_heads: 4,
            num_kv_heads: 2,
            intermediate_size: 24,
            max_seq_len: 32,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            qk_norm: true,
            tied: true,
        }
    }

    #[test]
    fn all_parameters_come_once_with_ascending_ids_and_known_names() {
        for (qk_norm, tied) in [(false, false), (true, true)] {
            let sizes = Sizes { qk_norm, tied, ..sizes() };
            let mut decoder = Decoder::fresh(&sizes, 1).unwrap();
            let (count, ids) = decoder.update(|params| {
                let ids: Vec<u32> = params.iter().map(|named| named.param.id.unwrap().0).collect();
                (params.iter().map(|named| named.param.data.len()).sum::<usize>(), ids)
            });
            assert_eq!(count, sizes.num_params());
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), ids.len());
            assert_eq!(tied, decoder.head.weight.is_same(&decoder.embedding.weight));
        }
    }

    #[test]
    fn a_new_decoder_depends_on_its_seed_alone() {
        let embedding = |seed| {
            let mut row = vec![0.0; 16];
            Decoder::fresh(&sizes(), seed).unwrap().embedding.weight.row(3, &mut row);
            row
        };
        assert_eq!(embedding(1), embedding(1));
        assert_ne!(embedding(1), embedding(2));
    }

    #[test]
    fn heads_that_do_not_divide_the_hidden_size_are_named() {
        let error = Decoder::fresh(&Sizes { num_heads: 3, ..sizes() }, 1).unwrap_err().to_string();
        assert_eq!(error, "`hidden_size` 16 isn't a multiple of `num_heads` 3");
    }
}
