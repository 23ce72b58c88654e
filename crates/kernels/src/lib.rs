//! CPU compute: slices in, slices out. No I/O, no allocation on hot paths that a caller could reuse.
//!
//! * [`pool`] — a spinning thread pool; every result is independent of the number of threads
//! * [`quant`] — the block formats of GGUF files and their scalar decoding: the reference
//! * [`matmul`] — weights packed for the SIMD width; `y = x Wᵀ` with 16-bit activations, and its transpose
//! * [`gemm`] — dense f32 products
//! * [`convolution`] — windows over pictures, channels side by side
//! * [`attention`] — causal grouped-query attention over pages of keys and values
//! * [`attention_backward`] — its gradients, probabilities recomputed
//! * [`encoder_attention`] — attention of encoders: every token of a text sees every other
//! * [`routing`] — which experts a token goes to
//! * [`scan`] — a query beside many rows of 8-bit integers, for vector search
//! * [`minhash`] — the smallest values of many hash functions over a set
//! * [`elementwise`], [`norm`], [`rope`], [`loss`], [`adamw`] — row by row, forward and backward
//!
//! Determinism: each output is one chain of fused multiply-adds over K in ascending order, whatever the
//! batch, the thread count or the instruction set. SIMD lanes run across outputs, never across K, so
//! the scalar, AVX2 and AVX-512 paths agree to the bit. Norms and losses sum in sixteen lanes and one tree.
#![expect(unsafe_code, reason = "the only home of SIMD intrinsics and of the thread pool's hand-over")]
#![expect(
    clippy::inline_always,
    reason = "parts of vectorised loops must take on their caller's instructions"
)]

pub mod adamw;
pub mod attention;
pub mod attention_backward;
pub mod convolution;
pub mod cpu;
mod dispatch;
pub mod elementwise;
pub mod encoder_attention;
pub mod gemm;
#[cfg(test)]
mod gradient_check;
mod lanes;
pub mod loss;
pub mod matmul;
pub mod minhash;
pub mod norm;
pub mod pool;
pub mod quant;
pub mod rope;
pub mod routing;
pub mod scan;
