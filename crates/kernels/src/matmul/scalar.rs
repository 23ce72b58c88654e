//! The inner loop in plain Rust: the reference the SIMD paths are equal to.

use half::f16;

use super::pack::{scale_at, stored};
use super::{BLOCK, BlockJob, PANEL};

/// Computes `job.count` rows of sixteen outputs.
///
/// # Safety
/// `job.y` must have room for sixteen values at each of `count` rows of stride `y_row`.
pub(super) unsafe fn run(job: BlockJob<'_>) {
    for i in 0..job.count {
        let lanes = row(&job, job.first + i);
        for (lane, value) in lanes.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            let at = unsafe { job.y.add(i * job.y_row + lane) };
            // SAFETY: the caller's promise.
            unsafe { at.write(value) };
        }
    }
}

fn row(job: &BlockJob<'_>, row: usize) -> [f32; PANEL] {
    let (packing, blocks) = (job.packing, job.x.blocks());
    let groups = if packing.halves { 2 } else { 1 };
    let group_len = BLOCK / groups;
    let mut acc = [0.0f32; PANEL];
    for block in 0..blocks {
        let quants = &job.panel[block * packing.quant_bytes()..(block + 1) * packing.quant_bytes()];
        let x_block = row * blocks + block;
        let x = &job.x.q[x_block * BLOCK..(x_block + 1) * BLOCK];
        for (lane, acc) in acc.iter_mut().enumerate() {
            let value = |which| {
                let at = scale_at(packing, blocks, block, which, lane);
                f16::from_le_bytes([job.panel[at], job.panel[at + 1]]).to_f32()
            };
            for group in 0..groups {
                let columns = group * group_len..(group + 1) * group_len;
                let mut dot: i32 = columns
                    .map(|column| i32::from(stored(packing, quants, lane, column)) * i32::from(x[column]))
                    .sum();
                if !packing.min {
                    let sum = match packing.halves {
                        true => job.x.negative_halves[x_block * 2 + group],
                        false => job.x.negative_sum[x_block],
                    };
                    dot += sum << packing.offset_log2();
                }
                *acc = (dot as f32).mul_add(value(group) * job.x.scale[x_block], *acc);
                if packing.min {
                    let scaled_sum = match packing.halves {
                        true => job.x.scaled_half(x_block * 2 + group),
                        false => job.x.scaled_sum[x_block],
                    };
                    *acc = value(packing.min_at() + group).mul_add(scaled_sum, *acc);
                }
            }
        }
    }
    acc
}
