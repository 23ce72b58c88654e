//! Percentile bootstrap: how far a mean over these questions may be from the mean over all such questions.
//!
//! Questions are drawn with replacement `RESAMPLES` times; the interval is the 2.5 % and the 97.5 %
//! quantile of the means (Efron 1979). The same seed draws the same questions for every way and
//! metric, so intervals of two ways differ by their answers alone. Data with one value only gives
//! a width of zero: resampling cannot show what was never seen, and the report warns where it matters.

use serde::{Deserialize, Serialize};

/// Draws an interval is made of; ten thousand keep its ends stable to about half a per cent.
pub const RESAMPLES: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub fn ends(self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// Whether zero lies inside: a difference that may be chance.
    pub fn holds_zero(self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// The mean of `values` with its 95 % interval; `None` without values.
pub fn mean_interval(values: &[f64], seed: u64) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    let mut random = SplitMix64::new(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = values.iter().map(|_| values[random.below(values.len())]).sum();
            sum / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval {
        mean: values.iter().sum::<f64>() / values.len() as f64,
        low: quantile(&means, 0.025),
        high: quantile(&means, 0.975),
    })
}

/// The mean of `left - right`, question by question, with its 95 % interval.
///
/// Both slices hold one score a question in the same order.
pub fn paired_difference(left: &[f64], right: &[f64], seed: u64) -> Option<Interval> {
    assert_eq!(left.len(), right.len(), "paired scores differ in length");
    let differences: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
    mean_interval(&differences, seed)
}

/// The quantile of sorted values, linear between neighbours (definition 7 of Hyndman and Fan 1996).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let weight = position - below as f64;
    // This form gives equal neighbours back exactly.
    sorted[below] + weight * (sorted[above] - sorted[below])
}

/// `SplitMix64` (Steele, Lea and Flood 2014): small, seeded, equal on every machine.
#[derive(Debug, Clone)]
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..limit`; the high half of the product keeps the bias under `limit` / 2⁶⁴.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_sequence() {
        // First outputs for seed 1234567 in the reference implementation (Vigna, splitmix64.c).
        let mut random = SplitMix64::new(1_234_567);
        let found = [random.next(), random.next(), random.next()];
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn no_values_give_no_interval() {
        assert_eq!(mean_interval(&[], 7), None);
        assert_eq!(paired_difference(&[], &[], 7), None);
    }

    #[test]
    fn the_interval_holds_the_mean() {
        for seed in 0..5 {
            for values in [vec![0.25], vec![0.0, 1.0], vec![0.0, 0.0, 1.0, 0.5, 0.9]] {
                let interval = mean_interval(&values, seed).unwrap();
                assert!(interval.low <= interval.mean, "{interval:?}");
                assert!(interval.mean <= interval.high, "{interval:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_gives_others() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        assert_eq!(mean_interval(&values, 3), mean_interval(&values, 3));
        assert_ne!(mean_interval(&values, 3), mean_interval(&values, 4));
    }

    #[test]
    fn constant_data_has_no_width() {
        // 0.1 has no exact binary form: a mean that rounds must still be the same in each resample.
        for value in [0.0, 1.0, 0.1] {
            let interval = mean_interval(&[value; 30], 1).unwrap();
            assert_eq!(interval.low.to_bits(), interval.high.to_bits());
        }
        let difference = paired_difference(&[1.0, 0.0, 1.0], &[1.0, 0.0, 1.0], 1).unwrap();
        assert_eq!(difference.ends().map(f64::to_bits), [0.0_f64.to_bits(); 2]);
        assert!(difference.holds_zero());
    }

    #[test]
    fn more_questions_narrow_the_interval() {
        let width = |count: usize| {
            let values: Vec<f64> = (0..count).map(|i| (i % 2) as f64).collect();
            let interval = mean_interval(&values, 5).unwrap();
            interval.high - interval.low
        };
        assert!(width(400) < width(100) && width(100) < width(20));
        // A fair coin over 100 questions: ±1.96 standard errors of 0.05.
        assert!((width(100) - 0.196).abs() < 0.015, "{}", width(100));
    }

    #[test]
    fn pairing_sees_a_small_steady_difference() {
        let right: Vec<f64> = (0..60).map(|i| f64::from(i % 7) / 10.0).collect();
        let left: Vec<f64> = right.iter().map(|score| score + 0.05).collect();
        let paired = paired_difference(&left, &right, 9).unwrap();
        assert!(!paired.holds_zero());
        let (l, r) = (mean_interval(&left, 9).unwrap(), mean_interval(&right, 9).unwrap());
        assert!(l.low < r.high, "the separate intervals overlap");
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut random = SplitMix64::new(99);
        let truth = 0.7;
        let (trials, questions) = (100, 60);
        let covered = (0..trials)
            .filter(|trial| {
                let values: Vec<f64> =
                    (0..questions).map(|_| f64::from(u8::from(random.below(1000) < 700))).collect();
                let interval = mean_interval(&values, *trial).unwrap();
                interval.low <= truth && truth <= interval.high
            })
            .count();
        // The percentile interval runs a little short of 95; three standard errors of 2.2 either way.
        assert!((88..=100).contains(&covered), "{covered} of {trials}");
    }
}
