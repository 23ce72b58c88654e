//! How well found passages can answer a question, before any model reads them: 0 to 1.
//!
//! Two signs: the question's words, weighted by how rare they are, that one passage holds; and how far the best
//! passage's cosine lies above what two passages of the base have with each other. Words alone fail across languages,
//! meaning alone on names that no embedder has seen. The weights are those of a logistic regression on questions whose
//! answers were in the base and questions whose answers were not.

use std::collections::BTreeSet;

use crate::bm25::WordCounts;
use crate::retrieve::{Passage, Source};

/// Below this the documents hold no answer: so low that of questions with an answer hardly one is refused. What it
/// catches was measured in LOG.md ("not in the documents").
pub const THRESHOLD: f64 = 0.03;

/// Weights of words, meaning and neither.
const WORDS: f64 = 10.6;
const MEANING: f64 = 6.8;
const NEITHER: f64 = -6.0;

/// Of a base without vectors.
const USUAL_MEANING: f64 = 0.3;

/// Signs of one question.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signs {
    /// The best passage's share of the question's words by their weight.
    pub words: f64,
    /// The best cosine; none if nothing was searched by meaning.
    pub cosine: Option<f64>,
    /// 0 for a cosine as any two passages of the base have, 1 for equal texts.
    pub meaning: Option<f64>,
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
    let best = passages.iter().filter(|passage| passage.cosine.is_some()).max_by(|a, b| {
        let cosine = |passage: &Passage<'_>| passage.cosine.unwrap_or_default();
        cosine(a).total_cmp(&cosine(b))
    });
    let cosine = best.and_then(|passage| passage.cosine).map(f64::from);
    let base = best.and_then(|passage| sources.iter().find(|source| source.name == passage.base));
    let usual = base.and_then(|source| source.base.usual_cosine());
    Signs {
        words: passages.iter().map(share).fold(0.0, f64::max),
        cosine,
        meaning: cosine.zip(usual).map(|(cosine, usual)| ((cosine - usual) / (1.0 - usual)).clamp(0.0, 1.0)),
    }
}

/// 0 to 1 from the signs; 0 where nothing was found.
pub fn evidence(signs: Signs) -> f64 {
    if signs.words == 0.0 && signs.cosine.is_none() {
        return 0.0;
    }
    let meaning = signs.meaning.unwrap_or(USUAL_MEANING);
    1.0 / (1.0 + (-(WORDS * signs.words + MEANING * meaning + NEITHER)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_either_sign_is_more_evidence() {
        let evidence =
            |words, meaning: f64| evidence(Signs { words, cosine: Some(0.9), meaning: Some(meaning) });
        assert!(evidence(0.0, 0.0) < THRESHOLD && evidence(1.0, 1.0) > 0.99);
        for step in 0..10 {
            let (low, high) = (f64::from(step) / 10.0, f64::from(step + 1) / 10.0);
            assert!(evidence(low, 0.5) < evidence(high, 0.5) && evidence(0.5, low) < evidence(0.5, high));
        }
        assert!(super::evidence(Signs::default()) < THRESHOLD);
    }
}
