//! Causal grouped-query attention over pages of keys and values, with an online softmax.
//!
//! A page holds 64 positions: keys transposed, so that a SIMD lane is a key, and values as rows, so that a
//! lane is a channel. Pages are walked in ascending order and each (row, head) is computed by itself: a
//! result doesn't depend on how a prompt was cut into chunks or on what else is in the batch.
//! The online softmax is that of Milakov & Gimelshein 2018; blocks as in FlashAttention (Dao et al. 2022).

use crate::attention_backward::AttentionShape;
use crate::cpu::Level;
use crate::dispatch::{LANES, level, prefetch, sum_lanes};
use crate::elementwise::{exp, tanh};
use crate::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};
use crate::pool::{Parts, Pool};

/// Positions in a page.
pub const PAGE: usize = 64;

/// Queries computed together, so that a page's values are loaded once for all of them.
const TOGETHER: usize = 4;
/// Rows of a task: enough to reuse a page from the cache, few enough to share work among threads.
const ROWS: usize = 8;

/// Where a layer's keys and values lie in a page that holds all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLayout {
    pub num_layers: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
}

impl PageLayout {
    fn padded_dim(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Floats of one head's keys (or values) of one layer.
    fn head_len(self) -> usize {
        self.padded_dim() * PAGE
    }

    /// Floats of a page.
    pub fn page_len(self) -> usize {
        self.num_layers * self.num_kv_heads * 2 * self.head_len()
    }

    fn keys_at(self, layer: usize, head: usize) -> usize {
        (layer * self.num_kv_heads + head) * 2 * self.head_len()
    }

    /// Stores the keys and values of one position, `[K·D]` each, in a slot (0..64) of a page.
    pub fn write(self, page: &mut [f32], layer: usize, slot: usize, k: &[f32], v: &[f32]) {
        let dim = self.head_dim;
        for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            let at = self.keys_at(layer, head);
            let (keys, values) = page[at..at + 2 * self.head_len()].split_at_mut(self.head_len());
            for (channel, &k) in k.iter().enumerate() {
                keys[channel * PAGE + slot] = k;
            }
            values[slot * self.padded_dim()..][..dim].copy_from_slice(v);
        }
    }
}

/// Consecutive rows of one sequence.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// All pages up to the last row's position.
    pub pages: Vec<&'a [f32]>,
    /// Position of the first row.
    pub position: usize,
    /// How many rows.
    pub rows: usize,
}

/// `out = softmax(scale · q kᵀ) v` over the positions up to each row's own, or the last `window` of them.
///
/// Pages that lie wholly before every window of a task's rows aren't read.
/// `log_sum_exp`, if wanted, is what the backward pass needs.
///
/// # Shapes
/// q, out `[T, H·D]`, `log_sum_exp` `[T, H]`, where T is the sum of the segments' rows in order.
pub fn attention(
    pool: &Pool,
    shape: &AttentionShape,
    (layout, layer): (PageLayout, usize),
    segments: &[Segment<'_>],
    (q, out): (&[f32], &mut [f32]),
    log_sum_exp: Option<&mut [f32]>,
) {
    let width = shape.num_heads * shape.head_dim;
    let total: usize = segments.iter().map(|segment| segment.rows).sum();
    assert_eq!((q.len(), out.len()), (total * width, total * width), "q and out of {total} rows");
    assert_eq!(layout.head_dim, shape.head_dim, "`head_dim` of the pages");
    let mut tasks = Vec::new();
    let mut first_row = 0;
    for segment in segments {
        let needed = (segment.position + segment.rows).div_ceil(PAGE);
        assert!(segment.pages.len() >= needed, "{} pages, {needed} needed", segment.pages.len());
        assert!(segment.pages.iter().all(|page| page.len() >= layout.page_len()), "page size");
        for start in (0..segment.rows).step_by(ROWS) {
            let rows = ROWS.min(segment.rows - start);
            tasks.push((segment, segment.position + start, first_row + start, rows));
        }
        first_row += segment.rows;
    }
    let heads = shape.num_kv_heads;
    let (out, lse) = (
        Parts::new(out),
        log_sum_exp.map(|lse| {
            assert_eq!(lse.len(), total * shape.num_heads, "log_sum_exp of {total} rows");
            Parts::new(lse)
        }),
    );
    // Later rows see more keys: starting with them keeps threads busy to the end.
    pool.run(tasks.len() * heads, &|index| {
        let (segment, position, row, rows) = tasks[tasks.len() - 1 - index / heads];
        let tile = Tile { shape, layout, layer, kv_head: index % heads, position, rows };
        tile.run(&segment.pages, &q[row * width..(row + rows) * width], |i, head, values, value| {
            // SAFETY: this task alone writes this row's part of this head's group.
            let out = unsafe { out.slice((row + i) * width + head * shape.head_dim, shape.head_dim) };
            out.copy_from_slice(&values[..shape.head_dim]);
            if let Some(lse) = &lse {
                // SAFETY: as above.
                let lse = unsafe { lse.slice((row + i) * shape.num_heads + head, 1) };
                lse[0] = value;
            }
        });
    });
}

/// Some rows of one sequence and the query heads that share one key head.
struct Tile<'a> {
    shape: &'a AttentionShape,
    layout: PageLayout,
    layer: usize,
    kv_head: usize,
    position: usize,
    rows: usize,
}

/// Four queries with their running softmax.
struct Quad {
    /// `[4, padded D]`, multiplied by the scale.
    q: Vec<f32>,
    /// `[4, padded D]`
    acc: Vec<f32>,
    largest: [f32; TOGETHER],
    sum: [f32; TOGETHER],
    /// The first position each query may see.
    first: [usize; TOGETHER],
    /// The position behind the last: its own + 1.
    visible: [usize; TOGETHER],
    soft_cap: Option<f32>,
}

impl Tile<'_> {
    /// The first position that a row of this tile sees.
    fn first_seen(&self, row: usize) -> usize {
        self.shape.window.map_or(0, |window| (self.position + row + 1).saturating_sub(window))
    }

    fn run(&self, pages: &[&[f32]], q: &[f32], mut put: impl FnMut(usize, usize, &[f32], f32)) {
        let (dim, padded) = (self.shape.head_dim, self.layout.padded_dim());
        let group = self.shape.num_heads / self.shape.num_kv_heads;
        let width = self.shape.num_heads * dim;
        // Query n is row n / group, head n % group; the last quad repeats its last query.
        let queries = self.rows * group;
        let place = |n: usize| {
            let n = n.min(queries - 1);
            (n / group, self.kv_head * group + n % group)
        };
        let mut quads: Vec<Quad> = (0..queries.div_ceil(TOGETHER))
            .map(|quad| {
                let mut scaled = vec![0.0; TOGETHER * padded];
                let places: [_; TOGETHER] = std::array::from_fn(|i| place(quad * TOGETHER + i));
                for (scaled, (row, head)) in scaled.chunks_exact_mut(padded).zip(places) {
                    let q = &q[row * width + head * dim..][..dim];
                    for (scaled, q) in scaled.iter_mut().zip(q) {
                        *scaled = q * self.shape.scale;
                    }
                }
                Quad {
                    q: scaled,
                    acc: vec![0.0; TOGETHER * padded],
                    largest: [f32::NEG_INFINITY; TOGETHER],
                    sum: [0.0; TOGETHER],
                    first: places.map(|(row, _)| self.first_seen(row)),
                    visible: places.map(|(row, _)| self.position + row + 1),
                    soft_cap: self.shape.soft_cap,
                }
            })
            .collect();
        let at = self.layout.keys_at(self.layer, self.kv_head);
        let len = self.layout.head_len();
        // The first row's window begins before those of the others.
        for (index, page) in pages.iter().enumerate().skip(self.first_seen(0) / PAGE) {
            let (keys, values) = page[at..at + 2 * len].split_at(len);
            // The first quad asks for the next page while it reads this one.
            let mut next = pages.get(index + 1).map(|page| page[at..at + 2 * len].split_at(len));
            for quad in &mut quads {
                let begins = quad.first.iter().any(|&first| first < (index + 1) * PAGE);
                if begins && quad.visible.iter().any(|&visible| visible > index * PAGE) {
                    walk_page((keys, values), next.take(), index * PAGE, quad);
                }
            }
        }
        for n in 0..queries {
            let (quad, i) = (&mut quads[n / TOGETHER], n % TOGETHER);
            let acc = &mut quad.acc[i * padded..(i + 1) * padded];
            let inverse = 1.0 / quad.sum[i];
            for value in acc.iter_mut() {
                *value *= inverse;
            }
            let (row, head) = place(n);
            put(row, head, acc, quad.largest[i] + quad.sum[i].ln());
        }
    }
}

/// Keys and values of one head in one page.
type Page<'a> = (&'a [f32], &'a [f32]);

/// Adds the keys and values of one page, whose first position is `start`, to four queries. Asks for those of
/// `next` on the way: the processor's own prefetcher stops at every page of 4 KiB.
fn walk_page(page: Page<'_>, next: Option<Page<'_>>, start: usize, quad: &mut Quad) {
    let next = next.unwrap_or_default();
    match level() {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { walk_avx512(page, next, start, quad) },
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { walk_avx2(page, next, start, quad) },
        // SAFETY: plain arrays need no instruction set.
        _ => unsafe { walk::<[f32; LANES]>(page, next, start, quad) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx2,fma")]
fn walk_avx512(page: Page<'_>, next: Page<'_>, start: usize, quad: &mut Quad) {
    // SAFETY: this function is compiled for AVX-512 F.
    unsafe { walk::<Avx512Lanes>(page, next, start, quad) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn walk_avx2(page: Page<'_>, next: Page<'_>, start: usize, quad: &mut Quad) {
    // SAFETY: this function is compiled for AVX2 and FMA.
    unsafe { walk::<Avx2Lanes>(page, next, start, quad) }
}

/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
unsafe fn walk<L: Lanes>(page: Page<'_>, next: Page<'_>, start: usize, quad: &mut Quad) {
    let (keys, values) = page;
    let mut p = [[0.0f32; PAGE]; TOGETHER];
    // SAFETY: the caller's promise.
    unsafe { scores::<L>(keys, next.0, &quad.q, &mut p) };
    let mut correction = [1.0f32; TOGETHER];
    for i in 0..TOGETHER {
        // A page that lies wholly after the query or before its window changes nothing.
        let from = quad.first[i].saturating_sub(start).min(PAGE);
        let to = quad.visible[i].saturating_sub(start).min(PAGE);
        let row = &mut p[i];
        if from >= to {
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
    for (acc, correction) in quad.acc.chunks_exact_mut(values.len() / PAGE).zip(correction) {
        for value in acc {
            *value *= correction;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { add_values::<L>(values, next.1, &p, &mut quad.acc) };
}

/// `p[i][slot] = q[i] · key[slot]`, channels in ascending order.
///
/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn scores<L: Lanes>(keys: &[f32], next: &[f32], q: &[f32], p: &mut [[f32; PAGE]; TOGETHER]) {
    let padded = q.len() / TOGETHER;
    assert_eq!(keys.len(), padded * PAGE, "a page's keys");
    for lanes in (0..PAGE).step_by(LANES) {
        // SAFETY: `channel < padded` and `lanes + 16 <= PAGE` keep every address inside the slices.
        unsafe {
            let mut acc = [L::splat(0.0); TOGETHER];
            for channel in 0..padded {
                // Each of the four passes asks for a quarter of the lines.
                prefetch(next, lanes * padded + channel * LANES);
                let key = L::load(keys.as_ptr().add(channel * PAGE + lanes));
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = L::splat(*q.as_ptr().add(i * padded + channel)).fma(key, *acc);
                }
            }
            for (acc, p) in acc.into_iter().zip(p.iter_mut()) {
                acc.store(p.as_mut_ptr().add(lanes));
            }
        }
    }
}

/// `acc[i] += Σ p[i][slot] · value[slot]`, slots in ascending order.
///
/// # Safety
/// To be inlined where the instructions of `L` are enabled.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn add_values<L: Lanes>(values: &[f32], next: &[f32], p: &[[f32; PAGE]; TOGETHER], acc: &mut [f32]) {
    let padded = acc.len() / TOGETHER;
    assert_eq!(values.len(), padded * PAGE, "a page's values");
    for lanes in (0..padded).step_by(LANES) {
        // SAFETY: `padded` is a multiple of 16, so `lanes + 16 <= padded`; slots are below PAGE.
        unsafe {
            let mut sums = [L::splat(0.0); TOGETHER];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(acc.as_ptr().add(i * padded + lanes));
            }
            for slot in 0..PAGE {
                // Each pass asks for its share of the lines.
                prefetch(next, lanes * PAGE + slot * LANES);
                let value = L::load(values.as_ptr().add(slot * padded + lanes));
                for (p, sum) in p.iter().zip(&mut sums) {
                    *sum = L::splat(p[slot]).fma(value, *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(acc.as_mut_ptr().add(i * padded + lanes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;

    fn values(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
            })
            .collect()
    }

    #[derive(Clone)]
    struct Case {
        shape: AttentionShape,
        tokens: usize,
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
    }

    impl Case {
        fn new(num_heads: usize, num_kv_heads: usize, head_dim: usize, tokens: usize) -> Self {
            let shape = AttentionShape {
                num_heads,
                num_kv_heads,
                head_dim,
                scale: 0.3,
                window: None,
                soft_cap: None,
            };
            let kv = tokens * num_kv_heads * head_dim;
            Self {
                shape,
                tokens,
                q: values(tokens * num_heads * head_dim, 1),
                k: values(kv, 2),
                v: values(kv, 3),
            }
        }

        fn layout(&self) -> PageLayout {
            PageLayout { num_layers: 2, num_kv_heads: self.shape.num_kv_heads, head_dim: self.shape.head_dim }
        }

        fn pages(&self) -> Vec<Vec<f32>> {
            let layout = self.layout();
            let width = self.shape.num_kv_heads * self.shape.head_dim;
            let mut pages = vec![vec![0.0; layout.page_len()]; self.tokens.div_ceil(PAGE)];
            for t in 0..self.tokens {
                let at = t * width..(t + 1) * width;
                layout.write(&mut pages[t / PAGE], 1, t % PAGE, &self.k[at.clone()], &self.v[at]);
            }
            pages
        }

        /// Rows `from..to` of the sequence, all keys before them cached.
        fn rows(&self, pages: &[Vec<f32>], from: usize, to: usize, threads: usize) -> (Vec<f32>, Vec<f32>) {
            let width = self.shape.num_heads * self.shape.head_dim;
            let segment =
                Segment { pages: pages.iter().map(Vec::as_slice).collect(), position: from, rows: to - from };
            let mut out = vec![f32::NAN; (to - from) * width];
            let mut lse = vec![f32::NAN; (to - from) * self.shape.num_heads];
            let q = &self.q[from * width..to * width];
            attention(
                &Pool::new(threads),
                &self.shape,
                (self.layout(), 1),
                &[segment],
                (q, &mut out),
                Some(&mut lse),
            );
            (out, lse)
        }

        /// Two passes in f64.
        fn reference(&self, t: usize, head: usize) -> (Vec<f64>, f64) {
            let AttentionShape { num_heads, num_kv_heads, head_dim, scale, window, soft_cap } = self.shape;
            let first = window.map_or(0, |window| (t + 1).saturating_sub(window));
            let kv_head = head / (num_heads / num_kv_heads);
            let at = |values: &[f32], t: usize, heads: usize, head: usize, c: usize| {
                f64::from(values[(t * heads + head) * head_dim + c])
            };
            let scores: Vec<f64> = (first..=t)
                .map(|s| {
                    let dot: f64 = (0..head_dim)
                        .map(|c| {
                            at(&self.q, t, num_heads, head, c) * at(&self.k, s, num_kv_heads, kv_head, c)
                        })
                        .sum();
                    let score = dot * f64::from(scale);
                    soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            let out = (0..head_dim)
                .map(|c| {
                    let weighted: f64 = (first..=t)
                        .map(|s| scores[s - first].exp() * at(&self.v, s, num_kv_heads, kv_head, c))
                        .sum();
                    weighted / sum
                })
                .collect();
            (out, sum.ln())
        }
    }

    fn check(case: &Case) {
        let AttentionShape { num_heads, head_dim, .. } = case.shape;
        let (out, lse) = case.rows(&case.pages(), 0, case.tokens, 2);
        for t in 0..case.tokens {
            for head in 0..num_heads {
                let (expected, expected_lse) = case.reference(t, head);
                assert!((f64::from(lse[t * num_heads + head]) - expected_lse).abs() < 1e-5);
                for (c, expected) in expected.iter().enumerate() {
                    let got = f64::from(out[(t * num_heads + head) * head_dim + c]);
                    assert!((got - expected).abs() < 2e-6, "row {t} head {head}: {got} vs. {expected}");
                }
            }
        }
    }

    /// Windows of one key, within a page, over a border and beyond the sequence; caps that bend scores.
    fn limited(case: &Case) -> impl Iterator<Item = Case> {
        let limits = [(Some(1), None), (Some(10), Some(0.7)), (Some(64), None), (Some(65), Some(2.0))];
        let limits = limits.into_iter().chain([(Some(100), None), (Some(1000), None), (None, Some(0.4))]);
        limits.map(|(window, soft_cap)| Case {
            shape: AttentionShape { window, soft_cap, ..case.shape },
            ..case.clone()
        })
    }

    #[test]
    fn equals_the_two_pass_softmax() {
        for (heads, kv_heads, dim, tokens) in
            [(1, 1, 16, 1), (4, 2, 16, 70), (7, 1, 8, 130), (3, 3, 64, 64), (2, 1, 80, 65)]
        {
            check(&Case::new(heads, kv_heads, dim, tokens));
        }
        limited(&Case::new(3, 1, 8, 200)).for_each(|case| check(&case));
    }

    #[test]
    fn chunks_threads_and_later_keys_change_no_bit() {
        let plain = Case::new(6, 2, 32, 200);
        for case in limited(&plain).chain([plain.clone()]) {
            let pages = case.pages();
            let (whole, _) = case.rows(&pages, 0, 200, 1);
            assert_eq!(whole, case.rows(&pages, 0, 200, 3).0);
            for chunk in [1, 7, 64] {
                let pieces: Vec<f32> = (0..200)
                    .step_by(chunk)
                    .flat_map(|from| case.rows(&pages, from, (from + chunk).min(200), 2).0)
                    .collect();
                assert_eq!(whole, pieces, "chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_window_reads_no_page_before_it() {
        let mut case = Case::new(2, 1, 8, 300);
        case.shape.window = Some(70);
        let mut pages = case.pages();
        let (whole, _) = case.rows(&pages, 290, 300, 1);
        // Positions 221 on are seen: page 3 begins at 192.
        pages[..3].iter_mut().for_each(|page| page.fill(f32::NAN));
        assert_eq!(whole, case.rows(&pages, 290, 300, 1).0);
    }

    #[test]
    fn every_level_gives_equal_bits() {
        let plain = Case::new(5, 1, 48, 90);
        for case in limited(&plain).chain([plain.clone()]) {
            let pages = case.pages();
            at_every_level(|| case.rows(&pages, 0, 90, 1).0);
        }
    }
}
