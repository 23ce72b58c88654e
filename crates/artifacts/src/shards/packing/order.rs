//! An order of rows for each epoch, computed place by place: nothing is stored, so nothing must be restored.
//!
//! A Feistel network over the smallest square of a power of two that holds all rows is a permutation of it whatever
//! the round function does; places beyond the last row are walked through until one is a row (Black and Rogaway 2002).

/// Rounds from which a Feistel network is a pseudo-random permutation (Luby and Rackoff 1988: 4 against chosen places).
const ROUNDS: u64 = 6;

/// The row at place `index` in the order of `epoch`.
pub(super) fn permute(index: u64, num_rows: u64, seed: u64, epoch: u64) -> u64 {
    // Half of the bits of a place, at least one.
    let half = (64 - (num_rows - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let key = mix(seed ^ mix(epoch.wrapping_add(GOLDEN)));
    let mut at = index;
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 0..ROUNDS {
            let noise = mix(key.wrapping_add(round.wrapping_mul(GOLDEN)) ^ mix(right));
            (left, right) = (right, left ^ (noise & mask));
        }
        at = left << half | right;
        if at < num_rows {
            return at;
        }
    }
}

/// 2^64 over the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `SplitMix64`.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A number below `limit`, as even as 64 bits allow.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        ((u128::from(mix(self.0)) * u128::from(limit)) >> 64) as u64
    }
}
