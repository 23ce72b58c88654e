//! How fast this machine reads memory and multiplies, in about a second.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hearth_kernels::matmul::{PackedMatrix, matmul};
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::Format;

/// Far beyond any cache of a desktop processor.
const READ_BYTES: usize = 256 << 20;
/// A layer of a small model, and a chunk of a prompt.
const SIZE: usize = 1024;
const ROWS: usize = 256;
/// The best counts: whatever else the machine does can only slow a run down.
const REPEAT: usize = 4;

/// With all threads of the pool.
pub(super) struct Measured {
    /// A second, as everything here.
    pub(super) bytes: f64,
    /// Multiplications and additions of dense f32.
    pub(super) f32_operations: f64,
    /// The same of 8-bit weights by rounded activations.
    pub(super) int8_operations: f64,
}

impl Measured {
    pub(super) fn now(pool: &Pool) -> Self {
        let operations = (2 * ROWS * SIZE * SIZE) as f64;
        let x = vec![0.5_f32; ROWS * SIZE];
        let mut y = vec![0.0_f32; ROWS * SIZE];
        let dense = PackedMatrix::from_f32(SIZE, SIZE, &vec![0.25; SIZE * SIZE]);
        let f32_s = best(|| matmul(pool, &x, &dense, black_box(&mut y)));
        let bytes = Format::Q8_0.row_bytes(SIZE).expect("a multiple of the block");
        let packed = PackedMatrix::from_blocks(Format::Q8_0, SIZE, SIZE, &vec![0; bytes * SIZE]);
        let int8_s = best(|| matmul(pool, &x, &packed, black_box(&mut y)));
        Self {
            bytes: READ_BYTES as f64 / read(pool),
            f32_operations: operations / f32_s,
            int8_operations: operations / int8_s,
        }
    }
}

/// Seconds of the fastest of some runs.
fn best(mut run: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), REPEAT).map(time).fold(f64::INFINITY, f64::min)
}

/// Seconds to read a large buffer once.
fn read(pool: &Pool) -> f64 {
    let words = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let total = AtomicU64::new(0);
    best(|| {
        pool.for_each_range(words.len(), 1 << 16, |range| {
            let sum = words[range].iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
            total.fetch_add(sum, Ordering::Relaxed);
        });
        black_box(&total);
    })
}
