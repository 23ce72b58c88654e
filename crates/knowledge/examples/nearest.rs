//! How long a search takes on one core: vectors and queries come as raw f32 files, the same that peers are given.
//!
//! `cargo run --release -p hearth-knowledge --example nearest -- BASE QUERIES DIM [K]`

use std::io::Write;
use std::time::Instant;

use hearth_knowledge::vector::{Precision, VectorIndex};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, queries, dim, rest @ ..] = &arguments[..] else {
        return Err(std::io::Error::other("expected BASE QUERIES DIM [K]"));
    };
    let number = |text: &String| text.parse::<usize>().map_err(std::io::Error::other);
    let dim = number(dim)?;
    let k = rest.first().map_or(Ok(10), number)?;
    let (base, queries) = (floats(base)?, floats(queries)?);
    let mut out = std::io::stdout();
    let mut exact_ids = Vec::new();
    for precision in [Precision::Exact, Precision::Int8] {
        let started = Instant::now();
        let mut index = VectorIndex::with_precision(dim, precision);
        for (id, vector) in (0..).zip(base.chunks_exact(dim)) {
            index.push(id, vector);
        }
        let build_ms = started.elapsed().as_secs_f64() * 1e3;
        let mut times_ms = Vec::new();
        let mut ids = Vec::new();
        for query in queries.chunks_exact(dim) {
            let started = Instant::now();
            let found = index.search(query, k, None);
            times_ms.push(started.elapsed().as_secs_f64() * 1e3);
            ids.push(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
        }
        if exact_ids.is_empty() {
            exact_ids.clone_from(&ids);
        }
        times_ms.sort_by(f64::total_cmp);
        let at = |part: f64| times_ms[(times_ms.len() as f64 * part) as usize];
        writeln!(
            out,
            "{precision:?}: {} x {dim}, built in {build_ms:.0} ms, p50 {:.2} ms, p99 {:.2} ms, recall@{k} {:.4}",
            index.len(),
            at(0.5),
            at(0.99),
            recall(&exact_ids, &ids),
        )?;
    }
    Ok(())
}

fn floats(path: &str) -> std::io::Result<Vec<f32>> {
    let bytes = fs_err::read(path)?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(values.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

fn recall(expected: &[Vec<u32>], found: &[Vec<u32>]) -> f64 {
    let pairs = expected.iter().zip(found);
    let hits: usize =
        pairs.map(|(expected, found)| expected.iter().filter(|id| found.contains(id)).count()).sum();
    hits as f64 / expected.iter().map(Vec::len).sum::<usize>().max(1) as f64
}
