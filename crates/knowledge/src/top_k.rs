//! The best `k` of many scores, the same for any order of equals: ties go to the smaller id.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Which ids a search may give.
pub type Keep<'a> = &'a (dyn Fn(u32) -> bool + Sync);

#[derive(PartialEq)]
struct Worst(u32, f32);

impl Eq for Worst {}

impl Ord for Worst {
    /// The greatest is the one that leaves first: lowest score, then largest id.
    fn cmp(&self, other: &Self) -> Ordering {
        other.1.total_cmp(&self.1).then(self.0.cmp(&other.0))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(crate) fn top_k(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let mut heap = BinaryHeap::new();
    for (id, score) in scores {
        heap.push(Worst(id, score));
        if heap.len() > k {
            heap.pop();
        }
    }
    let sorted = heap.into_sorted_vec();
    sorted.into_iter().map(|Worst(id, score)| (id, score)).collect()
}
