//! Exact nearest neighbours by cosine: a scan over all vectors, which are kept at length 1.

/// Vectors of one length in one array; the index is the chunk's id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VectorIndex {
    dim: usize,
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
        Self { dim, vectors: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.vectors.len().checked_div(self.dim).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// Adds a vector under the next id.
    pub fn push(&mut self, mut vector: Vec<f32>) {
        assert_eq!(vector.len(), self.dim, "every vector has the index's length");
        normalize(&mut vector);
        self.vectors.append(&mut vector);
    }

    /// The `k` nearest ids with their cosine, the best first; equal scores by id.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<(u32, f32)> {
        assert_eq!(query.len(), self.dim, "the query has the index's length");
        let mut query = query.to_vec();
        normalize(&mut query);
        let rows = self.vectors.chunks_exact(self.dim.max(1));
        let scores = rows.enumerate().map(|(id, row)| (id as u32, dot(row, &query)));
        crate::top_k::top_k(scores, k)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_come_first_and_equal_ones_by_id() {
        let mut index = VectorIndex::new(2);
        for vector in [[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0], [1.0, 1.0]] {
            index.push(vector.to_vec());
        }
        let ids = |k| index.search(&[5.0, 0.0], k).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(5), [0, 2, 4, 1, 3]);
        assert_eq!(ids(2), [0, 2]);
        assert_eq!(ids(0), [0u32; 0]);
        assert!((index.search(&[5.0, 0.0], 1)[0].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn dot_equals_the_plain_sum() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..37).map(|i| (i % 5) as f32).collect();
        let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert!((dot(&a, &b) - plain).abs() <= f32::EPSILON * plain);
    }
}
