//! Products with packed weights, at the shapes of SmolLM2-135M and Qwen2.5-0.5B, on one thread.
//!
//! Decoding (one row) counts the bytes of weights read, beside a plain sum over the same bytes; products of
//! many rows count multiplications. `HEARTH_CPU=avx2` lowers the instruction set.

use std::fmt;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use hearth_kernels::matmul::{Activations, InputBits, PackedMatrix, matmul, matmul_transposed};
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::Format;

fn main() {
    divan::main();
}

#[derive(Clone, Copy)]
struct Case {
    format: Format,
    rows: usize,
    cols: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}x{}", self.format, self.rows, self.cols)
    }
}

const fn case(format: Format, rows: usize, cols: usize) -> Case {
    Case { format, rows, cols }
}

/// The matrices of a layer: SmolLM2-135M in `Q4_1`, Qwen2.5-0.5B in the mixture of `Q4_K_M`.
const LAYERS: [Case; 9] = [
    case(Format::Q4_1, 576, 576),
    case(Format::Q4_1, 192, 576),
    case(Format::Q4_1, 1536, 576),
    case(Format::Q4_1, 576, 1536),
    case(Format::Q5_0, 4864, 896),
    case(Format::Q8_0, 128, 896),
    case(Format::Q4K, 896, 4864),
    case(Format::Q6K, 896, 4864),
    case(Format::Q5K, 896, 4864),
];

const HEADS: [Case; 2] = [case(Format::Q8_0, 49152, 576), case(Format::Q8_0, 151_936, 896)];

impl Case {
    /// Bytes whose f16 scales are small normal numbers.
    fn bytes(self) -> Vec<u8> {
        let len = self.rows * self.format.row_bytes(self.cols).expect("whole blocks");
        (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59) as u8 + 8).collect()
    }

    fn packed(self) -> PackedMatrix {
        PackedMatrix::from_blocks(self.format, self.rows, self.cols, &self.bytes())
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.37).sin()).collect()
}

#[divan::bench(args = LAYERS.into_iter().chain(HEADS))]
fn decode_one_row(bencher: Bencher<'_, '_>, case: Case) {
    let (pool, w) = (Pool::new(1), case.packed());
    let (x, mut y) = (values(case.cols), vec![0.0; case.rows]);
    bencher.counter(BytesCount::new(w.bytes())).bench_local(|| matmul(&pool, black_box(&x), &w, &mut y));
}

#[divan::bench(args = LAYERS.into_iter().chain(HEADS))]
fn plain_sum_of_the_bytes(bencher: Bencher<'_, '_>, case: Case) {
    let bytes = vec![1_u64; case.packed().bytes() / 8];
    bencher
        .counter(BytesCount::new(bytes.len() * 8))
        .bench_local(|| black_box(&bytes).iter().fold(0_u64, |a, b| a.wrapping_add(*b)));
}

#[divan::bench(args = LAYERS, consts = [2, 4, 16, 512], sample_size = 1)]
fn many_rows<const M: usize>(bencher: Bencher<'_, '_>, case: Case) {
    let (pool, w) = (Pool::new(1), case.packed());
    let (x, mut y) = (values(M * case.cols), vec![0.0; M * case.rows]);
    bencher
        .counter(ItemsCount::new(M * case.rows * case.cols))
        .bench_local(|| matmul(&pool, black_box(&x), &w, &mut y));
}

#[divan::bench(args = LAYERS, consts = [16, 512], sample_size = 1)]
fn many_rows_of_bytes<const M: usize>(bencher: Bencher<'_, '_>, case: Case) {
    let (pool, w) = (Pool::new(1), case.packed().with_input_bits(InputBits::Eight));
    let (x, mut y) = (values(M * case.cols), vec![0.0; M * case.rows]);
    bencher
        .counter(ItemsCount::new(M * case.rows * case.cols))
        .bench_local(|| matmul(&pool, black_box(&x), &w, &mut y));
}

#[divan::bench(args = LAYERS, consts = [16, 256], sample_size = 1)]
fn transposed<const M: usize>(bencher: Bencher<'_, '_>, case: Case) {
    let (pool, w) = (Pool::new(1), case.packed());
    let (dy, mut dx) = (values(M * case.rows), vec![0.0; M * case.cols]);
    bencher
        .counter(ItemsCount::new(M * case.rows * case.cols))
        .bench_local(|| matmul_transposed(&pool, black_box(&dy), &w, &mut dx));
}

#[divan::bench(args = LAYERS, sample_size = 1)]
fn pack(bencher: Bencher<'_, '_>, case: Case) {
    let bytes = case.bytes();
    bencher
        .counter(ItemsCount::new(case.rows * case.cols))
        .bench_local(|| PackedMatrix::from_blocks(case.format, case.rows, case.cols, black_box(&bytes)));
}

#[divan::bench(args = [576, 4864])]
fn quantise_activations(bencher: Bencher<'_, '_>, cols: usize) {
    let (pool, x) = (Pool::new(1), values(cols));
    let mut quantised = Activations::default();
    bencher
        .counter(ItemsCount::new(cols))
        .bench_local(|| quantised.quantise(&pool, black_box(&x), cols, InputBits::Sixteen));
}
