//! Shapes, storage and the coarse operations a model is written in.
//!
//! A model's forward pass is written once against [`graph::Graph`]. Two executors run it:
//! * [`eager`] — computes and forgets: generation, evaluation, embedding
//! * [`tape`] — computes and remembers: training, with a backward for every operation
//!
//! Both call the same functions of `hearth-kernels`, so their results are equal to the bit.
//! * [`tensor`] — a matrix of f32 and the arena its buffer comes from
//! * [`weight`] — parameters as a graph sees them: dense or packed, frozen or trained, with LoRA
//! * [`ops`] — the forward of each operation, called by both executors
//! * [`kv`] — keys and values of sequences, in shared pages
//! * [`optimizer`] — AdamW over the trained parameters

pub mod tensor;
pub mod weight;
pub mod graph;
pub mod ops;
pub mod kv;
pub mod eager;
pub mod tape;
pub mod optimizer;

pub use tensor::Tensor;
