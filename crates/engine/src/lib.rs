//! Generation: KV cache, batching, prefix cache, sampling.
