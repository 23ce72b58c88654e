//! Exact nearest neighbours by cosine: a scan over all vectors, which are kept at length 1.

use std::collections::HashMap;

use crate::top_k::{Keep, top_k};

/// Vectors of one length in one array.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VectorIndex {
    dim: usize,
    ids: Vec<u32>,
    rows: HashMap<u32, usize>,
    vectors: Vec<f32>,
}

/// Scales to length 1. The zero vector stays: it is near to nothing.
pub fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 {
        let scale = (1.0 / square.sqrt()) as f32;
        for x in vector {
            *x *= scale;
        }
    }
}

impl VectorIndex {
    pub fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Adds a vector under an id that has none yet.
    pub fn push(&mut self, id: u32, vector: &[f32]) {
        assert_eq!(vector.len(), self.dim, "every vector has the index's length");
        let start = self.vectors.len();
        self.vectors.extend_from_slice(vector);
        normalize(&mut self.vectors[start..]);
        self.rows.insert(id, self.ids.len());
        self.ids.push(id);
    }

    /// False if there was none.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(row) = self.rows.remove(&id) else { return false };
        self.ids.swap_remove(row);
        let last = self.vectors.len() - self.dim;
        self.vectors.copy_within(last.., row * self.dim);
        self.vectors.truncate(last);
        if let Some(&moved) = self.ids.get(row) {
            self.rows.insert(moved, row);
        }
        true
    }

    /// The `k` nearest ids with their cosine, the best first; equal scores by id.
    pub fn search(&self, query: &[f32], k: usize, keep: Option<Keep<'_>>) -> Vec<(u32, f32)> {
        assert_eq!(query.len(), self.dim, "the query has the index's length");
        let mut query = query.to_vec();
        normalize(&mut query);
        let rows = self.ids.iter().zip(self.vectors.chunks_exact(self.dim.max(1)));
        let kept = rows.filter(|(id, _)| keep.is_none_or(|keep| keep(**id)));
        top_k(kept.map(|(&id, row)| (id, dot(row, &query))), k)
    }
}

/// Eight partial sums in a fixed order: the compiler makes them one SIMD register, and the result is always the same.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (whole_a, rest_a) = a.as_chunks::<8>();
    let (whole_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
