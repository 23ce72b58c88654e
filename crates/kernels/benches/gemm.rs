//! Dense products at the shapes of a training step, on two threads; items are multiplications and additions.
//!
//! The three products of one linear layer with a batch of 2,048 tokens: forward, input gradient, weight gradient.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use hearth_kernels::gemm::{Accumulate, gemm_nn, gemm_nt, gemm_tn};
use hearth_kernels::pool::Pool;

fn main() {
    divan::main();
}

/// `(tokens, out_features, in_features)`
const LAYERS: [(usize, usize, usize); 5] =
    [(2048, 256, 256), (2048, 704, 256), (2048, 256, 704), (512, 8192, 256), (1024, 1408, 512)];

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

#[divan::bench(args = LAYERS)]
fn forward(bencher: Bencher<'_, '_>, (t, n, k): (usize, usize, usize)) {
    let (pool, x, w, mut y) = (Pool::new(2), values(t * k), values(n * k), vec![0.0; t * n]);
    bencher.counter(ItemsCount::new(2 * t * n * k)).bench_local(|| {
        gemm_nt(&pool, black_box(&x), &w, &mut y, k, Accumulate::Overwrite);
    });
}

#[divan::bench(args = LAYERS)]
fn input_gradient(bencher: Bencher<'_, '_>, (t, n, k): (usize, usize, usize)) {
    let (pool, dy, w, mut dx) = (Pool::new(2), values(t * n), values(n * k), vec![0.0; t * k]);
    bencher.counter(ItemsCount::new(2 * t * n * k)).bench_local(|| {
        gemm_nn(&pool, black_box(&dy), &w, &mut dx, n, Accumulate::Overwrite);
    });
}

#[divan::bench(args = LAYERS)]
fn weight_gradient(bencher: Bencher<'_, '_>, (t, n, k): (usize, usize, usize)) {
    let (pool, dy, x, mut dw) = (Pool::new(2), values(t * n), values(t * k), vec![0.0; n * k]);
    bencher.counter(ItemsCount::new(2 * t * n * k)).bench_local(|| {
        gemm_tn(&pool, black_box(&dy), &x, &mut dw, t, Accumulate::Add);
    });
}
