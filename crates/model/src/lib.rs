//! One decoder many families are data for; encoders; LoRA; GGUF and safetensors.
//!
//! * [`files`] — weights on disk, read safely
//! * [`config`] — a decoder's shape, from either kind of file
//! * [`decoder`] — the forward definition that training and generation share
//! * [`load`] — a file or folder to a [`Model`] in memory
//! * `random` — values of new weights
//! * [`trained`] — decoders all of whose weights are trained: made anew, updated, written
//! * [`lora`] — adapters
//! * [`convert`] — a model on disk to another: GGUF, folder, fewer bits
//! * [`encoder`] — texts to vectors

pub mod files;
pub mod config;
pub mod decoder;
pub mod load;
mod random;
pub mod trained;
pub mod lora;
pub mod convert;
pub mod encoder;
pub mod error;

pub use config::ModelConfig;
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use load::Model;
pub use lora::{Adapter, LoraConfig};
