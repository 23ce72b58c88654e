//! Nearest neighbours by cosine. In: vectors under ids, in any order, changed and removed at any time without a rebuild.
//! Out: the nearest ids with their cosine.
//!
//! Rows of 8-bit integers are read first, a quarter of the memory; what can still be among the nearest, by the
//! largest error rounding can have made (Cauchy–Schwarz), is scored anew in f32. The result is that of a plain scan in
//! f32, to the bit.
//!
//! * `segment` — the rows in memory
//! * `query` — a query as integers, and how far a row's product can be off

mod query;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use hearth_kernels::scan;

use crate::top_k::Nearest;

use query::Query;
use segment::{SEGMENT_ROWS, Segment};

/// What is kept of each vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 and 8 bits: cosines and order are those of a scan in f32.
    Exact,
    /// 8 bits alone: a fifth of the memory. Cosines are off by 0.01 at most where no value of a vector stands out.
    Int8,
}

/// Vectors of one length under ids. A clone shares the rows until one of both changes.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorIndex {
    dim: usize,
    precision: Precision,
    /// All but the last are full; a row's place counts through them.
    segments: Vec<Arc<Segment>>,
    places: HashMap<u32, u32>,
}

/// Scales to length 1. The zero vector stays: it is near to nothing.
pub fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 {
        let scale = square.sqrt().recip();
        for x in vector {
            *x = (f64::from(*x) * scale) as f32;
        }
    }
}

impl VectorIndex {
    pub fn new(dim: usize) -> Self {
        Self::with_precision(dim, Precision::Exact)
    }

    pub fn with_precision(dim: usize, precision: Precision) -> Self {
        Self { dim, precision, segments: Vec::new(), places: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Adds a vector, scaled to length 1, under an id that no other has. One with a value that isn't finite is
    /// kept as the zero vector, near to nothing.
    ///
    /// # Panics
    /// If the vector has another length, or the id is taken.
    pub fn push(&mut self, id: u32, vector: &[f32]) {
        let vector = self.unit(vector);
        let place = self.len();
        let before = self.places.insert(id, place as u32);
        assert!(before.is_none(), "id {id} is taken");
        if place == self.segments.len() * SEGMENT_ROWS {
            self.segments.push(Arc::new(Segment::new(self.dim, self.precision)));
        }
        let last = self.segments.last_mut().expect("there is room for the row");
        Arc::make_mut(last).push(id, &vector);
    }

    /// Forgets the vector of an id; false if there was none. The last row takes its place.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        let place = place as usize;
        let last = self.segments.last_mut().expect("an id has a row");
        let moved = Arc::make_mut(last).pop();
        if last.is_empty() {
            self.segments.pop();
        }
        if moved.id != id {
            self.places.insert(moved.id, place as u32);
            Arc::make_mut(&mut self.segments[place / SEGMENT_ROWS]).replace(place % SEGMENT_ROWS, &moved);
        }
        true
    }

    /// The vector of an id at length 1, as exactly as it is kept.
    pub fn vector(&self, id: u32) -> Option<Vec<f32>> {
        let place = *self.places.get(&id)? as usize;
        let (segment, row) = (&self.segments[place / SEGMENT_ROWS], place % SEGMENT_ROWS);
        Some(match self.precision {
            Precision::Exact => segment.vector(row).to_vec(),
            Precision::Int8 => segment.rounded(row),
        })
    }

    /// The `k` nearest ids with their cosine, the best first; equal ones by id. Ids that `keep` refuses are passed over.
    ///
    /// # Panics
    /// If the query has another length than the index.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        keep: Option<&(dyn Fn(u32) -> bool + Sync)>,
    ) -> Vec<(u32, f32)> {
        let query = Query::new(self.unit(query));
        let keep = |id| keep.is_none_or(|keep| keep(id));
        match self.precision {
            Precision::Exact => self.search_exact(&query, k, keep),
            Precision::Int8 => self.search_int8(&query, k, keep),
        }
    }

    fn unit(&self, vector: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.dim, "every vector has the index's length");
        let mut vector = vector.to_vec();
        match vector.iter().all(|value| value.is_finite()) {
            true => normalize(&mut vector),
            false => vector.fill(0.0),
        }
        vector
    }

    fn search_int8(&self, query: &Query, k: usize, keep: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
        let mut nearest = Nearest::new(k);
        self.scan(query, |segment, _, row, score| {
            let id = segment.ids[row];
            if score >= nearest.threshold() && keep(id) {
                nearest.push(id, score);
            }
        });
        nearest.into_sorted()
    }

    fn search_exact(&self, query: &Query, k: usize, keep: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
        // The k-th best of what rows score at least: what scores less at most isn't among the k best.
        let mut at_least = Nearest::new(k);
        let mut candidates: Vec<(f32, usize)> = Vec::new();
        self.scan(query, |segment, first, row, score| {
            let error = query.error_of(segment.errors[row]);
            if score + error >= at_least.threshold() && keep(segment.ids[row]) {
                at_least.push(segment.ids[row], score - error);
                candidates.push((score + error, first + row));
            }
        });
        candidates.retain(|&(at_most, _)| at_most >= at_least.threshold());
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut nearest = Nearest::new(k);
        for (at_most, place) in candidates {
            if at_most < nearest.threshold() {
                break;
            }
            let (segment, row) = (&self.segments[place / SEGMENT_ROWS], place % SEGMENT_ROWS);
            nearest.push(segment.ids[row], scan::dot(segment.vector(row), &query.vector));
        }
        nearest.into_sorted()
    }

    /// Gives each row's cosine from 8 bits to `visit`, with its segment, the place of the segment's first row, and its row.
    fn scan(&self, query: &Query, mut visit: impl FnMut(&Segment, usize, usize, f32)) {
        let mut products = [0; SEGMENT_ROWS];
        for (index, segment) in self.segments.iter().enumerate() {
            let products = &mut products[..segment.ids.len()];
            scan::products(&segment.codes, &query.words, products);
            for (row, (&product, &scale)) in products.iter().zip(&segment.scales).enumerate() {
                visit(segment, index * SEGMENT_ROWS, row, product as f32 * (scale * query.scale));
            }
        }
    }
}
