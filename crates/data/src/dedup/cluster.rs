//! Which rows belong together: those with an equal hash, of the whole or of a band, and what hangs together through them.

use super::{Config, read_numbers};
use crate::job::Job;
use crate::{Error, Result};

/// Rows as a forest whose roots are the first rows of their clusters.
#[derive(Debug)]
pub(super) struct Clusters {
    parents: Vec<u32>,
    /// Rows whose whole text came before.
    exact: Vec<bool>,
    /// Rows that are not alone.
    together: Vec<bool>,
}

impl Clusters {
    fn new(num_rows: usize) -> Self {
        let parents = (0..num_rows as u32).collect();
        Self { parents, exact: vec![false; num_rows], together: vec![false; num_rows] }
    }

    fn root(&mut self, mut row: u32) -> u32 {
        while self.parents[row as usize] != row {
            let up = self.parents[self.parents[row as usize] as usize];
            self.parents[row as usize] = up;
            row = up;
        }
        row
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        // The smaller root stays one, so a cluster's root is its first row whatever order the edges come in.
        let (first, second) = (one.min(other), one.max(other));
        self.parents[second as usize] = first;
    }

    fn settle(&mut self) {
        for row in 0..self.parents.len() as u32 {
            let root = self.root(row);
            self.parents[row as usize] = root;
            if root != row {
                self.together[row as usize] = true;
                self.together[root as usize] = true;
            }
        }
    }

    /// The first row of this one's cluster.
    pub(super) fn first(&self, row: u64) -> u64 {
        u64::from(self.parents[row as usize])
    }

    pub(super) fn is_exact(&self, row: u64) -> bool {
        self.exact[row as usize]
    }

    pub(super) fn in_cluster(&self, row: u64) -> bool {
        self.together[row as usize]
    }
}

pub(super) fn find(job: &Job<'_>, config: &Config, num_rows: &[u64]) -> Result<Clusters> {
    let total: u64 = num_rows.iter().sum();
    if total >= u64::from(u32::MAX) {
        let expectation = "fewer than 2³² rows; divide the input".into();
        return Err(Error::Config { field: "rows".into(), value: total.to_string(), expectation });
    }
    let mut clusters = Clusters::new(total as usize);
    if config.exact {
        exact(job, num_rows, &mut clusters)?;
    }
    if config.near.enabled {
        let bands: Vec<usize> = (0..config.near.bands).collect();
        // As many bands at once as there are threads; the edges are the same in any order.
        for group in bands.chunks(job.threads.max(1)) {
            if job.progress.cancelled() {
                return Err(Error::Cancelled { folder: job.folder.clone() });
            }
            let edges: Vec<Result<Vec<(u32, u32)>>> = std::thread::scope(|scope| {
                let running: Vec<_> =
                    group.iter().map(|band| scope.spawn(|| edges(job, *band, num_rows))).collect();
                running
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| Err(panicked(&*panic))))
                    .collect()
            });
            for edges in edges {
                for (one, other) in edges? {
                    clusters.join(one, other);
                }
            }
        }
    }
    clusters.settle();
    Ok(clusters)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    Error::Panicked { file: "signatures".into(), reason: crate::job::panic_text(panic) }
}

/// Equal texts, by 128 bits of hash.
fn exact(job: &Job<'_>, num_rows: &[u64], clusters: &mut Clusters) -> Result<()> {
    let mut rows: Vec<(u64, u64, u32)> = Vec::with_capacity(clusters.parents.len());
    for (index, &count) in num_rows.iter().enumerate() {
        let numbers = read_numbers(job, "exact", index, 0..count * 2)?;
        let offset = rows.len() as u32;
        let (pairs, _) = numbers.as_chunks::<2>();
        rows.extend(pairs.iter().zip(offset..).map(|([high, low], row)| (*high, *low, row)));
    }
    rows.sort_unstable();
    for run in rows.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        for row in &run[1..] {
            clusters.join(run[0].2, row.2);
            clusters.exact[row.2 as usize] = true;
        }
    }
    Ok(())
}

/// Pairs of rows whose hashes of a band are equal.
fn edges(job: &Job<'_>, band: usize, num_rows: &[u64]) -> Result<Vec<(u32, u32)>> {
    let total: u64 = num_rows.iter().sum();
    let mut rows: Vec<(u64, u32)> = Vec::with_capacity(total as usize);
    for (index, &count) in num_rows.iter().enumerate() {
        let start = band as u64 * count;
        let numbers = read_numbers(job, "bands", index, start..start + count)?;
        let offset = rows.len() as u32;
        rows.extend(numbers.into_iter().zip(offset..));
    }
    rows.sort_unstable();
    let mut edges = Vec::new();
    for run in rows.chunk_by(|one, other| one.0 == other.0) {
        edges.extend(run[1..].iter().map(|row| (run[0].1, row.1)));
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_of_a_cluster_is_its_root_in_any_order_of_edges() {
        let edges = [(4, 7), (7, 2), (9, 8), (2, 5)];
        for start in 0..edges.len() {
            let mut clusters = Clusters::new(10);
            for at in 0..edges.len() {
                let (one, other) = edges[(start + at) % edges.len()];
                clusters.join(one, other);
            }
            clusters.settle();
            let firsts: Vec<u64> = (0..10).map(|row| clusters.first(row)).collect();
            assert_eq!(firsts, [0, 1, 2, 3, 2, 2, 6, 2, 8, 8]);
            assert!(!clusters.in_cluster(3) && clusters.in_cluster(2) && clusters.in_cluster(9));
        }
    }
}
