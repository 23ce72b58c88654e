//! How well found passages can answer a question, before any model reads them: 0 to 1.
//!
//! Two signs, the stronger counts: the question's words, weighted by how rare they are, that one passage holds; and the
//! cosine of question and passage above what unrelated texts have. Words alone fail across languages, meaning alone
//! on names that no embedder has seen.

use std::collections::BTreeSet;

use crate::bm25::WordCounts;
use crate::retrieve::{Passage, Source};

/// Below this the documents hold no answer. Measured in LOG.md ("not in the documents").
pub const THRESHOLD: f64 = 0.35;

/// Signs of one question.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signs {
    /// The best passage's share of the question's words by their weight.
    pub words: f64,
    /// The best cosine.
    pub cosine: f64,
}

/// Reads the signs off the passages of a question.
pub fn signs(question: &str, passages: &[Passage<'_>], sources: &[Source<'_>]) -> Signs {
    let mut rarity: Vec<(String, f32)> = Vec::new();
    for source in sources {
        for (form, weight) in source.base.rarity(question) {
            // A word is as rare as in the base where it is most at home.
            match rarity.iter_mut().find(|(other, _)| *other == form) {
                Some((_, known)) => *known = known.min(weight),
                None => rarity.push((form, weight)),
            }
        }
    }
    let total: f64 = rarity.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let share = |passage: &Passage<'_>| {
        let text = passage.chunk.passage(&passage.document.title);
        let words: BTreeSet<String> = WordCounts::of(&text).0.into_iter().map(|(form, _)| form).collect();
        let held = rarity.iter().filter(|(form, _)| words.contains(form));
        held.map(|(_, weight)| f64::from(*weight)).sum::<f64>() / total.max(1e-9)
    };
    let best = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    Signs {
        words: best(&mut passages.iter().map(share)),
        cosine: best(&mut passages.iter().filter_map(|passage| passage.cosine).map(f64::from)),
    }
}

/// 0 to 1 from the signs.
pub fn evidence(signs: Signs) -> f64 {
    signs.words.clamp(0.0, 1.0)
}
