//! The best `k` of many scores, the same for any order in which they come: ties go to the smaller id.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Which ids a search may give.
pub type Keep<'a> = &'a (dyn Fn(u32) -> bool + Sync);

/// An id with its score; the greatest is the one that leaves first: lowest score, then largest id.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Worst(u32, f32);

impl Eq for Worst {}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.1.total_cmp(&self.1).then(self.0.cmp(&other.0))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best of the scores that were pushed.
#[derive(Debug)]
pub(crate) struct Nearest {
    k: usize,
    heap: BinaryHeap<Worst>,
    threshold: f32,
}

impl Nearest {
    pub(crate) fn new(k: usize) -> Self {
        let threshold = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { k, heap: BinaryHeap::new(), threshold }
    }

    /// A score below this isn't taken.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    pub(crate) fn push(&mut self, id: u32, score: f32) {
        if score < self.threshold {
            return;
        }
        self.heap.push(Worst(id, score));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
        if self.heap.len() == self.k {
            self.threshold = self.heap.peek().map_or(f32::INFINITY, |worst| worst.1);
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<(u32, f32)> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|Worst(id, score)| (id, score)).collect()
    }
}

pub(crate) fn top_k(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let mut nearest = Nearest::new(k);
    for (id, score) in scores {
        nearest.push(id, score);
    }
    nearest.into_sorted()
}
