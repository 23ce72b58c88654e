//! Laws of the packed product: equal to the bit everywhere, near the exact values, faults shown.

use super::*;
use crate::dispatch::at_every_level;
use crate::quant::{Format, dequantize};

const FORMATS: [Format; 12] = [
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q2K,
    Format::Q3K,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
    Format::IQ4NL,
    Format::IQ4XS,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0).collect()
    }
}

/// Random blocks whose scales are small finite numbers.
fn blocks(format: Format, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let len = rows * format.row_bytes(cols).unwrap();
    let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let halves: &[usize] = match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4NL | Format::IQ4XS => &[0],
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Q6K => &[208],
        _ => &[0, 2],
    };
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for &at in halves {
            let scale = half::f16::from_f32(0.001 + (random.next() % 100) as f32 * 1e-4);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

fn product(w: &PackedMatrix, x: &[f32], threads: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / w.cols() * w.rows()];
    matmul(&Pool::new(threads), x, w, &mut y);
    y
}

#[test]
fn packed_rows_decode_to_the_formats_own_values() {
    let mut random = Random(1);
    for format in FORMATS {
        let (rows, cols) = (21, 512);
        let bytes = blocks(format, rows, cols, &mut random);
        let mut expected = vec![0.0; rows * cols];
        dequantize(format, &bytes, &mut expected);
        let w = PackedMatrix::from_blocks(format, rows, cols, &bytes);
        for (row, expected) in expected.chunks_exact(cols).enumerate() {
            let mut out = vec![0.0; cols];
            w.row(row, &mut out);
            // Product scales of the K formats are rounded to f16: 2⁻¹¹ of the scale times at most 63.
            let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let bound = if format.block_len() == 256 { largest * 2e-3 } else { 0.0 };
            for (out, expected) in out.iter().zip(expected) {
                assert!((out - expected).abs() <= bound, "{format:?} row {row}: {out} vs. {expected}");
            }
        }
    }
}

#[test]
fn every_level_gives_the_bits_of_the_scalar_loop() {
    let mut random = Random(2);
    for format in FORMATS {
        // Few rows of x, then many: weights are widened once for all of them, 1280 columns in three chunks.
        let cases = [(1, 16, 256), (2, 19, 256), (5, 33, 256), (15, 16, 256), (16, 48, 256), (18, 21, 1280)];
        for (m, rows, cols) in cases.into_iter().chain([(31, 16, 512), (301, 17, 1280)]) {
            let w = PackedMatrix::from_blocks(format, rows, cols, &blocks(format, rows, cols, &mut random));
            let x = random.values(m * cols);
            let sixteen = at_every_level(|| product(&w, &x, 1));
            let w = w.with_input_bits(InputBits::Eight);
            let eight = at_every_level(|| product(&w, &x, 1));
            assert_ne!(sixteen, eight, "{format:?}: inputs of 8 and of 16 bits");
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_in_a_batch_with_any_thread_count() {
    let mut random = Random(3);
    for format in FORMATS {
        let w = PackedMatrix::from_blocks(format, 70, 512, &blocks(format, 70, 512, &mut random));
        let x = random.values(43 * 512);
        for w in [w.clone(), w.with_input_bits(InputBits::Eight)] {
            let batch = product(&w, &x, 1);
            assert_eq!(batch, product(&w, &x, 3), "{format:?}: threads");
            for (x, y) in x.chunks_exact(512).zip(batch.chunks_exact(70)) {
                assert_eq!(product(&w, x, 1), y, "{format:?}: alone");
            }
        }
    }
}

#[test]
fn several_matrices_at_once_give_the_bits_of_each_alone() {
    let mut random = Random(7);
    let cols = 256;
    let shapes = [
        (Format::Q4_0, 70, InputBits::Sixteen),
        (Format::Q6K, 32, InputBits::Eight),
        (Format::Q4K, 5, InputBits::Sixteen),
        (Format::Q8_0, 48, InputBits::Eight),
    ];
    let mut matrices: Vec<PackedMatrix> = Vec::new();
    for (format, rows, bits) in shapes {
        let bytes = blocks(format, rows, cols, &mut random);
        matrices.push(PackedMatrix::from_blocks(format, rows, cols, &bytes).with_input_bits(bits));
    }
    matrices.push(PackedMatrix::from_f32(9, cols, &random.values(9 * cols)));
    for count in [1, 3, 70] {
        let x = random.values(count * cols);
        let mut together: Vec<Vec<f32>> = matrices.iter().map(|w| vec![f32::NAN; count * w.rows()]).collect();
        let outs = together.iter_mut().map(Vec::as_mut_slice);
        matmul_each(&Pool::new(2), &x, matrices.iter().zip(outs));
        for (w, together) in matrices.iter().zip(together) {
            assert_eq!(product(w, &x, 1), together, "{count} rows of x, {} of w", w.rows());
        }
    }
}

#[test]
fn products_are_near_the_exact_ones() {
    let mut random = Random(4);
    for format in FORMATS {
        let (rows, cols) = (20, 1024);
        let bytes = blocks(format, rows, cols, &mut random);
        let mut dense = vec![0.0; rows * cols];
        dequantize(format, &bytes, &mut dense);
        let x = random.values(cols);
        let y = product(&PackedMatrix::from_blocks(format, rows, cols, &bytes), &x, 2);
        for (y, w) in y.iter().zip(dense.chunks_exact(cols)) {
            let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let size: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(w * x).powi(2)).sum::<f64>().sqrt();
            // Rounding x to 8 bits: half a step of 1/127 a term, uniform, so 0.23 % of the sum's size.
            assert!((f64::from(*y) - exact).abs() < 0.03 * size + 1e-4, "{format:?}: {y} vs. {exact}");
        }
    }
}

#[test]
fn dense_matrices_multiply_as_gemm_does() {
    let mut random = Random(5);
    for (m, rows, cols) in [(1, 5, 7), (3, 16, 300), (9, 50, 513)] {
        let (x, values) = (random.values(m * cols), random.values(rows * cols));
        let mut expected = vec![0.0; m * rows];
        crate::gemm::gemm_nt(&Pool::new(1), &x, &values, &mut expected, cols, Accumulate::Overwrite);
        let w = PackedMatrix::from_f32(rows, cols, &values);
        assert_eq!(product(&w, &x, 2), expected);
        let rounded: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        let narrow = PackedMatrix::from_blocks(Format::BF16, rows, cols, &rounded);
        let wide: Vec<f32> = values.iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect();
        assert_eq!(product(&narrow, &x, 1), product(&PackedMatrix::from_f32(rows, cols, &wide), &x, 1));
    }
}

#[test]
fn transposed_product_is_the_chain_over_decoded_rows() {
    let mut random = Random(6);
    for (format, rows, cols) in [
        (Format::Q5_0, 150, 96),
        (Format::Q6K, 40, 256),
        (Format::F32, 9, 70),
        (Format::BF16, 100, 50),
        (Format::Q4_0, 4130, 96),
    ] {
        let bytes = match format {
            Format::F32 => random.values(rows * cols).iter().flat_map(|v| v.to_le_bytes()).collect(),
            Format::BF16 => {
                (0..rows * cols).flat_map(|i| (0x3f00 + (i * 37 % 99) as u16).to_le_bytes()).collect()
            }
            _ => blocks(format, rows, cols, &mut random),
        };
        let w = PackedMatrix::from_blocks(format, rows, cols, &bytes);
        let mut dense = vec![0.0; rows * cols];
        for (row, out) in dense.chunks_exact_mut(cols).enumerate() {
            w.row(row, out);
        }
        // Few rows go through the matrix once; for many it is decoded and packed.
        for count in [5, 50] {
            let dy = random.values(count * rows);
            let mut expected = vec![0.0; count * cols];
            crate::gemm::gemm_nn(&Pool::new(1), &dy, &dense, &mut expected, rows, Accumulate::Overwrite);
            for threads in [1, 2] {
                let mut dx = vec![f32::NAN; count * cols];
                matmul_transposed(&Pool::new(threads), &dy, &w, &mut dx);
                assert!(dx == expected, "{format:?}, {count} rows, {threads} threads");
            }
        }
    }
}

#[test]
fn a_nan_in_the_input_reaches_the_output() {
    let mut random = Random(7);
    let w = PackedMatrix::from_blocks(Format::Q4_1, 16, 64, &blocks(Format::Q4_1, 16, 64, &mut random));
    let mut x = random.values(64);
    x[50] = f32::INFINITY;
    assert!(product(&w, &x, 1).iter().all(|y| y.is_nan()));
}
