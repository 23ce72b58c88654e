//! Causal grouped-query attention over pages of keys and values, with an online softmax.
//!
//! Pages are walked in ascending order, in spans of [`SPAN`] whose results are merged in order, and each (row, head)
//! is computed by itself: a result doesn't depend on how a prompt was cut into chunks, on what else is in the batch,
//! or on whether spans were computed by one thread or by several.
//! The online softmax is that of Milakov & Gimelshein 2018; blocks as in FlashAttention (Dao et al. 2022), spans as in
//! Flash-Decoding (Dao et al. 2023).
//!
//! * [`pages`] — what a page looks like, for each type of keys and values
//! * `walk` — one page for up to four queries
//! * `select` — which pages a row looks at, when it may not look at all

mod pages;
mod select;
mod walk;

use std::sync::{Mutex, PoisonError};

use self::pages::HeadPage;
use self::select::{Looks, select};
use self::walk::{Quad, Step, walk_page};
use crate::attention_backward::AttentionShape;
use crate::pool::{Parts, Pool};

pub use self::pages::{KvType, PageLayout};

/// Positions in a page.
pub const PAGE: usize = 64;

/// Queries computed together, so that a page's values are loaded once for all of them.
const TOGETHER: usize = 4;
/// Rows of a task: enough to reuse a page from the cache, few enough to share work among threads.
const ROWS: usize = 8;
/// Pages of a span: 256 positions. One long sequence is shared among threads by spans.
const SPAN: usize = 4;

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

/// Which keys and values are read.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub layout: PageLayout,
    pub layer: usize,
    /// Each row looks at this many pages at most; needs [`PageLayout::has_bounds`].
    pub most_pages: Option<usize>,
}

/// `out = softmax(scale · q kᵀ) v` over the positions up to each row's own, or the last `window` of them, or
/// those of the pages it may look at.
///
/// Pages that lie wholly before every window of a task's rows aren't read.
/// `log_sum_exp`, if wanted, is what the backward pass needs.
///
/// # Shapes
/// q, out `[T, H·D]`, `log_sum_exp` `[T, H]`, where T is the sum of the segments' rows in order.
pub fn attention(
    pool: &Pool,
    shape: &AttentionShape,
    keys: Keys,
    segments: &[Segment<'_>],
    (q, out): (&[f32], &mut [f32]),
    log_sum_exp: Option<&mut [f32]>,
) {
    let width = shape.num_heads * shape.head_dim;
    let total: usize = segments.iter().map(|segment| segment.rows).sum();
    assert_eq!((q.len(), out.len()), (total * width, total * width), "q and out of {total} rows");
    assert_eq!(keys.layout.head_dim, shape.head_dim, "`head_dim` of the pages");
    assert!(keys.most_pages.is_none() || keys.layout.has_bounds, "choosing pages needs their bounds");
    let tiles = tiles(shape, keys, segments, q);
    let lse = log_sum_exp.map(|lse| {
        assert_eq!(lse.len(), total * shape.num_heads, "log_sum_exp of {total} rows");
        Parts::new(lse)
    });
    let out = Parts::new(out);
    let put = |tile: &Tile<'_>, quads: Vec<Quad>| {
        tile.finish(quads, |row, head, values, value| {
            // SAFETY: the task of this tile alone writes this row's part of this head's group.
            let out = unsafe { out.slice(row * width + head * shape.head_dim, shape.head_dim) };
            out.copy_from_slice(&values[..shape.head_dim]);
            if let Some(lse) = &lse {
                // SAFETY: as above.
                let lse = unsafe { lse.slice(row * shape.num_heads + head, 1) };
                lse[0] = value;
            }
        });
    };
    if tiles.len() >= 4 * pool.threads() || pool.threads() == 1 {
        // Later rows see more keys: starting with them keeps threads busy to the end.
        pool.run(tiles.len(), &|index| {
            let tile = &tiles[tiles.len() - 1 - index];
            let looks = tile.looks();
            put(
                tile,
                tile.spans().fold(tile.quads(), |quads, span| tile.then(quads, span, looks.as_deref())),
            );
        });
        return;
    }
    run_spans(pool, &tiles, put);
}

/// Computes the spans of few tiles as tasks of their own, then merges them in order.
fn run_spans(pool: &Pool, tiles: &[Tile<'_>], put: impl Fn(&Tile<'_>, Vec<Quad>)) {
    let looks: Vec<_> = tiles.iter().map(Tile::looks).collect();
    let places: Vec<(usize, usize)> = tiles
        .iter()
        .enumerate()
        .flat_map(|(index, tile)| tile.spans().map(move |span| (index, span)))
        .collect();
    let done: Vec<Mutex<Option<Vec<Quad>>>> = places.iter().map(|_| Mutex::new(None)).collect();
    pool.run(places.len(), &|task| {
        let (index, span) = places[task];
        let quads = tiles[index].span(span, looks[index].as_deref());
        *done[task].lock().unwrap_or_else(PoisonError::into_inner) = Some(quads);
    });
    let mut done = done.into_iter();
    for tile in tiles {
        let quads = tile.spans().fold(tile.quads(), |mut quads, _| {
            let later =
                done.next().and_then(|later| later.into_inner().unwrap_or_else(PoisonError::into_inner));
            merge(&mut quads, &later.expect("every task has run"));
            quads
        });
        put(tile, quads);
    }
}

fn merge(quads: &mut [Quad], later: &[Quad]) {
    for (quad, later) in quads.iter_mut().zip(later) {
        quad.merge(later);
    }
}

/// The work of one call, cut by rows and kv heads.
fn tiles<'a>(
    shape: &'a AttentionShape,
    keys: Keys,
    segments: &'a [Segment<'a>],
    q: &'a [f32],
) -> Vec<Tile<'a>> {
    let mut tiles = Vec::new();
    let mut first_row = 0;
    for segment in segments {
        let needed = (segment.position + segment.rows).div_ceil(PAGE);
        assert!(segment.pages.len() >= needed, "{} pages, {needed} needed", segment.pages.len());
        let page_len = keys.layout.page_len();
        assert!(segment.pages.iter().all(|page| page.len() >= page_len), "page size");
        for start in (0..segment.rows).step_by(ROWS) {
            let rows = ROWS.min(segment.rows - start);
            let (position, first_row) = (segment.position + start, first_row + start);
            let tile =
                |kv_head| Tile { shape, keys, pages: &segment.pages, q, kv_head, position, first_row, rows };
            tiles.extend((0..shape.num_kv_heads).map(tile));
        }
        first_row += segment.rows;
    }
    tiles
}

/// Some rows of one sequence and the query heads that share one key head.
struct Tile<'a> {
    shape: &'a AttentionShape,
    keys: Keys,
    pages: &'a [&'a [f32]],
    /// Of all rows of the call.
    q: &'a [f32],
    kv_head: usize,
    position: usize,
    /// The first row's place in q and out.
    first_row: usize,
    rows: usize,
}

impl Tile<'_> {
    /// The first position that a row of this tile sees.
    fn first_seen(&self, row: usize) -> usize {
        self.shape.window.map_or(0, |window| (self.position + row + 1).saturating_sub(window))
    }

    fn group(&self) -> usize {
        self.shape.num_heads / self.shape.num_kv_heads
    }

    /// Row and head of query n: row n / group, head n % group.
    fn place(&self, n: usize) -> (usize, usize) {
        (n / self.group(), self.kv_head * self.group() + n % self.group())
    }

    /// q of one of this tile's rows, from `head` on for `heads` heads.
    fn q_of(&self, row: usize, head: usize, heads: usize) -> &[f32] {
        let AttentionShape { num_heads, head_dim, .. } = *self.shape;
        &self.q[((self.first_row + row) * num_heads + head) * head_dim..][..heads * head_dim]
    }

    fn head_page(&self, index: usize) -> HeadPage<'_> {
        let Keys { layout, layer, .. } = self.keys;
        self.pages.get(index).map_or_else(HeadPage::default, |page| layout.head(page, layer, self.kv_head))
    }

    /// Spans of pages that a row of this tile may see.
    fn spans(&self) -> std::ops::Range<usize> {
        // The first row's window begins before those of the others.
        let last_page = (self.position + self.rows - 1) / PAGE;
        self.first_seen(0) / PAGE / SPAN..last_page / SPAN + 1
    }

    /// Which pages each row looks at, if it may not look at all.
    fn looks(&self) -> Option<Vec<Looks>> {
        let most = self.keys.most_pages?;
        let group = self.group();
        let of_row = |row| {
            let q = self.q_of(row, self.kv_head * group, group);
            select(self.shape, self.position + row, most, q, |page| self.head_page(page))
        };
        Some((0..self.rows).map(of_row).collect())
    }

    /// All queries, which have seen nothing yet.
    fn quads(&self) -> Vec<Quad> {
        let (dim, padded) = (self.shape.head_dim, self.keys.layout.padded_dim());
        let queries = self.rows * self.group();
        (0..queries)
            .step_by(TOGETHER)
            .map(|start| {
                let len = TOGETHER.min(queries - start);
                let mut scaled = vec![0.0; len * padded];
                let (mut first, mut visible) = ([0; TOGETHER], [0; TOGETHER]);
                for (i, scaled) in scaled.chunks_exact_mut(padded).enumerate() {
                    let (row, head) = self.place(start + i);
                    for (scaled, q) in scaled[..dim].iter_mut().zip(self.q_of(row, head, 1)) {
                        *scaled = q * self.shape.scale;
                    }
                    (first[i], visible[i]) = (self.first_seen(row), self.position + row + 1);
                }
                let soft_cap = self.shape.soft_cap;
                let acc = vec![0.0; len * padded];
                let (largest, sum) = ([f32::NEG_INFINITY; TOGETHER], [0.0; TOGETHER]);
                Quad { len, q: scaled, acc, largest, sum, first, visible, soft_cap }
            })
            .collect()
    }

    /// What all queries see in one span.
    fn span(&self, span: usize, looks: Option<&[Looks]>) -> Vec<Quad> {
        let mut quads = self.quads();
        let last = ((span + 1) * SPAN).min(self.pages.len());
        for index in (span * SPAN).max(self.first_seen(0) / PAGE)..last {
            let start = index * PAGE;
            // The first quad asks for the next page while it reads this one.
            let mut next = self.head_page(index + 1);
            for (n, quad) in quads.iter_mut().enumerate() {
                let looks: [bool; TOGETHER] = std::array::from_fn(|i| {
                    i < quad.len
                        && quad.first[i] < start + PAGE
                        && quad.visible[i] > start
                        && looks.is_none_or(|looks| {
                            let (row, _) = self.place(n * TOGETHER + i);
                            looks[row].at(index)
                        })
                });
                if looks.contains(&true) {
                    let next = std::mem::take(&mut next);
                    walk_page(
                        self.keys.layout.kv_type,
                        Step { page: self.head_page(index), next, start, looks },
                        quad,
                    );
                }
            }
        }
        quads
    }

    /// `quads` and, behind what they have seen, one more span.
    fn then(&self, mut quads: Vec<Quad>, span: usize, looks: Option<&[Looks]>) -> Vec<Quad> {
        merge(&mut quads, &self.span(span, looks));
        quads
    }

    fn finish(&self, mut quads: Vec<Quad>, mut put: impl FnMut(usize, usize, &[f32], f32)) {
        let padded = self.keys.layout.padded_dim();
        for n in 0..self.rows * self.group() {
            let (quad, i) = (&mut quads[n / TOGETHER], n % TOGETHER);
            let acc = &mut quad.acc[i * padded..(i + 1) * padded];
            let inverse = 1.0 / quad.sum[i];
            for value in acc.iter_mut() {
                *value *= inverse;
            }
            let (row, head) = self.place(n);
            put(self.first_row + row, head, acc, quad.largest[i] + quad.sum[i].ln());
        }
    }
}

#[cfg(test)]
mod tests;
