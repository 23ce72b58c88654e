//! Low-rank adapters (Hu et al. 2021): made, put on a decoder, saved and read in PEFT's layout.
//!
//! An adapter folder holds `adapter_config.json` and `adapter_model.safetensors`, so that PEFT reads it too.
//! GGUF files of the llama family store q and k with reordered rows; an adapter trained on one says so and
//! isn't put on a model with the other order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hearth_tensor::weight::{Lora, Param, ParamId};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::decoder::{Decoder, Layer, Module, Projection};
use crate::error::{Error, Result};
use crate::load::module_shape;

/// What an adapter is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// The update is scaled by alpha / rank.
    pub lora_alpha: f32,
    /// Names such as `q_proj`.
    pub target_modules: Vec<String>,
}

/// An adapter for one decoder: A and B of each adapted projection, in layer order.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub config: LoraConfig,
    entries: Vec<Entry>,
    interleaved: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    layer: usize,
    module: Module,
    lora: Lora,
}

/// `adapter_config.json` as PEFT writes it, and one key of our own.
#[derive(Debug, Serialize, Deserialize)]
struct AdapterJson {
    peft_type: String,
    task_type: String,
    #[serde(flatten)]
    lora: LoraConfig,
    /// Row order of q and k in the base: GGUF's llama family or Hugging Face's.
    #[serde(default)]
    hearth_interleaved: bool,
    #[serde(flatten, skip_serializing)]
    others: BTreeMap<String, serde_json::Value>,
}

impl AdapterJson {
    /// Refuses what would make another adapter of the same weights, by its name.
    fn check(&self) -> std::result::Result<(), String> {
        // Every key that changes what is computed, with the value that doesn't.
        let plain = [
            ("use_dora", json!(false)),
            ("use_rslora", json!(false)),
            ("bias", json!("none")),
            ("rank_pattern", json!({})),
            ("alpha_pattern", json!({})),
            ("modules_to_save", json!(null)),
            ("layers_to_transform", json!(null)),
            ("fan_in_fan_out", json!(false)),
        ];
        if self.peft_type != "LORA" {
            return Err(format!("`peft_type` is `{}`; LORA is known here", self.peft_type));
        }
        for (key, expected) in plain {
            if let Some(found) = self.others.get(key).filter(|found| **found != expected && !found.is_null())
            {
                return Err(format!("`{key}` is {found}; only {expected} is known here"));
            }
        }
        Ok(())
    }
}

impl Adapter {
    /// A fresh adapter: A uniform in `±1/sqrt(in_features)`, B zero, so that it changes nothing yet.
    pub fn new(decoder: &Decoder, config: LoraConfig, seed: u64) -> Result<Self> {
        let targets = targets(&config)?;
        let mut random = SplitMix(seed);
        let mut entries = Vec::new();
        for (index, layer) in decoder.layers.iter().enumerate() {
            for module in adapted(layer, &targets) {
                let [out_features, in_features] = module_shape(&decoder.config, module);
                let bound = 1.0 / (in_features as f32).sqrt();
                let a = (0..config.r * in_features).map(|_| random.next_signed() * bound).collect();
                let b = vec![0.0; out_features * config.r];
                let next = entries.len() as u32 * 2;
                entries.push(Entry {
                    layer: index,
                    module,
                    lora: Lora {
                        a: param(a, config.r, in_features, next),
                        b: param(b, out_features, config.r, next + 1),
                        scale: config.lora_alpha / config.r as f32,
                    },
                });
            }
        }
        let interleaved = decoder.config.interleaved;
        Ok(Self { config, entries, interleaved })
    }

    /// The decoder with this adapter on it; the base weights are shared.
    pub fn apply(&self, decoder: &Decoder) -> Decoder {
        let mut decoder = decoder.clone();
        for entry in &self.entries {
            decoder.layers[entry.layer].module_mut(entry.module).lora = Some(entry.lora.clone());
        }
        decoder
    }

    /// Trained parameters in the order of their ids.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter().flat_map(|entry| [&entry.lora.a, &entry.lora.b])
    }

    /// As [`Self::params`], to be updated in place.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        self.entries.iter_mut().flat_map(|entry| [&mut entry.lora.a, &mut entry.lora.b])
    }

    pub fn num_params(&self) -> usize {
        self.params().map(|param| param.data.len()).sum()
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let bytes: BTreeMap<String, (Vec<u8>, [usize; 2])> = self
            .entries
            .iter()
            .flat_map(|entry| {
                [("lora_A", &entry.lora.a), ("lora_B", &entry.lora.b)].map(|(part, param)| {
                    let data = param.data.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (entry.name(part), (data, [param.rows, param.cols]))
                })
            })
            .collect();
        let failed = |what: String| Error::Adapter { path: folder.into(), what };
        let views = bytes
            .iter()
            .map(|(name, (data, shape))| Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), data)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|error| failed(error.to_string()))?;
        let file = safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))?;
        hearth_artifacts::atomic::write(&folder.join("adapter_model.safetensors"), &file)?;
        let json = AdapterJson {
            peft_type: "LORA".into(),
            task_type: "CAUSAL_LM".into(),
            lora: self.config.clone(),
            hearth_interleaved: self.interleaved,
            others: BTreeMap::new(),
        };
        Ok(hearth_artifacts::atomic::write_json(&folder.join("adapter_config.json"), &json)?)
    }

    /// Reads an adapter for `decoder`; every shape is checked against it.
    pub fn open(folder: &Path, decoder: &Decoder) -> Result<Self> {
        let failed = |what: String| Error::Adapter { path: folder.into(), what };
        let json: AdapterJson = hearth_artifacts::atomic::read_json(&folder.join("adapter_config.json"))?;
        json.check().map_err(failed)?;
        if json.hearth_interleaved != decoder.config.interleaved {
            return Err(failed(
                "it was trained on the other row order of q and k (GGUF or Hugging Face)".into(),
            ));
        }
        let bytes =
            fs_err::read(folder.join("adapter_model.safetensors")).map_err(crate::files::Error::from)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| failed(error.to_string()))?;
        let mut adapter = Self::new(decoder, json.lora, 0)?;
        for index in 0..adapter.entries.len() {
            let entry = &mut adapter.entries[index];
            let names = [entry.name("lora_A"), entry.name("lora_B")];
            for (name, param) in names.into_iter().zip([&mut entry.lora.a, &mut entry.lora.b]) {
                let view = tensors.tensor(&name).map_err(|error| failed(format!("`{name}`: {error}")))?;
                let expected = [param.rows, param.cols];
                if view.shape() != expected || view.dtype() != Dtype::F32 {
                    let found = (view.dtype(), view.shape());
                    return Err(failed(format!("`{name}` is {found:?}, expected F32 {expected:?}")));
                }
                let values: Vec<f32> = view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect();
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(Error::NotFinite { tensor: name });
                }
                param.data = Arc::new(values);
            }
        }
        Ok(adapter)
    }
}

impl Entry {
    /// PEFT's name for A or B of this module.
    fn name(&self, part: &str) -> String {
        let Module { projection, expert } = self.module;
        let expert = expert.map(|expert| format!("experts.{expert}.")).unwrap_or_default();
        let module = format!("{}.{expert}{}", projection.module(), projection.name());
        format!("base_model.model.model.layers.{}.{module}.{part}.weight", self.layer)
    }
}

/// The modules of a layer that an adapter with these targets is put on, in the order of the targets.
fn adapted<'a>(layer: &'a Layer, targets: &'a [Projection]) -> impl Iterator<Item = Module> + 'a {
    layer.modules().filter(|module| targets.contains(&module.projection))
}

fn targets(config: &LoraConfig) -> Result<Vec<Projection>> {
    let find = |name: &String| {
        Projection::ALL.into_iter().find(|projection| projection.name() == name).ok_or_else(|| {
            Error::Config {
                what: format!("`target_modules` names `{name}`, which this decoder doesn't have"),
            }
        })
    };
    if config.r == 0 || config.target_modules.is_empty() {
        return Err(Error::Config { what: "an adapter needs a rank `r` and `target_modules`".into() });
    }
    let mut targets = config.target_modules.iter().map(find).collect::<Result<Vec<_>>>()?;
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}

fn param(data: Vec<f32>, rows: usize, cols: usize, id: u32) -> Param {
    Param { data: Arc::new(data), rows, cols, id: Some(ParamId(id)) }
}

/// `SplitMix64` (Steele et al. 2014).
struct SplitMix(u64);

impl SplitMix {
    /// Uniform in -1..1.
    fn next_signed(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(more: &serde_json::Value) -> std::result::Result<(), String> {
        let mut config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"],
            "use_dora": false, "use_rslora": false, "bias": "none", "rank_pattern": {}, "alpha_pattern": {},
            "modules_to_save": null, "fan_in_fan_out": false, "lora_dropout": 0.05, "init_lora_weights": true,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        serde_json::from_value::<AdapterJson>(config).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn other_kinds_of_adapters_are_refused_by_name() {
        assert_eq!(check(&json!({})), Ok(()));
        let cases = [
            json!({ "use_dora": true }),
            json!({ "use_rslora": true }),
            json!({ "bias": "all" }),
            json!({ "rank_pattern": { "q_proj": 4 } }),
            json!({ "modules_to_save": ["lm_head"] }),
            json!({ "peft_type": "IA3" }),
        ];
        for case in cases {
            let key = case.as_object().unwrap().keys().next().unwrap();
            assert!(check(&case).unwrap_err().contains(key.as_str()), "{case}");
        }
    }
}
