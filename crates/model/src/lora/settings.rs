//! `adapter_config.json` as PEFT writes it: the keys that decide what is computed, and a refusal of all others that would.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::unknown;
use crate::decoder::{Decoder, Projection};
use crate::error::Result;

/// PEFT's word for every linear layer but the output head.
pub(crate) const ALL_LINEAR: &str = "all-linear";

/// What an adapter is made of, in PEFT's words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// The update is scaled by alpha / rank.
    pub lora_alpha: f32,
    /// Names such as `q_proj`, or `all-linear`.
    #[serde(deserialize_with = "one_or_many")]
    pub target_modules: Vec<String>,
    /// The update is scaled by alpha / √rank instead.
    #[serde(default)]
    pub use_rslora: bool,
    /// Rows of the adapted matrix have trained magnitudes.
    #[serde(default)]
    pub use_dora: bool,
    /// Layers that are adapted; all without it.
    #[serde(default, deserialize_with = "null_one_or_many")]
    pub layers_to_transform: Option<Vec<usize>>,
}

impl LoraConfig {
    /// What `B A` is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.r as f32;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Whether an adapter for this decoder can be made of it; an error says what is in the way.
    pub fn check(&self, decoder: &Decoder) -> Result<()> {
        self.targets()?;
        self.check_layers(decoder.layers.len())
    }

    pub(super) fn has_layer(&self, layer_index: usize) -> bool {
        self.layers_to_transform.as_ref().is_none_or(|layers| layers.contains(&layer_index))
    }

    pub(super) fn check_layers(&self, num_layers: usize) -> Result<()> {
        let layers = self.layers_to_transform.as_deref().unwrap_or_default();
        if self.layers_to_transform.is_some() && layers.is_empty() {
            return Err(unknown("`layers_to_transform` names no layer".into()));
        }
        match layers.iter().find(|&&layer| layer >= num_layers) {
            Some(layer) => Err(unknown(format!(
                "`layers_to_transform` names layer {layer}, but the decoder has {num_layers}, counted from 0"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn targets(&self) -> Result<Vec<Projection>> {
        let find = |name: &String| {
            let found = Projection::ALL.into_iter().find(|projection| projection.name() == name);
            found.ok_or_else(|| {
                let known: Vec<&str> = Projection::ALL.into_iter().map(Projection::name).collect();
                unknown(format!(
                    "`target_modules` names `{name}`, which this decoder doesn't have; known are {ALL_LINEAR}, {}",
                    known.join(", ")
                ))
            })
        };
        if self.r == 0 || self.target_modules.is_empty() {
            return Err(unknown("an adapter needs a rank `r` and `target_modules`".into()));
        }
        if !self.lora_alpha.is_finite() {
            return Err(unknown(format!("`lora_alpha` is {}, expected a finite number", self.lora_alpha)));
        }
        if self.target_modules == [ALL_LINEAR] {
            return Ok(Projection::ALL.to_vec());
        }
        let mut targets = self.target_modules.iter().map(find).collect::<Result<Vec<_>>>()?;
        targets.sort_unstable();
        targets.dedup();
        Ok(targets)
    }
}

/// `adapter_config.json`, and one key of our own in older ones.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AdapterJson {
    pub(super) peft_type: String,
    pub(super) task_type: Option<String>,
    #[serde(flatten)]
    pub(super) lora: LoraConfig,
    /// Rows of q and k stand as in GGUF's llama family, and not as in Hugging Face's folders.
    #[serde(default, skip_serializing)]
    pub(super) hearth_interleaved: bool,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

impl AdapterJson {
    /// What PEFT needs to read the folder beside the weights.
    pub(super) fn new(config: &LoraConfig) -> Self {
        let mut lora = config.clone();
        if lora.target_modules == [ALL_LINEAR] {
            // Spelt out, since PEFT would ask the base's architecture which layers are meant.
            lora.target_modules = Projection::ALL.map(|projection| projection.name().to_owned()).to_vec();
        }
        let others = [
            ("bias", json!("none")),
            ("lora_dropout", json!(0.0)),
            ("fan_in_fan_out", json!(false)),
            ("inference_mode", json!(true)),
            ("init_lora_weights", json!(true)),
            ("modules_to_save", json!(null)),
            ("base_model_name_or_path", json!(null)),
        ];
        Self {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            lora,
            hearth_interleaved: false,
            others: others.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }

    /// Refuses what would make another adapter of the same weights, by its name: any key that says something and isn't
    /// known to change nothing.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!("`peft_type` is `{}`; LORA is known here", self.peft_type));
        }
        let says_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(values) => values.is_empty(),
            _ => false,
        };
        for (key, value) in &self.others {
            let is_plain = match key.as_str() {
                "bias" => value == "none",
                // Others change the base's weights before training begins.
                "init_lora_weights" => value.is_boolean() || value == "gaussian" || value == "orthogonal",
                key => INERT.contains(&key),
            };
            if !is_plain && !says_nothing(value) {
                return Err(format!("`{key}` is {value}, which isn't known here"));
            }
        }
        Ok(())
    }
}

/// Keys of PEFT that don't change what an adapter computes once it is trained.
const INERT: [&str; 13] = [
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "auto_mapping",
    "inference_mode",
    "lora_dropout",
    "loftq_config",
    "eva_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
];

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn many(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    let names = Option::<OneOrMany<String>>::deserialize(deserializer)?;
    names.map(OneOrMany::many).ok_or_else(|| D::Error::custom("`target_modules` is null"))
}

fn null_one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Vec<usize>>, D::Error> {
    Ok(Option::<OneOrMany<usize>>::deserialize(deserializer)?.map(OneOrMany::many))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &serde_json::Value) -> std::result::Result<AdapterJson, String> {
        let mut config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 8, "target_modules": ["q_proj"],
            "use_dora": false, "use_rslora": false, "bias": "none", "rank_pattern": {}, "alpha_pattern": {},
            "modules_to_save": null, "fan_in_fan_out": false, "lora_dropout": 0.05, "init_lora_weights": true,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let json = serde_json::from_value::<AdapterJson>(config).map_err(|error| error.to_string())?;
        json.check().map(|()| json)
    }

    #[test]
    fn other_kinds_of_adapters_are_refused_by_name() {
        assert!(read(&json!({})).is_ok());
        let cases = [
            json!({ "bias": "all" }),
            json!({ "rank_pattern": { "q_proj": 4 } }),
            json!({ "modules_to_save": ["lm_head"] }),
            json!({ "peft_type": "IA3" }),
            json!({ "target_modules": null }),
            json!({ "lora_bias": true }),
            json!({ "init_lora_weights": "pissa" }),
            json!({ "kernel_of_next_year": { "a": 1 } }),
        ];
        for case in cases {
            let key = case.as_object().unwrap().keys().next().unwrap();
            assert!(read(&case).unwrap_err().contains(key.as_str()), "{case}");
        }
    }

    #[test]
    fn variants_of_peft_are_read() {
        let scale = |more: serde_json::Value| read(&more).unwrap().lora.scale();
        assert!((scale(json!({})) - 0.5).abs() < 1e-7);
        assert!((scale(json!({ "use_rslora": true })) - 2.0).abs() < 1e-7);
        let all = read(&json!({ "target_modules": "all-linear", "layers_to_transform": 3 })).unwrap().lora;
        assert_eq!(all.targets().unwrap(), Projection::ALL);
        assert!(all.has_layer(3) && !all.has_layer(2));
        assert!(all.check_layers(4).is_ok());
        assert!(all.check_layers(3).unwrap_err().to_string().contains("layer 3"));
        assert!(read(&json!({ "target_modules": ["lm_head"] })).unwrap().lora.targets().is_err());
    }
}
