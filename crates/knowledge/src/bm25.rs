//! BM25 over the words of [`crate::words`], with the formula and the defaults of Lucene 8 and later.
//!
//! score = Σ idf · tf / (tf + k1 · (1 − b + b · length / average)), idf = ln(1 + (N − n + 0.5) / (n + 0.5))
//! (Robertson and Zaragoza 2009; Lucene's `BM25Similarity`), with exact lengths instead of Lucene's one-byte ones.
//! Texts come and go one by one; after each step the scores are those of an index made anew.

use std::collections::{BTreeMap, HashMap};

use crate::top_k::{Keep, top_k};
use crate::words::{is_function_word, words};

const K1: f32 = 0.9;
const B: f32 = 0.4;

/// The words of one text that an index counts, with how often each occurs, in alphabetical order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordCounts(pub Vec<(String, u32)>);

impl WordCounts {
    pub fn of(text: &str) -> Self {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for form in index_forms(text) {
            *counts.entry(form).or_default() += 1;
        }
        Self(counts.into_iter().collect())
    }

    /// Words in the text, function words left out.
    pub fn length(&self) -> u32 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// The texts of one word: ids rising, and how often the word is in each.
#[derive(Debug, Clone, Default, PartialEq)]
struct Postings {
    ids: Vec<u32>,
    counts: Vec<u16>,
}

/// An inverted index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bm25Index {
    numbers: HashMap<String, u32>,
    postings: Vec<Postings>,
    /// By id; 0 where there is no text.
    lengths: Vec<u32>,
    num_texts: usize,
    total_length: u64,
}

impl Bm25Index {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many texts are indexed.
    pub fn len(&self) -> usize {
        self.num_texts
    }

    pub fn is_empty(&self) -> bool {
        self.num_texts == 0
    }

    /// Adds a text under an id that has none yet.
    pub fn push(&mut self, id: u32, words: &WordCounts) {
        for (form, count) in &words.0 {
            let number = self.number(form);
            self.insert(id, number, *count);
        }
        self.count_text(id, words.length());
    }

    /// The number of a word, for [`Bm25Index::insert`].
    pub(crate) fn number(&mut self, form: &str) -> u32 {
        if let Some(&number) = self.numbers.get(form) {
            return number;
        }
        let number = self.postings.len() as u32;
        self.postings.push(Postings::default());
        self.numbers.insert(form.to_owned(), number);
        number
    }

    /// One word of a text whose length [`Bm25Index::count_text`] tells.
    pub(crate) fn insert(&mut self, id: u32, number: u32, count: u32) {
        let postings = &mut self.postings[number as usize];
        let count = count.min(u32::from(u16::MAX)) as u16;
        match postings.ids.last() {
            Some(&last) if last >= id => {
                let at = postings.ids.partition_point(|&other| other < id);
                postings.ids.insert(at, id);
                postings.counts.insert(at, count);
            }
            _ => {
                postings.ids.push(id);
                postings.counts.push(count);
            }
        }
    }

    pub(crate) fn count_text(&mut self, id: u32, length: u32) {
        if self.lengths.len() <= id as usize {
            self.lengths.resize(id as usize + 1, 0);
        }
        self.lengths[id as usize] = length;
        self.num_texts += 1;
        self.total_length += u64::from(length);
    }

    /// Takes away the text that was added under `id` with these words.
    pub fn remove(&mut self, id: u32, words: &WordCounts) {
        for (form, _) in &words.0 {
            let Some(&number) = self.numbers.get(form) else { continue };
            let postings = &mut self.postings[number as usize];
            if let Ok(at) = postings.ids.binary_search(&id) {
                postings.ids.remove(at);
                postings.counts.remove(at);
            }
        }
        let length = std::mem::take(&mut self.lengths[id as usize]);
        self.num_texts -= 1;
        self.total_length -= u64::from(length);
    }

    /// The `k` best ids with a score above 0 among those that `keep` lets through, the best first; equal scores by id.
    pub fn search(&self, query: &str, k: usize, keep: Option<Keep<'_>>) -> Vec<(u32, f32)> {
        let mut scores = vec![0f32; self.lengths.len()];
        let average = self.total_length as f32 / self.num_texts.max(1) as f32;
        let by_length = K1 * B / average.max(1e-9);
        for (form, times) in WordCounts::of(query).0 {
            let Some(&number) = self.numbers.get(&form) else {
                continue;
            };
            let postings = &self.postings[number as usize];
            let weight = self.idf(postings.ids.len()) * times as f32;
            for (&id, &count) in postings.ids.iter().zip(&postings.counts) {
                let length = self.lengths[id as usize] as f32;
                let tf = f32::from(count);
                scores[id as usize] += weight * tf / (tf + K1 * (1.0 - B) + by_length * length);
            }
        }
        let found = scores.into_iter().enumerate().filter(|&(_, score)| score > 0.0);
        let found = found.map(|(id, score)| (id as u32, score));
        match keep {
            Some(keep) => top_k(found.filter(|&(id, _)| keep(id)), k),
            None => top_k(found, k),
        }
    }

    /// For each word of the query how rare it is, and in how many texts it occurs.
    pub fn rarity(&self, query: &str) -> Vec<(String, f32)> {
        let asked = WordCounts::of(query).0.into_iter();
        asked
            .map(|(form, _)| {
                let number = self.numbers.get(&form);
                let with = number.map_or(0, |&number| self.postings[number as usize].ids.len());
                let idf = self.idf(with);
                (form, idf)
            })
            .collect()
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
        for (id, text) in texts.iter().enumerate() {
            index.push(id as u32, &WordCounts::of(text));
        }
        index
    }

    fn ids(index: &Bm25Index, query: &str) -> Vec<u32> {
        index.search(query, 10, None).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn the_formula_gives_the_score_worked_out_by_hand() {
        let index = index(&["pump pump valve", "valve", "motor"]);
        // N = 3, n = 1, length 3, average 5/3, tf 2.
        let idf = (1.0f32 + (3.0 - 1.0 + 0.5) / (1.0 + 0.5)).ln();
        let expected = idf * 2.0 / (2.0 + K1 * (1.0 - B + B * 3.0 / (5.0 / 3.0)));
        let found = index.search("Pumps", 5, None);
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

    #[test]
    fn after_any_removals_the_scores_are_those_of_an_index_made_anew() {
        let texts = ["red pump", "pump pump motor", "", "blue motor of a pump", "红色 电机", "motor"];
        let mut index = index(&texts);
        for gone in [1u32, 4, 2] {
            index.remove(gone, &WordCounts::of(texts[gone as usize]));
        }
        let mut anew = Bm25Index::new();
        for kept in [5u32, 0, 3] {
            anew.push(kept, &WordCounts::of(texts[kept as usize]));
        }
        for query in ["pump", "motor", "blue red", "电机"] {
            assert_eq!(index.search(query, 9, None), anew.search(query, 9, None), "{query}");
        }
        assert_eq!(index.len(), 3);
        let all = index.search("pump", 9, None);
        let third: Vec<_> = all.into_iter().filter(|&(id, _)| id == 3).collect();
        assert_eq!(index.search("pump", 1, Some(&|id| id == 3)), third);
    }
}
