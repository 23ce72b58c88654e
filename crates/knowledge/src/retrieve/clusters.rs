//! Reranking by the candidates themselves: passages that answer one question lie near each other, those that were found
//! by accident lie alone (van Rijsbergen's cluster hypothesis; scores smoothed over neighbours as by Diaz 2005).
//!
//! Each of the best gets, beside its own score, the mean of the others' scores, weighted by how near they are. No model
//! reads anything, so this takes a millisecond.

use super::{Key, Source, behind, text};
use crate::bm25::WordCounts;
use crate::chunk::ChunkId;

/// How many of the best look at each other.
const LOOKED_AT: usize = 50;

/// Nearness to this power: only near neighbours count.
const POWER: i32 = 2;

/// The neighbours' share of a score beside its own.
const NEIGHBOURS: f64 = 0.5;

pub(super) fn rerank(sources: &[Source<'_>], ranking: Vec<(Key, f64)>) -> Vec<(Key, f64)> {
    let (best, rest) = ranking.split_at(ranking.len().min(LOOKED_AT));
    if best.len() < 3 {
        return ranking;
    }
    let nearness = nearness(sources, best);
    let own = spread(best.iter().map(|&(_, score)| score).collect());
    let smooth = (0..best.len()).map(|row| {
        let weights = (0..best.len()).filter(|&other| other != row).map(|other| {
            let weight = nearness[row * best.len() + other].max(0.0).powi(POWER);
            (weight, own[other])
        });
        let (sum, total) =
            weights.fold((0.0, 0.0), |(sum, total), (weight, score)| (sum + weight * score, total + weight));
        sum / f64::max(total, 1e-12)
    });
    let smooth = spread(smooth.collect());
    // Where the first stands out, the question has one answer, and its neighbours say nothing.
    let share = NEIGHBOURS * (1.0 - (own[0] - own[1]).clamp(0.0, 1.0));
    let scores = own.iter().zip(&smooth).map(|(own, smooth)| own + share * smooth);
    let mut order: Vec<(Key, f64)> = best.iter().map(|&(key, _)| key).zip(scores).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.extend(behind(rest));
    order
}

/// Brought to 0 to 1.
fn spread(mut values: Vec<f64>) -> Vec<f64> {
    let (low, high) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)));
    let width = f64::max(high - low, 1e-12);
    for value in &mut values {
        *value = (*value - low) / width;
    }
    values
}

/// `[N, N]`: the cosine of two candidates by meaning and by their words, each above what candidates usually have.
fn nearness(sources: &[Source<'_>], best: &[(Key, f64)]) -> Vec<f64> {
    let count = best.len();
    let words = by_words(sources, best);
    let vectors: Vec<Option<Vec<f32>>> =
        best.iter().map(|&((source, id), _)| sources[source].base.vector(ChunkId(id))).collect();
    let one_embedder = best
        .iter()
        .all(|&((source, _), _)| sources[source].base.embedder() == sources[best[0].0.0].base.embedder());
    let vectors: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
    let Some(vectors) = vectors.filter(|_| one_embedder) else { return words };
    let mut meaning = vec![0.0; count * count];
    for row in 0..count {
        for other in 0..row {
            let cosine: f32 = vectors[row].iter().zip(&vectors[other]).map(|(a, b)| a * b).sum();
            meaning[row * count + other] = f64::from(cosine);
            meaning[other * count + row] = f64::from(cosine);
        }
    }
    above_usual(&mut meaning, count);
    meaning.iter().zip(&words).map(|(meaning, words)| f64::midpoint(*meaning, *words)).collect()
}

/// Embedders differ in what cosine unrelated texts have: the mean becomes 0, 1 stays.
fn above_usual(cosines: &mut [f64], count: usize) {
    let pairs = (count * (count - 1)) as f64;
    let mean = cosines.iter().sum::<f64>() / pairs;
    for cosine in cosines {
        *cosine = ((*cosine - mean) / f64::max(1.0 - mean, 1e-6)).max(0.0);
    }
}

/// Cosines of word counts, weighted by how rare a word is among the candidates.
fn by_words(sources: &[Source<'_>], best: &[(Key, f64)]) -> Vec<f64> {
    let counts: Vec<WordCounts> = best.iter().map(|&(key, _)| WordCounts::of(&text(sources, key))).collect();
    let mut with: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for (form, _) in counts.iter().flat_map(|counts| &counts.0) {
        *with.entry(form).or_default() += 1.0;
    }
    let count = best.len();
    let weighted: Vec<Vec<(&str, f64)>> = counts
        .iter()
        .map(|counts| {
            let weight = |(form, times): &(String, u32)| {
                let rarity = (1.0 + count as f64 / with[form.as_str()]).ln();
                (1.0 + f64::from(*times).ln()) * rarity
            };
            let weights: Vec<f64> = counts.0.iter().map(weight).collect();
            let length = weights.iter().map(|weight| weight * weight).sum::<f64>().sqrt().max(1e-12);
            counts.0.iter().zip(weights).map(|((form, _), weight)| (form.as_str(), weight / length)).collect()
        })
        .collect();
    let mut cosines = vec![0.0; count * count];
    for row in 0..count {
        for other in 0..row {
            let cosine = product(&weighted[row], &weighted[other]);
            cosines[row * count + other] = cosine;
            cosines[other * count + row] = cosine;
        }
    }
    above_usual(&mut cosines, count);
    cosines
}

/// Of two lists in alphabetical order.
fn product(a: &[(&str, f64)], b: &[(&str, f64)]) -> f64 {
    let (mut at_a, mut at_b, mut sum) = (0, 0, 0.0);
    while let (Some(one), Some(two)) = (a.get(at_a), b.get(at_b)) {
        match one.0.cmp(two.0) {
            std::cmp::Ordering::Less => at_a += 1,
            std::cmp::Ordering::Greater => at_b += 1,
            std::cmp::Ordering::Equal => {
                sum += one.1 * two.1;
                at_a += 1;
                at_b += 1;
            }
        }
    }
    sum
}
