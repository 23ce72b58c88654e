//! Gopher's rules against repetition (Rae et al., 2021, table A1): lines, paragraphs and n-grams that come again.
//!
//! Chinese is counted in characters, so its n-grams are [`CHARACTER_STRETCH`] times as long. No rule looks at longer
//! n-grams where shorter ones already show that nothing can be found: what repeats in ten units repeats in five.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::Profile;
use crate::units::{self, Unit, mix};

/// Characters for a word in an n-gram.
const CHARACTER_STRETCH: usize = 2;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repetition {
    pub enabled: bool,
    pub dup_line_frac: f64,
    pub dup_para_frac: f64,
    pub dup_line_char_frac: f64,
    pub dup_para_char_frac: f64,
    /// Length of the n-gram, and the share of the text its commonest one may make up.
    pub top_n_grams: Vec<(usize, f64)>,
    /// Length of the n-gram, and the share of the text that may stand in n-grams seen before.
    pub dup_n_grams: Vec<(usize, f64)>,
}

impl Default for Repetition {
    fn default() -> Self {
        Self {
            enabled: true,
            dup_line_frac: 0.3,
            dup_para_frac: 0.3,
            dup_line_char_frac: 0.2,
            dup_para_char_frac: 0.2,
            top_n_grams: vec![(2, 0.2), (3, 0.18), (4, 0.16)],
            dup_n_grams: vec![(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)],
        }
    }
}

/// A set of hashes whose memory is used again for the next text.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    slots: Vec<u64>,
    counts: Vec<u32>,
    mask: usize,
}

impl Seen {
    /// Empties the set, with room for `len` hashes.
    fn clear(&mut self, len: usize) {
        let capacity = (len * 2).next_power_of_two().max(16);
        if self.slots.len() < capacity {
            self.slots.resize(capacity, 0);
            self.counts.resize(capacity, 0);
        }
        self.slots[..capacity].fill(0);
        self.mask = capacity - 1;
    }

    /// The slot of a hash, and whether it was there.
    #[inline]
    fn slot(&mut self, hash: u64) -> (usize, bool) {
        let hash = hash | 1;
        let mut at = (hash >> 20) as usize & self.mask;
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = hash;
                    return (at, false);
                }
                found if found == hash => return (at, true),
                _ => at = (at + 1) & self.mask,
            }
        }
    }

    #[inline]
    fn insert(&mut self, hash: u64) -> bool {
        !self.slot(hash).1
    }

    /// Counts a hash; gives how often it came so far.
    #[inline]
    fn count(&mut self, hash: u64) -> u32 {
        let (at, known) = self.slot(hash);
        self.counts[at] = if known { self.counts[at] + 1 } else { 1 };
        self.counts[at]
    }
}

/// How much of a list stands in it twice: elements, and bytes.
pub(super) struct Duplicates {
    pub(super) all: usize,
    pub(super) elements: usize,
    pub(super) bytes: usize,
}

pub(super) fn duplicates<'a>(parts: impl Iterator<Item = &'a str> + Clone, seen: &mut Seen) -> Duplicates {
    seen.clear(parts.clone().count());
    let mut found = Duplicates { all: 0, elements: 0, bytes: 0 };
    for part in parts {
        found.all += 1;
        if !seen.insert(XxHash3_64::oneshot(part.as_bytes())) {
            found.elements += 1;
            found.bytes += part.len();
        }
    }
    found
}

impl Repetition {
    pub(super) fn judge(&self, profile: &Profile<'_>, seen: &mut Seen) -> Option<String> {
        if !self.enabled {
            return None;
        }
        let text = profile.text;
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        let paragraphs = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
        let found = duplicates(paragraphs, seen);
        if share(found.elements, found.all) > self.dup_para_frac {
            return Some("dup_para_frac".into());
        }
        if share(found.bytes, text.len()) > self.dup_para_char_frac {
            return Some("dup_para_char_frac".into());
        }
        let lines = text.split('\n').filter(|line| !line.is_empty());
        let found = duplicates(lines, seen);
        if share(found.elements, found.all) > self.dup_line_frac {
            return Some("dup_line_frac".into());
        }
        if share(found.bytes, text.len()) > self.dup_line_char_frac {
            return Some("dup_line_char_frac".into());
        }
        let stretch = if profile.unspaced { CHARACTER_STRETCH } else { 1 };
        self.top(profile.units, text.len(), stretch, seen).or_else(|| self.again(profile, stretch, seen))
    }

    /// Does one n-gram make up too much of the text?
    fn top(&self, units: &[Unit], num_bytes: usize, stretch: usize, seen: &mut Seen) -> Option<String> {
        let mut longest = None;
        // How often the commonest of the shorter n-grams came: a longer one can't come more often.
        let mut bound = units.len() as f64;
        for &(n, max_share) in &self.top_n_grams {
            let length = n * stretch;
            if units.len() < length {
                break;
            }
            let longest =
                *longest.get_or_insert_with(|| units.iter().map(Unit::num_bytes).max().unwrap_or(0) + 1);
            if bound * (longest * length) as f64 <= max_share * num_bytes as f64 {
                continue;
            }
            let (count, bytes) = commonest(units, length, seen);
            bound = f64::from(count);
            if bound * bytes as f64 / num_bytes as f64 > max_share {
                return Some(format!("top_{n}_gram"));
            }
        }
        None
    }

    /// Does too much of the text stand in n-grams that came before?
    fn again(&self, profile: &Profile<'_>, stretch: usize, seen: &mut Seen) -> Option<String> {
        let units = profile.units;
        let shortest = self.dup_n_grams.iter().map(|row| row.0).min()? * stretch;
        let smallest = self.dup_n_grams.iter().map(|row| row.1).fold(f64::INFINITY, f64::min);
        // A unit in any repeated n-gram stands in a repeated one of the shortest length, too.
        let covered = covered_bytes(units, shortest, seen);
        if covered as f64 <= smallest * profile.text.len() as f64 {
            return None;
        }
        for &(n, max_share) in &self.dup_n_grams {
            let repeated = repeated_bytes(units, n * stretch, seen);
            if repeated as f64 / profile.text.len() as f64 > max_share {
                return Some(format!("duplicated_{n}_n_grams"));
            }
        }
        None
    }
}

/// The hash of the n-gram that ends before `end`.
#[inline]
fn gram(units: &[Unit]) -> u64 {
    units::finish(units.iter().fold(0, |hash, unit| mix(hash, unit.hash)))
}

fn gram_bytes(units: &[Unit]) -> usize {
    units.iter().map(Unit::num_bytes).sum::<usize>()
}

/// The commonest n-gram's count and length with the spaces between its words; the first of several.
fn commonest(units: &[Unit], length: usize, seen: &mut Seen) -> (u32, usize) {
    seen.clear(units.len());
    let mut best = (0, 0);
    for (at, window) in units.windows(length).enumerate() {
        let count = seen.count(gram(window));
        if count > best.0 {
            best = (count, at);
        }
    }
    let window = &units[best.1..best.1 + length];
    let is_words = window.iter().all(|unit| unit.kind != units::UnitKind::Character);
    (best.0, gram_bytes(window) + if is_words { length - 1 } else { 0 })
}

/// Bytes of units in an n-gram that came before.
fn covered_bytes(units: &[Unit], length: usize, seen: &mut Seen) -> usize {
    seen.clear(units.len());
    let (mut bytes, mut covered_to) = (0, 0);
    for (at, window) in units.windows(length).enumerate() {
        if !seen.insert(gram(window)) {
            bytes += gram_bytes(&units[at.max(covered_to)..at + length]);
            covered_to = at + length;
        }
    }
    bytes
}

/// datatrove's count: a repeated n-gram is stepped over as a whole.
fn repeated_bytes(units: &[Unit], length: usize, seen: &mut Seen) -> usize {
    seen.clear(units.len());
    let (mut bytes, mut at) = (0, 0);
    while at + length <= units.len() {
        let window = &units[at..at + length];
        if seen.insert(gram(window)) {
            at += 1;
        } else {
            bytes += gram_bytes(window);
            at += length;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Option<String> {
        let mut found = Vec::new();
        units::split(text, &mut found);
        Repetition::default().judge(&Profile::new(text, &found, "en"), &mut Seen::default())
    }

    fn numbered(words: std::ops::Range<usize>) -> String {
        words.map(|word| ["word", &word.to_string(), " "].concat()).collect()
    }

    #[test]
    fn what_comes_again_is_named() {
        let plain = numbered(0..300);
        assert_eq!(judge(&plain), None);
        assert_eq!(judge(&"same line\nother line\n".repeat(30)).as_deref(), Some("dup_line_frac"));
        assert_eq!(judge(&"one\ntwo\n\n".repeat(30)).as_deref(), Some("dup_para_frac"));
        assert_eq!(judge(&format!("{plain}{}", "buy now ".repeat(200))).as_deref(), Some("top_2_gram"));
        let again = format!("{plain}{}", numbered(0..200));
        assert_eq!(judge(&again).as_deref(), Some("duplicated_5_n_grams"));
        let chinese: String = (0..400u32).filter_map(|at| char::from_u32(0x4e00 + at * 7)).collect();
        assert_eq!(judge(&chinese), None);
        assert_eq!(judge(&chinese.repeat(2)).as_deref(), Some("duplicated_5_n_grams"));
    }

    #[test]
    fn nothing_is_repeated_beyond_what_the_shortest_n_grams_cover() {
        let mut seen = Seen::default();
        for period in 3..40 {
            let text: String =
                (0..400).map(|at| ["w", &((at * at / 7) % period).to_string(), " "].concat()).collect();
            let mut found = Vec::new();
            units::split(&text, &mut found);
            let covered = covered_bytes(&found, 5, &mut seen);
            for n in 5..=10 {
                assert!(repeated_bytes(&found, n, &mut seen) <= covered, "{n} {period}");
            }
        }
    }
}
