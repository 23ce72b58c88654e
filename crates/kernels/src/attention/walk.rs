//! One page's keys and values for up to four queries: scores, the running softmax, the weighted values.

use super::pages::{GROUP, HeadPage, KvType};
use super::{PAGE, TOGETHER};
use crate::cpu::Level;
use crate::dispatch::{LANES, level, multiversion, prefetch, sum_lanes};
use crate::elementwise::{exp, tanh};
use crate::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};

/// Up to four queries with their running softmax over some pages.
pub(super) struct Quad {
    /// How many queries.
    pub(super) len: usize,
    /// `[len, padded D]`, multiplied by the scale.
    pub(super) q: Vec<f32>,
    /// `[len, padded D]`
    pub(super) acc: Vec<f32>,
    pub(super) largest: [f32; TOGETHER],
    pub(super) sum: [f32; TOGETHER],
    /// The first position each query may see.
    pub(super) first: [usize; TOGETHER],
    /// The position behind the last: its own + 1.
    pub(super) visible: [usize; TOGETHER],
    pub(super) soft_cap: Option<f32>,
}

impl Quad {
    /// Adds what another run over later pages has seen. Which pages were in which run is fixed by their positions
    /// alone, so the two roundings are the same whoever computed the runs.
    pub(super) fn merge(&mut self, later: &Self) {
        let padded = self.acc.len() / self.len;
        for i in 0..self.len {
            if later.largest[i] == f32::NEG_INFINITY {
                continue;
            }
            let range = i * padded..(i + 1) * padded;
            let (acc, later_acc) = (&mut self.acc[range.clone()], &later.acc[range]);
            if self.largest[i] == f32::NEG_INFINITY {
                (self.largest[i], self.sum[i]) = (later.largest[i], later.sum[i]);
                acc.copy_from_slice(later_acc);
                continue;
            }
            let largest = self.largest[i].max(later.largest[i]);
            let (own, other) = (exp(self.largest[i] - largest), exp(later.largest[i] - largest));
            add_weighted(acc, own, later_acc, other);
            self.sum[i] = later.sum[i].mul_add(other, self.sum[i] * own);
            self.largest[i] = largest;
        }
    }
}

multiversion! {
    /// `a = a · own + b · other`, the last product not rounded.
    fn add_weighted(a: &mut [f32], own: f32, b: &[f32], other: f32) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = b.mul_add(other, *a * own);
        }
    }
}

/// A page to add, and which queries look at it.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) page: HeadPage<'a>,
    /// The page behind it, asked for on the way: the processor's own prefetcher stops at every page of 4 KiB.
    pub(super) next: HeadPage<'a>,
    /// Position of the page's first slot.
    pub(super) start: usize,
    pub(super) looks: [bool; TOGETHER],
}

/// Adds a page to the queries that look at it.
pub(super) fn walk_page(kv_type: KvType, step: Step<'_>, quad: &mut Quad) {
    match level() {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { walk_avx512(kv_type, step, quad) },
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { walk_avx2(kv_type, step, quad) },
        // SAFETY: plain arrays need no instruction set.
        _ => unsafe { walk_any::<[f32; LANES]>(kv_type, step, quad) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx2,fma")]
fn walk_avx512(kv_type: KvType, step: Step<'_>, quad: &mut Quad) {
    // SAFETY: this function is compiled for AVX-512 F.
    unsafe { walk_any::<Avx512Lanes>(kv_type, step, quad) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn walk_avx2(kv_type: KvType, step: Step<'_>, quad: &mut Quad) {
    // SAFETY: this function is compiled for AVX2, FMA and F16C.
    unsafe { walk_any::<Avx2Lanes>(kv_type, step, quad) }
}

/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise, passed on")]
unsafe fn walk_any<L: Lanes>(kv_type: KvType, step: Step<'_>, quad: &mut Quad) {
    // SAFETY: the caller's promise.
    unsafe {
        match kv_type {
            KvType::F32 => walk_some::<L, f32>(step, quad),
            KvType::F16 => walk_some::<L, F16>(step, quad),
            KvType::Q8_0 => walk_some::<L, i8>(step, quad),
        }
    }
}

/// # Safety
/// As of [`walk_any`].
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise, passed on")]
unsafe fn walk_some<L: Lanes, E: Element>(step: Step<'_>, quad: &mut Quad) {
    // SAFETY: the caller's promise.
    unsafe {
        match quad.len {
            1 => walk::<L, E, 1>(step, quad),
            2 => walk::<L, E, 2>(step, quad),
            3 => walk::<L, E, 3>(step, quad),
            _ => walk::<L, E, TOGETHER>(step, quad),
        }
    }
}

/// What keys and values are made of.
///
/// # Safety
/// As of [`Lanes`]; sixteen elements from `index` on must lie inside `words`.
unsafe trait Element: Copy {
    /// Whether there is a scale for each position and 32 channels.
    const IS_SCALED: bool;
    const BYTES: usize;

    unsafe fn load<L: Lanes>(words: *const f32, index: usize) -> L;
}

// SAFETY: reads the sixteen elements the caller promises.
unsafe impl Element for f32 {
    const IS_SCALED: bool = false;
    const BYTES: usize = 4;

    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "an address and what is there")]
    unsafe fn load<L: Lanes>(words: *const f32, index: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(words.add(index)) }
    }
}

#[derive(Clone, Copy)]
struct F16;

// SAFETY: as above.
unsafe impl Element for F16 {
    const IS_SCALED: bool = false;
    const BYTES: usize = 2;

    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "an address and what is there")]
    unsafe fn load<L: Lanes>(words: *const f32, index: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(words.cast::<u16>().add(index)) }
    }
}

// SAFETY: as above.
unsafe impl Element for i8 {
    const IS_SCALED: bool = true;
    const BYTES: usize = 1;

    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "an address and what is there")]
    unsafe fn load<L: Lanes>(words: *const f32, index: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_i8(words.cast::<i8>().add(index)) }
    }
}

/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
unsafe fn walk<L: Lanes, E: Element, const N: usize>(step: Step<'_>, quad: &mut Quad) {
    let padded = quad.q.len() / N;
    let mut p = [[0.0f32; PAGE]; N];
    // SAFETY: the caller's promise.
    unsafe { scores::<L, E, N>(&step, &quad.q, &mut p) };
    let mut correction = [1.0f32; N];
    for i in 0..N {
        // A page that lies wholly after the query or before its window changes nothing.
        let from = quad.first[i].saturating_sub(step.start).min(PAGE);
        let to = quad.visible[i].saturating_sub(step.start).min(PAGE);
        let row = &mut p[i];
        if from >= to || !step.looks[i] {
            row.fill(0.0);
            continue;
        }
        if let Some(cap) = quad.soft_cap {
            for score in row.iter_mut() {
                *score = cap * tanh(*score / cap);
            }
        }
        if from > 0 || to < PAGE {
            for (slot, score) in row.iter_mut().enumerate() {
                *score = if slot >= from && slot < to { *score } else { f32::NEG_INFINITY };
            }
        }
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for chunk in row.as_chunks::<LANES>().0 {
            for (lane, &score) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(score);
            }
        }
        let largest = lanes.iter().fold(quad.largest[i], |a, &b| a.max(b));
        correction[i] = exp(quad.largest[i] - largest);
        quad.largest[i] = largest;
        let mut lanes = [0.0f32; LANES];
        for chunk in row.as_chunks_mut::<LANES>().0 {
            for (lane, score) in lanes.iter_mut().zip(chunk) {
                *score = exp(*score - largest);
                *lane += *score;
            }
        }
        quad.sum[i] = quad.sum[i].mul_add(correction[i], sum_lanes(lanes));
    }
    for (acc, correction) in quad.acc.chunks_exact_mut(padded).zip(correction) {
        for value in acc {
            *value *= correction;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { add_values::<L, E, N>(&step, &p, &mut quad.acc) };
}

/// `p[i][slot] = q[i] · key[slot]`, channels in ascending order; with scales, the sums of 32 channels are scaled.
///
/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn scores<L: Lanes, E: Element, const N: usize>(step: &Step<'_>, q: &[f32], p: &mut [[f32; PAGE]; N]) {
    let (keys, padded) = (step.page.keys, q.len() / N);
    assert!(size_of_val(keys) >= padded * PAGE * E::BYTES);
    assert!(!E::IS_SCALED || step.page.key_scales.len() >= padded.div_ceil(GROUP) * PAGE);
    // SAFETY: the assertions above; `G` times 16 divides the slots of a page.
    unsafe {
        match side_by_side::<L, E>(N) {
            4 => (0..PAGE).step_by(4 * LANES).for_each(|slot| scores_of::<L, E, N, 4>(step, q, slot, p)),
            2 => (0..PAGE).step_by(2 * LANES).for_each(|slot| scores_of::<L, E, N, 2>(step, q, slot, p)),
            _ => (0..PAGE).step_by(LANES).for_each(|slot| scores_of::<L, E, N, 1>(step, q, slot, p)),
        }
    }
}

/// How many sums of sixteen lanes each query has at once: a sum waits for itself, so there must be others to add to,
/// as many as the registers hold.
const fn side_by_side<L: Lanes, E: Element>(num_queries: usize) -> usize {
    match (L::TILE, E::IS_SCALED, num_queries) {
        (8, false, _) | (8, true, 1 | 2) => 4,
        (8, true, _) | (4, false, 1) => 2,
        _ => 1,
    }
}

/// The scores of 16·G slots from `slot` on.
///
/// # Safety
/// As of [`scores`]; the slots must lie in the page.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn scores_of<L: Lanes, E: Element, const N: usize, const G: usize>(
    step: &Step<'_>,
    q: &[f32],
    slot: usize,
    p: &mut [[f32; PAGE]; N],
) {
    let padded = q.len() / N;
    let group = if E::IS_SCALED { GROUP } else { padded };
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[L::splat(0.0); G]; N];
        for start in (0..padded).step_by(group) {
            let mut sums = if E::IS_SCALED { [[L::splat(0.0); G]; N] } else { acc };
            for channel in start..(start + group).min(padded) {
                let keys: [L; G] = std::array::from_fn(|g| {
                    let slot = slot + g * LANES;
                    // Each pass over the channels asks for its share of the lines.
                    prefetch(step.next.keys, slot * padded + channel * LANES);
                    E::load(step.page.keys.as_ptr(), channel * PAGE + slot)
                });
                for (i, sums) in sums.iter_mut().enumerate() {
                    let q = L::splat(*q.as_ptr().add(i * padded + channel));
                    for (sum, key) in sums.iter_mut().zip(keys) {
                        *sum = q.fma(key, *sum);
                    }
                }
            }
            if E::IS_SCALED {
                for g in 0..G {
                    let at = start / GROUP * PAGE + slot + g * LANES;
                    let scale = L::load(step.page.key_scales.as_ptr().add(at));
                    for (acc, sums) in acc.iter_mut().zip(&sums) {
                        acc[g] = sums[g].fma(scale, acc[g]);
                    }
                }
            } else {
                acc = sums;
            }
        }
        for (acc, p) in acc.into_iter().zip(p.iter_mut()) {
            for (g, acc) in acc.into_iter().enumerate() {
                acc.store(p.as_mut_ptr().add(slot + g * LANES));
            }
        }
    }
}

/// `acc[i] += Σ p[i][slot] · value[slot]`, slots in ascending order; scales are multiplied to p first.
///
/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn add_values<L: Lanes, E: Element, const N: usize>(
    step: &Step<'_>,
    p: &[[f32; PAGE]; N],
    acc: &mut [f32],
) {
    let (values, padded) = (step.page.values, acc.len() / N);
    assert!(size_of_val(values) >= padded * PAGE * E::BYTES);
    assert!(!E::IS_SCALED || step.page.value_scales.len() >= padded.div_ceil(GROUP) * PAGE);
    let mut scaled = [[0.0f32; PAGE]; N];
    let side = side_by_side::<L, E>(N);
    let mut channel = 0;
    while channel < padded {
        if E::IS_SCALED && channel.is_multiple_of(GROUP) {
            let scales = &step.page.value_scales[channel / GROUP * PAGE..][..PAGE];
            for (scaled, p) in scaled.iter_mut().zip(p) {
                for ((scaled, p), scale) in scaled.iter_mut().zip(p).zip(scales) {
                    *scaled = p * scale;
                }
            }
        }
        let p = if E::IS_SCALED { &scaled } else { p };
        // Channels that share a scale end where the next begin.
        let left = if E::IS_SCALED { GROUP - channel % GROUP } else { padded }.min(padded - channel) / LANES;
        // SAFETY: the assertions above; there are as many channels left.
        channel += unsafe {
            match side.min(left) {
                4 => values_of::<L, E, N, 4>(step, p, channel, acc),
                2 | 3 => values_of::<L, E, N, 2>(step, p, channel, acc),
                _ => values_of::<L, E, N, 1>(step, p, channel, acc),
            }
        };
    }
}

/// Adds 16·G channels from `channel` on, and returns how many these are.
///
/// # Safety
/// As of [`add_values`]; the channels must lie in the page.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn values_of<L: Lanes, E: Element, const N: usize, const G: usize>(
    step: &Step<'_>,
    p: &[[f32; PAGE]; N],
    channel: usize,
    acc: &mut [f32],
) -> usize {
    let padded = acc.len() / N;
    // SAFETY: the caller's promise; slots are below PAGE.
    unsafe {
        let at = |i: usize, g: usize| i * padded + channel + g * LANES;
        let mut sums: [[L; G]; N] =
            std::array::from_fn(|i| std::array::from_fn(|g| L::load(acc.as_ptr().add(at(i, g)))));
        for slot in 0..PAGE {
            let values: [L; G] = std::array::from_fn(|g| {
                let channel = channel + g * LANES;
                // Each pass over the slots asks for its share of the lines.
                prefetch(step.next.values, channel * PAGE + slot * LANES);
                E::load(step.page.values.as_ptr(), slot * padded + channel)
            });
            for (p, sums) in p.iter().zip(&mut sums) {
                let p = L::splat(p[slot]);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = p.fma(value, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (g, sum) in sums.into_iter().enumerate() {
                sum.store(acc.as_mut_ptr().add(at(i, g)));
            }
        }
    }
    G * LANES
}
