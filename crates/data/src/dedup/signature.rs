//! A row's hashes: of the whole text, and of each band of its `MinHash`.
//!
//! A text is the set of its shingles of `ngram` units (words; characters in Chinese), marks and case left out. Each of
//! `bands · rows` hash functions keeps its minimum over the set; two sets of Jaccard similarity J agree in a function with
//! probability J, so in at least one band with 1 − (1 − J^rows)^bands: 0.97 at J = 0.8 for the default of 20 bands of 8
//! rows. (datatrove's 14 bands of 8 rows reach 0.92.)

use hearth_kernels::minhash::minima;
use serde::{Deserialize, Serialize};
use twox_hash::{XxHash3_64, XxHash3_128};

use super::{Config, passages, write_numbers};
use crate::job::Job;
use crate::row::Row;
use crate::units::{self, Unit, UnitKind, mix};
use crate::{Error, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Near {
    pub enabled: bool,
    /// Units of a shingle.
    pub ngram: usize,
    pub bands: usize,
    /// Hash functions of a band.
    pub rows: usize,
    pub seed: u64,
}

impl Default for Near {
    fn default() -> Self {
        Self { enabled: true, ngram: 5, bands: 20, rows: 8, seed: 1 }
    }
}

/// More functions say nothing more, and cost memory.
const MAX_FUNCTIONS: usize = 4096;

impl Near {
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |field: &str, value: usize, expectation: &str| {
            Err(Error::Config {
                field: field.into(),
                value: value.to_string(),
                expectation: expectation.into(),
            })
        };
        match () {
            () if self.ngram == 0 => wrong("near.ngram", self.ngram, "at least 1"),
            () if self.bands == 0 => wrong("near.bands", self.bands, "at least 1"),
            () if self.rows == 0 => wrong("near.rows", self.rows, "at least 1"),
            () if self.bands * self.rows > MAX_FUNCTIONS => {
                wrong("near.bands", self.bands, &format!("bands · rows of at most {MAX_FUNCTIONS}"))
            }
            () => Ok(()),
        }
    }

    /// The probability that texts of this similarity are found.
    pub fn recall(&self, jaccard: f64) -> f64 {
        1.0 - (1.0 - jaccard.powi(self.rows as i32)).powi(self.bands as i32)
    }
}

/// Signs rows; holds the hashes of a shard.
#[derive(Debug)]
pub struct Signer<'a> {
    config: &'a Config,
    factors: Vec<u32>,
    offsets: Vec<u32>,
    units: Vec<Unit>,
    shingles: Vec<u32>,
    mins: Vec<u32>,
    /// Two numbers a row.
    exact: Vec<u64>,
    /// `bands` numbers a row.
    bands: Vec<u64>,
    passages: Vec<u64>,
    num_passages: Vec<u64>,
}

impl<'a> Signer<'a> {
    pub fn new(config: &'a Config) -> Self {
        let num_functions = config.near.bands * config.near.rows;
        let mut state = config.near.seed;
        let mut draw = || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            (units::finish(state) >> 32) as u32
        };
        // An odd factor makes the function a permutation of all 32-bit numbers.
        let factors = (0..num_functions).map(|_| draw() | 1).collect();
        let offsets = (0..num_functions).map(|_| draw()).collect();
        Self {
            config,
            factors,
            offsets,
            units: Vec::new(),
            shingles: Vec::new(),
            mins: vec![0; num_functions],
            exact: Vec::new(),
            bands: Vec::new(),
            passages: Vec::new(),
            num_passages: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, row: &Row) {
        let text = row.joined();
        let hash = XxHash3_128::oneshot(text.as_bytes());
        self.exact.extend([(hash >> 64) as u64, hash as u64]);
        if self.config.near.enabled {
            let bands = self.sign(&text);
            self.bands.extend(bands);
        }
        if self.config.passages.enabled {
            let before = self.passages.len();
            passages::hashes(row, &self.config.passages, &mut self.passages);
            self.num_passages.push((self.passages.len() - before) as u64);
        }
    }

    /// The hash of each band.
    pub fn sign(&mut self, text: &str) -> Vec<u64> {
        let near = &self.config.near;
        shingles(text, near.ngram, &mut self.units, &mut self.shingles);
        if self.shingles.is_empty() {
            // Nothing but marks: near to what is equal, and to nothing else.
            let hash = XxHash3_64::oneshot(text.as_bytes());
            return (0..near.bands as u64).map(|band| mix(hash, band)).collect();
        }
        self.mins.fill(u32::MAX);
        minima(&self.factors, &self.offsets, &self.shingles, &mut self.mins);
        let band = |mins: &[u32]| units::finish(mins.iter().fold(0, |hash, min| mix(hash, u64::from(*min))));
        self.mins.chunks(near.rows).map(band).collect()
    }

    /// Writes the hashes of a shard, band by band; gives the number of rows.
    pub(super) fn write(self, job: &Job<'_>, index: usize) -> Result<u64> {
        let num_rows = self.exact.len() as u64 / 2;
        let near = &self.config.near;
        write_numbers(job, "exact", index, self.exact.into_iter())?;
        if near.enabled {
            let bands = &self.bands;
            let by_band = (0..near.bands).flat_map(|band| bands.iter().skip(band).step_by(near.bands));
            write_numbers(job, "bands", index, by_band.copied())?;
        }
        if self.config.passages.enabled {
            write_numbers(job, "passages", index, self.passages.into_iter())?;
            write_numbers(job, "num_passages", index, self.num_passages.into_iter())?;
        }
        Ok(num_rows)
    }
}

/// The hashes of a text's shingles; one of all units where there are fewer than a shingle has.
pub(super) fn shingles(text: &str, ngram: usize, found: &mut Vec<Unit>, hashes: &mut Vec<u32>) {
    hashes.clear();
    units::split(text, found);
    found.retain(|unit| unit.kind != UnitKind::Mark);
    let hash = |units: &[Unit]| {
        (units::finish(units.iter().fold(0, |hash, unit| mix(hash, unit.hash))) >> 32) as u32
    };
    if found.len() < ngram && !found.is_empty() {
        hashes.push(hash(found));
        return;
    }
    hashes.extend(found.windows(ngram).map(hash));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn jaccard(one: &str, other: &str) -> f64 {
        let set = |text: &str| {
            let mut hashes = Vec::new();
            shingles(text, 5, &mut Vec::new(), &mut hashes);
            hashes.into_iter().collect::<HashSet<u32>>()
        };
        let (one, other) = (set(one), set(other));
        one.intersection(&other).count() as f64 / one.union(&other).count() as f64
    }

    /// Words, or Chinese characters, that depend on the seed; some of them changed.
    fn text(seed: u64, length: usize, changed: &HashSet<usize>, chinese: bool) -> String {
        let word = |at: usize| {
            let salt = if changed.contains(&at) { 77 } else { 0 };
            let number = units::finish(seed * 1_000_003 + at as u64 * 7919 + salt) % 3000;
            match chinese {
                true => char::from_u32(0x4e00 + number as u32).map(String::from).unwrap_or_default(),
                false => format!("w{number} "),
            }
        };
        (0..length).map(word).collect()
    }

    #[test]
    fn planted_near_duplicates_are_found_as_often_as_promised() {
        let config = Config::default();
        let mut signer = Signer::new(&config);
        for chinese in [false, true] {
            let (mut near, mut found, mut far, mut wrong) = (0, 0, 0, 0);
            for seed in 0..600u64 {
                let length = 150 + (seed as usize * 37) % 700;
                // Each change breaks five shingles: the share of changes that leaves a Jaccard of some 0.8.
                let num_changed = length / 45;
                let changed: HashSet<usize> = (0..num_changed)
                    .map(|at| (units::finish(seed + at as u64 * 31) as usize) % length)
                    .collect();
                let one = text(seed, length, &HashSet::new(), chinese);
                let other = text(seed, length, &changed, chinese);
                let similarity = jaccard(&one, &other);
                let (a, b) = (signer.sign(&one), signer.sign(&other));
                if (0.78..=0.82).contains(&similarity) {
                    near += 1;
                    found += usize::from(a.iter().zip(&b).any(|(a, b)| a == b));
                }
                let stranger = signer.sign(&text(seed + 10_000, length, &HashSet::new(), chinese));
                far += 1;
                wrong += usize::from(a.iter().zip(&stranger).any(|(a, b)| a == b));
            }
            assert!(near > 150, "{near} pairs near 0.8 are too few to tell");
            assert!(found * 100 >= near * 95, "{found} of {near} found (chinese: {chinese})");
            assert!(wrong * 200 < far, "{wrong} of {far} strangers were taken for near");
        }
        assert!(Near::default().recall(0.8) > 0.97);
    }
}
