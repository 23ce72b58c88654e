//! The smallest values of many hash functions over a set: what near-duplicates are found by (Broder, 1997).
//!
//! In: 32-bit hashes of the set's elements, and a factor and an offset for each function. Out: the minimum of
//! `factor · value + offset` (mod 2³²) of each function. Whole numbers, so every instruction set gives the same.

use crate::dispatch::multiversion;

/// Functions taken together: their minima stay in registers while all values go by.
const LANES: usize = 64;

multiversion! {
    /// `mins[f] = min(mins[f], min over v of factors[f]·values[v] + offsets[f])`.
    ///
    /// # Shapes
    /// factors, offsets and mins `[F]`, values `[V]`.
    pub fn minima(factors: &[u32], offsets: &[u32], values: &[u32], mins: &mut [u32]) {
        assert_eq!(factors.len(), mins.len(), "a factor for each function");
        assert_eq!(offsets.len(), mins.len(), "an offset for each function");
        let (factor_blocks, factor_rest) = factors.as_chunks::<LANES>();
        let (offset_blocks, offset_rest) = offsets.as_chunks::<LANES>();
        let (min_blocks, min_rest) = mins.as_chunks_mut::<LANES>();
        for ((factors, offsets), mins) in factor_blocks.iter().zip(offset_blocks).zip(min_blocks) {
            let mut lowest = *mins;
            for &value in values {
                for lane in 0..LANES {
                    let hash = factors[lane].wrapping_mul(value).wrapping_add(offsets[lane]);
                    lowest[lane] = lowest[lane].min(hash);
                }
            }
            *mins = lowest;
        }
        for ((factor, offset), min) in factor_rest.iter().zip(offset_rest).zip(min_rest) {
            for &value in values {
                *min = (*min).min(factor.wrapping_mul(value).wrapping_add(*offset));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minima_are_those_of_one_function_after_the_other() {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *state ^ (*state >> 15)
        };
        let mut state = 7;
        for (num_functions, num_values) in [(0, 3), (1, 0), (5, 9), (64, 1), (150, 33)] {
            let mut draw = |count: usize| (0..count).map(|_| next(&mut state)).collect::<Vec<u32>>();
            let (factors, offsets, values) = (draw(num_functions), draw(num_functions), draw(num_values));
            let mut mins = vec![u32::MAX; num_functions];
            minima(&factors, &offsets, &values, &mut mins);
            let expected = factors.iter().zip(&offsets).map(|(factor, offset)| {
                let hashes = values.iter().map(|value| factor.wrapping_mul(*value).wrapping_add(*offset));
                hashes.min().unwrap_or(u32::MAX)
            });
            assert_eq!(mins, expected.collect::<Vec<_>>());
        }
    }
}
