//! A model folder whose weights are a formula of their tensors' names, as `golden/families.py` makes them.
//!
//! Out: config.json and model.safetensors (F32); no tokenizer.

use std::io;
use std::path::Path;

use crate::tiny_model::{Random, Tensor, safetensors};

/// A tensor whose values are `offset + scale * u`, u in [-1, 1) by `SplitMix64` seeded with the name's FNV-1a hash.
#[derive(Debug, Clone)]
pub struct FormulaTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: f32,
    pub scale: f32,
}

/// Writes the model into a folder, which is made if need be.
pub fn formula_model(folder: &Path, config: &serde_json::Value, tensors: &[FormulaTensor]) -> io::Result<()> {
    fs_err::create_dir_all(folder)?;
    fs_err::write(folder.join("config.json"), serde_json::to_vec(config)?)?;
    let tensors: Vec<Tensor> = tensors.iter().map(FormulaTensor::tensor).collect();
    fs_err::write(folder.join("model.safetensors"), safetensors(&tensors))
}

impl FormulaTensor {
    fn tensor(&self) -> Tensor {
        let mut random = Random::new(fnv(&self.name));
        let mut signed = || (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        let len = self.shape.iter().product();
        let data = (0..len).map(|_| self.offset + self.scale * signed()).collect();
        Tensor { name: self.name.clone(), shape: self.shape.clone(), data }
    }
}

/// FNV-1a (Fowler, Noll & Vo), 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
