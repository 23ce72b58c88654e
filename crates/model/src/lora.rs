//! Low-rank adapters (Hu et al. 2021), with rank-stabilised scaling (Kalajdzievski 2023) and `DoRA` (Liu et al. 2024) on
//! request: made, put on a decoder, saved and read in PEFT's layout.
//!
//! * `settings` — `adapter_config.json`: what is taken, what is refused by name
//! * `files` — an adapter folder, in Hugging Face's order of rows whatever the base
//! * `rows` — single rows of an adapted matrix: norms, and what a merge writes

mod files;
mod rows;
mod settings;

use std::sync::Arc;

use hearth_kernels::pool::Pool;
use hearth_tensor::weight::{Dora, Linear, Lora, Param, ParamId};

use crate::decoder::{Decoder, Layer, Module, Projection};
use crate::error::{Error, Result};
use crate::load::module_shape;
use crate::random::SplitMix;

pub use rows::Merged;
pub use settings::LoraConfig;

/// An adapter for one decoder: A and B of each adapted projection, in layer order.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub config: LoraConfig,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    layer: usize,
    module: Module,
    a: Param,
    b: Param,
    /// The magnitude of each row.
    magnitude: Option<Param>,
    /// Rows of a head, where the decoder has them in another order than Hugging Face's folders.
    head_dim: Option<usize>,
}

impl Adapter {
    /// A fresh adapter: A uniform in `±1/sqrt(in_features)`, B zero and magnitudes the norms of the base's rows, so that
    /// it changes nothing yet.
    pub fn new(decoder: &Decoder, config: LoraConfig, seed: u64) -> Result<Self> {
        config.check(decoder)?;
        let targets = config.targets()?;
        let mut random = SplitMix(seed);
        let mut entries = Vec::new();
        let mut ids = (0..).map(ParamId);
        let mut next_id = || ids.next();
        for (layer_index, layer) in decoder.layers.iter().enumerate() {
            if !config.has_layer(layer_index) {
                continue;
            }
            for module in adapted(layer, &targets) {
                let [out_features, in_features] = module_shape(&decoder.config, module);
                let bound = 1.0 / (in_features as f32).sqrt();
                let a = (0..config.r * in_features).map(|_| random.next_signed() * bound).collect();
                let b = vec![0.0; out_features * config.r];
                entries.push(Entry {
                    layer: layer_index,
                    module,
                    a: param(a, config.r, in_features, next_id()),
                    b: param(b, out_features, config.r, next_id()),
                    magnitude: config
                        .use_dora
                        .then(|| param(rows::base_norms(layer.module(module)), 1, out_features, next_id())),
                    head_dim: interleaved_heads(decoder, module),
                });
            }
        }
        Ok(Self { config, entries })
    }

    /// The decoder with this adapter on it; the base weights are shared.
    pub fn apply(&self, decoder: &Decoder) -> Decoder {
        self.apply_on(&Pool::new(1), decoder)
    }

    /// [`Self::apply`] with the norms of `DoRA` computed by a pool.
    pub fn apply_on(&self, pool: &Pool, decoder: &Decoder) -> Decoder {
        let mut adapted = decoder.clone();
        for entry in &self.entries {
            let linear = adapted.layers[entry.layer].module_mut(entry.module);
            linear.lora = Some(self.lora(entry, linear, pool));
        }
        adapted
    }

    fn lora(&self, entry: &Entry, base: &Linear, pool: &Pool) -> Lora {
        let (a, b, scale) = (entry.a.clone(), entry.b.clone(), self.config.scale());
        let mut lora = Lora { a, b, scale, dora: None };
        if let Some(magnitude) = &entry.magnitude {
            let norms = Arc::new(rows::norms(pool, base, &lora));
            lora.dora = Some(Arc::new(Dora { magnitude: magnitude.clone(), norms }));
        }
        lora
    }

    /// Trained parameters in the order of their ids.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter().flat_map(|entry| [&entry.a, &entry.b].into_iter().chain(&entry.magnitude))
    }

    /// As [`Self::params`], to be updated in place.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        self.entries.iter_mut().flat_map(|entry| {
            let Entry { a, b, magnitude, .. } = entry;
            [a, b].into_iter().chain(magnitude)
        })
    }

    pub fn num_params(&self) -> usize {
        self.params().map(|param| param.data.len()).sum()
    }
}

/// Rows of a head of q or k where the decoder rotates neighbours: GGUF's llama family.
fn interleaved_heads(decoder: &Decoder, module: Module) -> Option<usize> {
    let is_rotated = matches!(module.projection, Projection::Q | Projection::K);
    (is_rotated && decoder.config.interleaved).then_some(decoder.config.head_dim)
}

/// The modules of a layer that an adapter with these targets is put on, in the order of the targets.
fn adapted<'a>(layer: &'a Layer, targets: &'a [Projection]) -> impl Iterator<Item = Module> + 'a {
    layer.modules().filter(|module| targets.contains(&module.projection))
}

fn param(data: Vec<f32>, rows: usize, cols: usize, id: Option<ParamId>) -> Param {
    Param { data: Arc::new(data), rows, cols, id }
}

/// A matrix that an adapter isn't found for is an error that says so.
fn unknown(what: String) -> Error {
    Error::Config { what }
}
