//! BM25 over the words of [`crate::words`], with the formula and the defaults of Lucene 8 and later.
//!
//! score = Σ idf · tf / (tf + k1 · (1 − b + b · length / average)), idf = ln(1 + (N − n + 0.5) / (n + 0.5))
//! (Robertson and Zaragoza 2009; Lucene's `BM25Similarity`), with exact lengths instead of Lucene's one-byte ones.

use std::collections::BTreeMap;

use crate::top_k::top_k;
use crate::words::{is_function_word, words};

const K1: f32 = 0.9;
const B: f32 = 0.4;

/// An inverted index; the id of a text is its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bm25Index {
    /// Word → (id, how often), ids rising.
    postings: BTreeMap<String, Vec<(u32, u32)>>,
    lengths: Vec<u32>,
}

impl Bm25Index {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Adds a text under the next id.
    pub fn push(&mut self, text: &str) {
        let id = self.lengths.len() as u32;
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut length = 0;
        for form in index_forms(text) {
            *counts.entry(form).or_default() += 1;
            length += 1;
        }
        self.lengths.push(length);
        for (form, count) in counts {
            self.postings.entry(form).or_default().push((id, count));
        }
    }

    /// The `k` best ids with a score above 0, the best first; equal scores by id.
    pub fn search(&self, query: &str, k: usize) -> Vec<(u32, f32)> {
        let mut scores = vec![0f32; self.len()];
        let total: u64 = self.lengths.iter().map(|&length| u64::from(length)).sum();
        let average = total as f32 / self.len().max(1) as f32;
        let mut asked: BTreeMap<String, u32> = BTreeMap::new();
        for form in index_forms(query) {
            *asked.entry(form).or_default() += 1;
        }
        for (form, times) in asked {
            let Some(postings) = self.postings.get(&form) else {
                continue;
            };
            let weight = self.idf(postings.len()) * times as f32;
            for &(id, count) in postings {
                let length = self.lengths[id as usize] as f32 / average.max(1e-9);
                let tf = count as f32;
                scores[id as usize] += weight * tf / (tf + K1 * (1.0 - B + B * length));
            }
        }
        let found = scores.into_iter().enumerate().filter(|&(_, score)| score > 0.0);
        top_k(found.map(|(id, score)| (id as u32, score)), k)
    }

    fn idf(&self, num_texts: usize) -> f32 {
        let (all, with) = (self.len() as f32, num_texts as f32);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }
}

/// Function words of both languages are left out: they are in nearly every text.
fn index_forms(text: &str) -> impl Iterator<Item = String> {
    let forms = words(text).into_iter().map(|word| word.form);
    forms.filter(|form| !is_function_word(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(texts: &[&str]) -> Bm25Index {
        let mut index = Bm25Index::new();
        for text in texts {
            index.push(text);
        }
        index
    }

    fn ids(index: &Bm25Index, query: &str) -> Vec<u32> {
        index.search(query, 10).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn the_formula_gives_the_score_worked_out_by_hand() {
        let index = index(&["pump pump valve", "valve", "motor"]);
        // N = 3, n = 1, length 3, average 5/3, tf 2.
        let idf = (1.0f32 + (3.0 - 1.0 + 0.5) / (1.0 + 0.5)).ln();
        let expected = idf * 2.0 / (2.0 + K1 * (1.0 - B + B * 3.0 / (5.0 / 3.0)));
        let found = index.search("Pumps", 5);
        assert_eq!(found.len(), 1);
        assert!((found[0].1 - expected).abs() < 1e-6, "{} is not {expected}", found[0].1);
    }

    #[test]
    fn chinese_words_are_found_inside_longer_ones_and_beside_english() {
        let index = index(&[
            "本产品的保修期为三十七个月，自购买之日起计算。",
            "电机停机后约二十五分钟内仍然很热。",
            "在Linux系统上安装驱动程序后重启电脑。",
            "The warranty of the Kestrel ends after 37 months.",
        ]);
        assert_eq!(ids(&index, "保修多久？")[0], 0);
        assert_eq!(ids(&index, "电机多热")[0], 1);
        assert_eq!(ids(&index, "linux 驱动")[0], 2);
        assert_eq!(ids(&index, "how many months of warranties"), [3]);
        assert_eq!(ids(&index, "完全无关 nothing"), [0u32; 0]);
        assert_eq!(ids(&index, ""), [0u32; 0]);
    }

    #[test]
    fn equal_scores_come_in_the_order_of_ids() {
        assert_eq!(ids(&index(&["same words", "same words", "other"]), "words"), [0, 1]);
    }
}
