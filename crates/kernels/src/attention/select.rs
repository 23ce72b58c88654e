//! Which pages a row looks at, when it may not look at all: query-aware selection (Quest, Tang et al. 2024).
//!
//! A page's bounds give an upper bound of q·k over its keys: each channel takes the larger of q·min and q·max. A row
//! looks at its own page, at the first one (where attention rests when it has nothing to look for: Xiao et al. 2024),
//! and at those with the highest bounds over its group's heads. All pages before a row's own are whole, so the
//! choice depends on the row and on nothing else.

use super::pages::HeadPage;
use super::{AttentionShape, PAGE};
use crate::dispatch::multiversion;

/// Pages of one row and kv head, as a bit each.
#[derive(Debug, Clone)]
pub(super) struct Looks(Vec<u64>);

impl Looks {
    pub(super) fn at(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 == 1
    }

    fn set(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }
}

/// At most `most` pages (at least two) for a row at `position` whose group's queries are `q`, `[group, D]`.
///
/// `head_page` gives a page of the row's kv head.
pub(super) fn select<'a>(
    shape: &AttentionShape,
    position: usize,
    most: usize,
    q: &[f32],
    head_page: impl Fn(usize) -> HeadPage<'a>,
) -> Looks {
    let own = position / PAGE;
    let oldest = shape.window.map_or(0, |window| (position + 1).saturating_sub(window)) / PAGE;
    let mut looks = Looks(vec![0; own / 64 + 1]);
    looks.set(own);
    looks.set(oldest);
    let between = oldest + 1..own;
    let left = most.saturating_sub(2);
    if between.len() <= left {
        between.for_each(|page| looks.set(page));
        return looks;
    }
    let mut bounds: Vec<(f32, usize)> = between
        .map(|page| {
            let heads = q.chunks_exact(shape.head_dim);
            let bound = |q| upper_bound(q, head_page(page).bounds);
            (heads.map(bound).fold(f32::NEG_INFINITY, f32::max), page)
        })
        .collect();
    // Total order: the earlier page wins a tie.
    bounds.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    bounds[..left].iter().for_each(|&(_, page)| looks.set(page));
    looks
}

multiversion! {
    /// The largest q·k that keys within the bounds `[2, padded D]` can have; scores of a negative scale aren't foreseen.
    fn upper_bound(q: &[f32], bounds: &[f32]) -> f32 {
        let (least, most) = bounds.split_at(bounds.len() / 2);
        let mut lanes = [0.0f32; crate::dispatch::LANES];
        for ((q, least), most) in q
            .chunks(crate::dispatch::LANES)
            .zip(least.chunks_exact(crate::dispatch::LANES))
            .zip(most.chunks_exact(crate::dispatch::LANES))
        {
            for (((lane, q), least), most) in lanes.iter_mut().zip(q).zip(least).zip(most) {
                *lane += (q * least).max(q * most);
            }
        }
        crate::dispatch::sum_lanes(lanes)
    }
}
