//! One decoder many families are data for; encoders; LoRA; GGUF and safetensors.

pub mod files;
