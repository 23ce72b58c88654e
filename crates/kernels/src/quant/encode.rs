//! f32 rows to blocks.
//!
//! Each format's scales come out of the search in [`super::fit`]; the integers are then rounded with the scales as
//! the block stores them, in f16. In a K format the scales of the sub-blocks are 6- or 8-bit multiples of one f16
//! scale: neighbouring multiples are tried for each sub-block, and the common scale is solved for once more.

use half::f16;

use super::fit::{error, inverse, round_to, symmetric, with_minimum};
use super::{Format, fit};
use crate::dispatch::multiversion;

/// Weights that share a super-block's scale in a K format.
const SUPER: usize = 256;

/// Whether [`quantize`] can write the format.
pub fn can_quantize(format: Format) -> bool {
    !matches!(format, Format::Q2K | Format::Q3K | Format::IQ4NL | Format::IQ4XS)
}

/// Encodes rows of `cols` weights. `importance` says how much an error in a column counts.
///
/// # Panics
/// If `values` isn't whole rows, `out` isn't their blocks, or the format can't be written ([`can_quantize`]).
pub fn quantize(format: Format, values: &[f32], cols: usize, importance: Option<&[f32]>, out: &mut [u8]) {
    let row_bytes = format.row_bytes(cols).expect("a row of whole blocks");
    assert_eq!(values.len() % cols, 0, "values aren't rows of {cols}");
    assert_eq!(
        out.len(),
        values.len() / cols * row_bytes,
        "bytes of {} {format:?} rows",
        values.len() / cols
    );
    assert!(importance.is_none_or(|importance| importance.len() == cols), "one importance for each column");
    for (row, out) in values.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
        match format {
            Format::F32 => put_values(row, out, f32::to_le_bytes),
            Format::F16 => put_values(row, out, |value| f16::from_f32(value).to_le_bytes()),
            Format::BF16 => put_values(row, out, |value| half::bf16::from_f32(value).to_le_bytes()),
            _ => quantize_row(format, row, importance, out),
        }
    }
}

fn put_values<const N: usize>(row: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (value, out) in row.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = bytes(*value);
    }
}

multiversion! {
    fn quantize_row(format: Format, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match format {
            Format::Q4_0 => blocks_of(row, importance, out, symmetric_block::<4>),
            Format::Q5_0 => blocks_of(row, importance, out, symmetric_block::<5>),
            Format::Q4_1 => blocks_of(row, importance, out, block_with_minimum::<4>),
            Format::Q5_1 => blocks_of(row, importance, out, block_with_minimum::<5>),
            Format::Q8_0 => blocks_of(row, importance, out, |x, _, out| q8_0_block(x, out)),
            Format::Q4K => blocks_of(row, importance, out, k_block::<4>),
            Format::Q5K => blocks_of(row, importance, out, k_block::<5>),
            Format::Q6K => blocks_of(row, importance, out, q6_k_block),
            _ => panic!("{format:?} can be read, not written"),
        }
    }
}

/// Hands each block with its weights and its bytes to `encode`.
#[inline(always)]
fn blocks_of<const N: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &[f32; N], &mut [u8]),
) {
    let blocks = row.as_chunks::<N>().0;
    let block_bytes = out.len() / blocks.len();
    for (index, (x, out)) in blocks.iter().zip(out.chunks_exact_mut(block_bytes)).enumerate() {
        let mut w = [1.0; N];
        if let Some(importance) = importance {
            // A column that was never active still has weights that count a little.
            for (w, &importance) in w.iter_mut().zip(&importance[index * N..]) {
                *w = importance.max(1e-8);
            }
        }
        encode(x, &w, out);
    }
}

/// What f16 makes of a scale.
#[inline(always)]
fn stored(scale: f32) -> f32 {
    f16::from_f32(scale).to_f32()
}

#[inline(always)]
fn put_f16(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

#[inline(always)]
fn q8_0_block(x: &[f32; 32], out: &mut [u8]) {
    let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let scale = stored(largest / 127.0);
    put_f16(out, 0, scale);
    let inverse = inverse(scale);
    for (out, x) in out[2..].iter_mut().zip(x) {
        *out = round_to(x * inverse, -127.0, 127.0) as i8 as u8;
    }
}

/// Q4_0 and Q5_0.
#[inline(always)]
fn symmetric_block<const BITS: u32>(x: &[f32; 32], w: &[f32; 32], out: &mut [u8]) {
    let levels = (1 << (BITS - 1)) as f32;
    let scale = stored(symmetric(x, w, levels));
    put_f16(out, 0, scale);
    let inverse = inverse(scale);
    let q = x.map(|x| (round_to(x * inverse, -levels, levels - 1.0) + levels) as u8);
    put_integers::<BITS>(&q, &mut out[2..]);
}

/// Q4_1 and Q5_1.
#[inline(always)]
fn block_with_minimum<const BITS: u32>(x: &[f32; 32], w: &[f32; 32], out: &mut [u8]) {
    let levels = ((1 << BITS) - 1) as f32;
    let (scale, min) = with_minimum(x, w, levels, f32::INFINITY);
    let (scale, min) = (stored(scale), stored(min));
    put_f16(out, 0, scale);
    put_f16(out, 2, min);
    let inverse = inverse(scale);
    let q = x.map(|x| round_to((x - min) * inverse, 0.0, levels) as u8);
    put_integers::<BITS>(&q, &mut out[4..]);
}

/// The fifth bits as a mask if there are any, then nibbles: a byte holds weight i and weight 16 + i.
#[inline(always)]
fn put_integers<const BITS: u32>(q: &[u8; 32], out: &mut [u8]) {
    let nibbles = if BITS == 5 {
        let mask = q.iter().enumerate().fold(0_u32, |mask, (i, q)| mask | u32::from(q >> 4) << i);
        out[..4].copy_from_slice(&mask.to_le_bytes());
        &mut out[4..]
    } else {
        out
    };
    for (i, out) in nibbles.iter_mut().enumerate() {
        *out = q[i] & 15 | (q[16 + i] & 15) << 4;
    }
}

/// A super-block of Q4_K or Q5_K before its bits are laid out.
struct KBlock {
    scale: f32,
    min: f32,
    scales: [f32; 8],
    mins: [f32; 8],
    q: [[u8; 32]; 8],
}

/// Q4_K and Q5_K: eight sub-blocks of 32 with 6-bit scales and minima.
#[inline(always)]
fn k_block<const BITS: u32>(x: &[f32; SUPER], w: &[f32; SUPER], out: &mut [u8]) {
    let block = fit_k_block::<BITS>(x, w);
    put_f16(out, 0, block.scale);
    put_f16(out, 2, block.min);
    put_k_scales(&block, &mut out[4..16]);
    let (high, low) = out[16..].split_at_mut(if BITS == 5 { 32 } else { 0 });
    for (i, high) in high.iter_mut().enumerate() {
        *high = (0..8).fold(0, |byte, j| byte | (block.q[j][i] >> 4) << j);
    }
    for (pair, low) in low.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (i, low) in low.iter_mut().enumerate() {
            *low = block.q[2 * pair][i] & 15 | (block.q[2 * pair + 1][i] & 15) << 4;
        }
    }
}

/// Eight scales and eight minima of 6 bits in twelve bytes, as `k_scale_min` reads them.
#[inline(always)]
fn put_k_scales(block: &KBlock, out: &mut [u8]) {
    for j in 0..4 {
        let (scale, min) = (block.scales[j] as u8, block.mins[j] as u8);
        let (later_scale, later_min) = (block.scales[j + 4] as u8, block.mins[j + 4] as u8);
        out[j] = scale | later_scale >> 4 << 6;
        out[j + 4] = min | later_min >> 4 << 6;
        out[j + 8] = later_scale & 15 | later_min << 4;
    }
}

#[inline(always)]
fn fit_k_block<const BITS: u32>(x: &[f32; SUPER], w: &[f32; SUPER]) -> KBlock {
    let levels = ((1 << BITS) - 1) as f32;
    let (x, w) = (x.as_chunks::<32>().0, w.as_chunks::<32>().0);
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    for j in 0..8 {
        let (scale, min) = with_minimum(&x[j], &w[j], levels, 0.0);
        (scales[j], mins[j]) = (scale.max(0.0), -min);
    }
    let largest = |values: &[f32; 8]| values.iter().fold(0.0f32, |a, &b| a.max(b));
    let mut block = KBlock {
        scale: stored(largest(&scales) / 63.0),
        min: stored(largest(&mins) / 63.0),
        scales: [0.0; 8],
        mins: [0.0; 8],
        q: [[0; 32]; 8],
    };
    let (inverse_scale, inverse_min) = (inverse(block.scale), inverse(block.min));
    for j in 0..8 {
        block.scales[j] = round_to(scales[j] * inverse_scale, 0.0, 63.0);
        block.mins[j] = round_to(mins[j] * inverse_min, 0.0, 63.0);
        settle(&mut block, j, &x[j], &w[j], levels);
    }
    resolve(&mut block, x, w);
    for j in 0..8 {
        settle(&mut block, j, &x[j], &w[j], levels);
    }
    block
}

/// Takes the best of the neighbouring multiples for sub-block `j`, and the integers that go with it.
#[inline(always)]
fn settle(block: &mut KBlock, j: usize, x: &[f32; 32], w: &[f32; 32], levels: f32) {
    let (center_scale, center_min) = (block.scales[j], block.mins[j]);
    let mut least = f32::INFINITY;
    for by_scale in [0.0, -1.0, 1.0] {
        for by_min in [0.0, -1.0, 1.0] {
            let (scale, min) = (center_scale + by_scale, center_min + by_min);
            if !(0.0..=63.0).contains(&scale) || !(0.0..=63.0).contains(&min) {
                continue;
            }
            let (s, m) = (block.scale * scale, block.min * min);
            let inverse = inverse(s);
            let (mut q, mut y) = ([0.0; 32], [0.0; 32]);
            for i in 0..32 {
                q[i] = round_to((x[i] + m) * inverse, 0.0, levels);
                y[i] = s * q[i] - m;
            }
            let error = error(x, w, &y);
            if error < least {
                (least, block.scales[j], block.mins[j]) = (error, scale, min);
                block.q[j] = q.map(|q| q as u8);
            }
        }
    }
}

/// Solves for the two common scales, all integers given; keeps what is better.
#[inline(always)]
fn resolve(block: &mut KBlock, x: &[[f32; 32]], w: &[[f32; 32]]) {
    // x ≈ scale · a − min · b with a = scales[j] q and b = mins[j].
    let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for j in 0..8 {
        let b = block.mins[j];
        for i in 0..32 {
            let (a, w, x) = (block.scales[j] * f32::from(block.q[j][i]), w[j][i], x[j][i]);
            aa += w * a * a;
            ab += w * a * b;
            bb += w * b * b;
            xa += w * x * a;
            xb += w * x * b;
        }
    }
    let determinant = aa * bb - ab * ab;
    let (scale, min) = if determinant > 1e-6 * aa * bb {
        ((xa * bb - xb * ab) / determinant, (xa * ab - xb * aa) / determinant)
    } else if aa > 0.0 {
        ((xa + block.min * ab) / aa, block.min)
    } else {
        return;
    };
    let (scale, min) = (stored(scale), stored(min));
    if scale < 0.0 || min < 0.0 {
        return;
    }
    let of = |scale: f32, min: f32| {
        (0..8).fold(0.0, |total, j| {
            let y = block.q[j].map(|q| scale * block.scales[j] * f32::from(q) - min * block.mins[j]);
            total + error(&x[j], &w[j], &y)
        })
    };
    if of(scale, min) < of(block.scale, block.min) {
        (block.scale, block.min) = (scale, min);
    }
}

/// Sixteen sub-blocks of 16 with signed 8-bit scales.
#[inline(always)]
fn q6_k_block(x: &[f32; SUPER], w: &[f32; SUPER], out: &mut [u8]) {
    let (x, w) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
    let mut scales = [0.0; 16];
    for j in 0..16 {
        scales[j] = fit::symmetric(&x[j], &w[j], 32.0);
    }
    let largest = scales.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    let scale = stored(largest / -128.0);
    let inverse_scale = inverse(scale);
    let (mut multiples, mut q) = ([0.0; 16], [[0_u8; 16]; 16]);
    for j in 0..16 {
        let center = round_to(scales[j] * inverse_scale, -128.0, 127.0);
        let mut least = f32::INFINITY;
        for by in [0.0, -1.0, 1.0] {
            let multiple: f32 = center + by;
            if !(-128.0..=127.0).contains(&multiple) {
                continue;
            }
            let s = scale * multiple;
            let inverse = inverse(s);
            let (mut integers, mut y) = ([0.0; 16], [0.0; 16]);
            for i in 0..16 {
                integers[i] = round_to(x[j][i] * inverse, -32.0, 31.0);
                y[i] = s * integers[i];
            }
            let error = error(&x[j], &w[j], &y);
            if error < least {
                (least, multiples[j]) = (error, multiple);
                q[j] = integers.map(|q| (q + 32.0) as u8);
            }
        }
    }
    put_f16(out, 208, scale);
    for (out, multiple) in out[192..208].iter_mut().zip(multiples) {
        *out = multiple as i8 as u8;
    }
    put_six_bits(q.as_flattened(), out);
}

/// Low four bits, then high two: see `q6_k_group`.
#[inline(always)]
fn put_six_bits(q: &[u8], out: &mut [u8]) {
    for half in 0..2 {
        let q = &q[half * 128..][..128];
        for i in 0..32 {
            let [a, b, c, d] = [q[i], q[i + 32], q[i + 64], q[i + 96]];
            out[half * 64 + i] = a & 15 | (c & 15) << 4;
            out[half * 64 + 32 + i] = b & 15 | (d & 15) << 4;
            out[128 + half * 32 + i] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}

#[cfg(test)]
mod tests;
