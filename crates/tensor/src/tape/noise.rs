//! Noise on embeddings while training (`NEFTune`, Jain et al. 2023): a model that never sees quite the same input
//! learns less by heart.

use crate::tensor::Tensor;

/// Uniform noise of `±alpha / √(tokens·channels)` on each sequence's embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    pub alpha: f32,
    /// The same seed gives the same noise.
    pub seed: u64,
}

impl Noise {
    /// Adds the noise to sequences laid one after the other.
    ///
    /// # Shapes
    /// x `[T, C]`
    pub(super) fn add(self, x: &mut Tensor, sequence_lens: &[usize]) {
        let (cols, mut state) = (x.cols(), self.seed);
        let mut rest = x.data_mut();
        for len in sequence_lens {
            let (sequence, behind) = rest.split_at_mut(len * cols);
            let bound = self.alpha / (sequence.len() as f32).sqrt();
            for value in sequence {
                *value += signed(&mut state) * bound;
            }
            rest = behind;
        }
    }
}

/// Uniform in -1..1 (`SplitMix64`, Steele et al. 2014).
fn signed(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_papers_size_and_is_the_seeds() {
        let lens = [64, 16];
        let noised = |seed: u64| {
            let mut x = Tensor::from_vec(vec![0.0; 80 * 9], 80, 9);
            Noise { alpha: 5.0, seed }.add(&mut x, &lens);
            x.data().to_vec()
        };
        let values = noised(7);
        assert_eq!(values, noised(7));
        assert_ne!(values, noised(8));
        for (part, len) in [(&values[..64 * 9], 64.0f32), (&values[64 * 9..], 16.0)] {
            let bound = 5.0 / (len * 9.0).sqrt();
            let largest = part.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            assert!(largest <= bound && largest > bound * 0.9, "{largest} for {bound}");
            // The variance of a uniform distribution on ±bound is bound²/3.
            let variance = part.iter().map(|value| value * value).sum::<f32>() / part.len() as f32;
            assert!((variance * 3.0 / (bound * bound) - 1.0).abs() < 0.2, "{variance}");
        }
    }
}
