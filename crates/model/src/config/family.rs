//! The families: their names in either kind of file, what their tensors are called, what they read besides.

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::{ModelConfig, gemma, gguf, hugging_face, llama, mistral, phi, qwen};
use crate::error::{Error, Result};

/// Model families whose weights the decoder can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Llama,
    Mistral,
    Mixtral,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Gemma2,
    Gemma3,
    Phi3,
}

/// What makes a family.
pub(super) struct Traits {
    pub(super) family: Family,
    pub(super) gguf: Option<Gguf>,
    pub(super) hugging_face: HuggingFace,
}

/// A family in GGUF files.
pub(super) struct Gguf {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// The converter reorders rows of q and k so that neighbours rotate.
    pub(super) interleaved: bool,
    pub(super) names: Names,
    /// Reads what differs from a plain Llama.
    pub(super) read: fn(&gguf::Keys<'_>, &mut ModelConfig) -> Result<()>,
}

/// A family in Hugging Face folders.
pub(super) struct HuggingFace {
    /// `model_type`, the first being that of text alone.
    pub(super) model_types: &'static [&'static str],
    /// Of transformers, in `architectures`.
    pub(super) class: &'static str,
    /// `rope_theta` where the file doesn't say.
    pub(super) rope_theta: f32,
    pub(super) names: Names,
    /// Reads what differs from a plain Llama.
    pub(super) read: fn(&hugging_face::Json<'_>, &mut ModelConfig) -> Result<()>,
}

const ALL: [&Traits; 9] = [
    &llama::LLAMA,
    &mistral::MISTRAL,
    &mistral::MIXTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI3,
];

impl Family {
    pub const ALL: [Self; 9] = [
        Self::Llama,
        Self::Mistral,
        Self::Mixtral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
    ];

    pub(super) fn from_gguf(architecture: &str) -> Result<(Self, &'static Gguf)> {
        let families = ALL.iter().filter_map(|traits| Some((traits.family, traits.gguf.as_ref()?)));
        let known = || families.clone().map(|(_, gguf)| gguf.architecture).collect::<Vec<_>>();
        let found = families.clone().find(|(_, gguf)| gguf.architecture == architecture);
        found.ok_or_else(|| unknown(architecture, &known()))
    }

    pub(super) fn from_hugging_face(model_type: &str) -> Result<(Self, &'static HuggingFace)> {
        let found = ALL.iter().find(|traits| traits.hugging_face.model_types.contains(&model_type));
        let known = || ALL.iter().map(|traits| traits.hugging_face.model_types[0]).collect::<Vec<_>>();
        let traits = found.ok_or_else(|| unknown(model_type, &known()))?;
        Ok((traits.family, &traits.hugging_face))
    }

    /// The family that GGUF files of this one name: Mistral's and Mixtral's say `llama`.
    fn in_gguf(self) -> Self {
        match self {
            Self::Mistral | Self::Mixtral => Self::Llama,
            other => other,
        }
    }

    /// The family's part in GGUF files, its own or another's.
    fn gguf(self) -> &'static Gguf {
        self.in_gguf().traits().gguf.as_ref().expect("every family has files, if under another's name")
    }

    /// `general.architecture` of the family's GGUF files.
    pub(crate) fn architecture(self) -> &'static str {
        self.gguf().architecture
    }

    /// Whether GGUF files hold rows of q and k so that neighbours rotate.
    pub(crate) fn is_interleaved_in_gguf(self) -> bool {
        self.gguf().interleaved
    }

    /// `model_type` of the family's folders, that of text alone.
    pub(crate) fn model_type(self) -> &'static str {
        self.traits().hugging_face.model_types[0]
    }

    /// `rope_theta` of folders that don't say.
    pub(crate) fn default_rope_theta(self) -> f32 {
        self.traits().hugging_face.rope_theta
    }

    /// The class of transformers that runs the family.
    pub(crate) fn class(self) -> &'static str {
        self.traits().hugging_face.class
    }

    fn traits(self) -> &'static Traits {
        ALL.iter().find(|traits| traits.family == self).expect("every family is listed")
    }

    /// What tensors are called in GGUF files.
    pub(crate) fn gguf_names(self) -> &'static Names {
        &self.gguf().names
    }

    /// What tensors are called in Hugging Face folders.
    pub(crate) fn hugging_face_names(self) -> &'static Names {
        &self.traits().hugging_face.names
    }
}

fn unknown(name: &str, known: &[&str]) -> Error {
    Error::Family { name: name.into(), known: known.join(", ") }
}
