//! An adapter folder: `adapter_config.json` and `adapter_model.safetensors`, so that PEFT reads it too.
//!
//! GGUF files of the llama family store q and k with reordered rows. A folder always has Hugging Face's order, so an
//! adapter trained on either kind of base goes on the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hearth_tensor::weight::Param;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::settings::AdapterJson;
use super::{Adapter, Entry};
use crate::convert::source_row;
use crate::decoder::{Decoder, Module};
use crate::error::{Error, Result};

const MAGNITUDE: &str = "lora_magnitude_vector";

impl Adapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut bytes: BTreeMap<String, (Vec<u8>, Vec<usize>)> = BTreeMap::new();
        for entry in &self.entries {
            for (name, param, is_by_output) in entry.tensors() {
                let rows =
                    if is_by_output { entry.reordered(param, false) } else { Cow::Borrowed(&**param.data) };
                let data = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
                let shape = shape_of(&name, param);
                bytes.insert(name, (data, shape));
            }
        }
        let failed = |what: String| Error::Adapter { path: folder.into(), what };
        let views = bytes
            .iter()
            .map(|(name, (data, shape))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|error| failed(error.to_string()))?;
        let file = safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))?;
        hearth_artifacts::atomic::write(&folder.join("adapter_model.safetensors"), &file)?;
        let json = AdapterJson::new(&self.config);
        Ok(hearth_artifacts::atomic::write_json(&folder.join("adapter_config.json"), &json)?)
    }

    /// Reads an adapter for `decoder`; every shape is checked against it, and no tensor is left over.
    pub fn open(folder: &Path, decoder: &Decoder) -> Result<Self> {
        let failed = |what: String| Error::Adapter { path: folder.into(), what };
        let json: AdapterJson = hearth_artifacts::atomic::read_json(&folder.join("adapter_config.json"))?;
        json.check().map_err(failed)?;
        if json.hearth_interleaved && !decoder.config.interleaved {
            return Err(failed(
                "an older hearth made it for a GGUF file with the other row order of q and k".into(),
            ));
        }
        let bytes =
            fs_err::read(folder.join("adapter_model.safetensors")).map_err(crate::files::Error::from)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| failed(error.to_string()))?;
        let mut adapter = Self::new(decoder, json.lora, 0)?;
        let mut left: Vec<&str> = tensors.names();
        for entry in &mut adapter.entries {
            let wanted: Vec<_> = entry
                .tensors()
                .into_iter()
                .map(|(name, param, by_output)| (name, param.clone(), by_output))
                .collect();
            let mut read = Vec::new();
            for (name, mut param, is_by_output) in wanted {
                left.retain(|other| *other != name);
                param.data = Arc::new(values(&tensors, &name, &param).map_err(failed)?);
                if !param.data.iter().all(|value| value.is_finite()) {
                    return Err(Error::NotFinite { tensor: name });
                }
                if is_by_output && !json.hearth_interleaved {
                    param.data = Arc::new(entry.reordered(&param, true).into_owned());
                }
                read.push(param);
            }
            let mut read = read.into_iter();
            for place in [&mut entry.a, &mut entry.b].into_iter().chain(&mut entry.magnitude) {
                *place = read.next().expect("as many were read");
            }
        }
        match left.first() {
            Some(name) => {
                Err(failed(format!("`{name}` has no place in this model: is it another's adapter?")))
            }
            None => Ok(adapter),
        }
    }
}

/// The f32 values of a tensor, whatever PEFT stored them as.
fn values(tensors: &SafeTensors<'_>, name: &str, param: &Param) -> std::result::Result<Vec<f32>, String> {
    let view = tensors.tensor(name).map_err(|error| format!("`{name}`: {error}"))?;
    let expected = shape_of(name, param);
    let bytes = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        Dtype::BF16 => {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => return Err(format!("`{name}` is {other:?}, expected F32, F16 or BF16")),
    };
    if view.shape() != expected {
        return Err(format!("`{name}` is {:?}, this model needs {expected:?}", view.shape()));
    }
    Ok(values)
}

/// PEFT's magnitudes are vectors.
fn shape_of(name: &str, param: &Param) -> Vec<usize> {
    if name.ends_with(MAGNITUDE) { vec![param.cols] } else { vec![param.rows, param.cols] }
}

impl Entry {
    /// Names, parameters, and whether they go by the rows of the base.
    fn tensors(&self) -> Vec<(String, &Param, bool)> {
        let mut tensors =
            vec![(self.name("lora_A.weight"), &self.a, false), (self.name("lora_B.weight"), &self.b, true)];
        if let Some(magnitude) = &self.magnitude {
            tensors.push((self.name(MAGNITUDE), magnitude, true));
        }
        tensors
    }

    /// PEFT's name for a part of this module.
    fn name(&self, part: &str) -> String {
        let Module { projection, expert } = self.module;
        let expert = expert.map(|expert| format!("experts.{expert}.")).unwrap_or_default();
        let module = format!("{}.{expert}{}", projection.module(), projection.name());
        format!("base_model.model.model.layers.{}.{module}.{part}", self.layer)
    }

    /// Rows in the decoder's order, or in Hugging Face's.
    fn reordered<'a>(&self, param: &'a Param, to_decoder: bool) -> Cow<'a, [f32]> {
        let Some(head_dim) = self.head_dim else { return Cow::Borrowed(&param.data) };
        let width = param.data.len() / self.b.rows;
        let rows = (0..self.b.rows).flat_map(|row| {
            let from = source_row(row, head_dim, to_decoder);
            &param.data[from * width..(from + 1) * width]
        });
        Cow::Owned(rows.copied().collect())
    }
}
