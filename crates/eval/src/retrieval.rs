//! How good a search is: queries, judged documents, and the scores of a ranking.
//!
//! nDCG has the gains as they are judged, as in `trec_eval` (`ndcg_cut`): `Σ gain / log2(rank + 1)` over the first k,
//! divided by that of the best ranking (Järvelin and Kekäläinen 2002). Recall is the share of judged documents (gain above 0)
//! among the first k. The reciprocal rank is that of the first one.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// A query with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub id: String,
    pub text: String,
}

/// The documents that answer a query, each with its gain (0: looked at, and of no use).
pub type Gains = BTreeMap<String, u32>;

/// Queries that have at least one document with a gain, in the order of their file, each with its judgements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    pub queries: Vec<(Query, Gains)>,
    /// Queries without one: they can't be scored.
    pub num_unjudged: usize,
}

/// A line of BEIR's `queries.jsonl` (`_id`, `text`) or of a questions file (`id`, `question`, `source`).
#[derive(Deserialize)]
struct Line {
    #[serde(default, alias = "_id")]
    id: String,
    #[serde(alias = "text")]
    question: String,
    source: Option<String>,
}

impl Judged {
    /// Reads queries, and judgements from `qrels` if it is given, else from each question's `source`.
    ///
    /// # Errors
    /// What can't be read, with its line; no query that can be scored.
    pub fn read(queries: &Path, qrels: Option<&Path>) -> Result<Self> {
        let text = fs_err::read_to_string(queries)?;
        let judgements = match qrels {
            Some(path) => Some(parse_qrels(&fs_err::read_to_string(path)?, path)?),
            None => None,
        };
        let judged = Self::parse(&text, queries, judgements)?;
        if judged.queries.is_empty() {
            let (path, num_queries) = (queries.into(), judged.num_unjudged);
            return Err(Error::NothingJudged { path, num_queries });
        }
        Ok(judged)
    }

    fn parse(text: &str, path: &Path, mut qrels: Option<BTreeMap<String, Gains>>) -> Result<Self> {
        let (mut judged, mut seen) = (Self::default(), HashSet::new());
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(line).map_err(|error| Error::Query {
                path: path.into(),
                line: index + 1,
                reason: error.to_string(),
            })?;
            let id = if line.id.is_empty() { (index + 1).to_string() } else { line.id };
            if !seen.insert(id.clone()) {
                return Err(Error::DuplicateQuestion { id });
            }
            let gains = match &mut qrels {
                Some(qrels) => qrels.remove(&id).unwrap_or_default(),
                None => line.source.map(|source| (source, 1)).into_iter().collect(),
            };
            if gains.values().any(|&gain| gain > 0) {
                judged.queries.push((Query { id, text: line.question }, gains));
            } else {
                judged.num_unjudged += 1;
            }
        }
        Ok(judged)
    }
}

/// Judgements as TREC has them (`query 0 document gain`) or as BEIR has them (`query document gain`, a head line).
/// Negative gains count as 0.
fn parse_qrels(text: &str, path: &Path) -> Result<BTreeMap<String, Gains>> {
    let mut qrels: BTreeMap<String, Gains> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (query, document, gain) = match columns[..] {
            [] => continue,
            [query, _, document, gain] | [query, document, gain] => (query, document, gain),
            _ => return Err(bad_qrel(path, index, line)),
        };
        match gain.parse::<i64>() {
            Ok(gain) => {
                let gain = u32::try_from(gain.max(0)).map_err(|_| bad_qrel(path, index, line))?;
                qrels.entry(query.into()).or_default().insert(document.into(), gain);
            }
            Err(_) if index == 0 => {}
            Err(_) => return Err(bad_qrel(path, index, line)),
        }
    }
    Ok(qrels)
}

fn bad_qrel(path: &Path, index: usize, line: &str) -> Error {
    Error::Qrel { path: path.into(), line: index + 1, text: line.chars().take(80).collect() }
}

/// nDCG of the first `k` documents, 0 to 1.
pub fn ndcg(ranking: &[&str], gains: &Gains, k: usize) -> f64 {
    let discounted = |gains: &mut dyn Iterator<Item = u32>| -> f64 {
        gains.take(k).enumerate().map(|(i, gain)| f64::from(gain) / (i as f64 + 2.0).log2()).sum()
    };
    let found = discounted(&mut ranking.iter().map(|&document| gains.get(document).copied().unwrap_or(0)));
    let mut best: Vec<u32> = gains.values().copied().collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted(&mut best.into_iter());
    if best > 0.0 { found / best } else { 0.0 }
}

/// The share of the documents with a gain that are among the first `k`.
pub fn recall(ranking: &[&str], gains: &Gains, k: usize) -> f64 {
    let num_relevant = gains.values().filter(|&&gain| gain > 0).count();
    let num_found = ranking.iter().take(k).filter(|&&document| is_relevant(document, gains)).count();
    if num_relevant == 0 { 0.0 } else { num_found as f64 / num_relevant as f64 }
}

/// One over the rank of the first document with a gain, 0 if it isn't among the first `k`.
pub fn reciprocal_rank(ranking: &[&str], gains: &Gains, k: usize) -> f64 {
    let first = ranking.iter().take(k).position(|&document| is_relevant(document, gains));
    first.map_or(0.0, |index| 1.0 / (index as f64 + 1.0))
}

fn is_relevant(document: &str, gains: &Gains) -> bool {
    gains.get(document).is_some_and(|&gain| gain > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains(pairs: &[(&str, u32)]) -> Gains {
        pairs.iter().map(|&(document, gain)| (document.to_owned(), gain)).collect()
    }

    #[test]
    fn scores_are_those_worked_out_by_hand() {
        let gains = gains(&[("a", 2), ("b", 1), ("c", 1), ("d", 0)]);
        let ranking = ["d", "b", "x", "a"];
        // (1/log2(3) + 2/log2(5)) / (2/log2(2) + 1/log2(3) + 1/log2(4))
        let expected = (1.0 / 3f64.log2() + 2.0 / 5f64.log2()) / (2.0 + 1.0 / 3f64.log2() + 0.5);
        assert!((ndcg(&ranking, &gains, 10) - expected).abs() < 1e-12);
        assert!((ndcg(&["a", "b", "c"], &gains, 10) - 1.0).abs() < 1e-12, "the best ranking");
        assert!((recall(&ranking, &gains, 10) - 2.0 / 3.0).abs() < 1e-12);
        assert!((recall(&ranking, &gains, 2) - 1.0 / 3.0).abs() < 1e-12);
        assert!((reciprocal_rank(&ranking, &gains, 10) - 0.5).abs() < 1e-12);
        assert!(reciprocal_rank(&["d", "x"], &gains, 10).abs() < 1e-12);
        assert!(ndcg(&[], &Gains::new(), 10).abs() < 1e-12, "nothing to find");
    }

    #[test]
    fn judgements_of_trec_and_beir_are_one() {
        let path = Path::new("q");
        let trec = parse_qrels("1 0 a 2\n1 0 b -1\n\n2 Q0 c 1\n", path).unwrap();
        let beir = parse_qrels("query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t0\n2\tc\t1\n", path).unwrap();
        assert_eq!(trec, beir);
        let error = parse_qrels("1 0 a 2\n1 0 b much\n", path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("1 0 b much"), "{error}");
        assert!(parse_qrels("1 2\n", path).is_err());
    }

    #[test]
    fn queries_come_from_either_form_and_those_without_judgements_are_counted() {
        let qrels = parse_qrels("1 0 a 1\n2 0 b 0\n", Path::new("q")).unwrap();
        let text = "{\"_id\":\"1\",\"text\":\"x\"}\n{\"_id\":\"2\",\"text\":\"y\"}\n{\"_id\":\"3\",\"text\":\"z\"}\n";
        let judged = Judged::parse(text, Path::new("q"), Some(qrels)).unwrap();
        assert_eq!((judged.queries.len(), judged.num_unjudged), (1, 2));
        let text = "{\"question\":\"x\",\"answers\":[\"y\"],\"source\":\"a.md\"}";
        let judged = Judged::parse(text, Path::new("q"), None).unwrap();
        assert_eq!(judged.queries[0].0.id, "1");
        assert_eq!(judged.queries[0].1, gains(&[("a.md", 1)]));
        let twice = format!("{0}\n{0}", "{\"_id\":\"1\",\"text\":\"x\"}");
        assert!(matches!(Judged::parse(&twice, Path::new("q"), None), Err(Error::DuplicateQuestion { .. })));
    }
}
