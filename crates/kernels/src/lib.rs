//! CPU compute: thread pool, SIMD matmul, attention, norms.
