//! A plain scan in f32 over a sorted map stands beside the index.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The slow clear version: all vectors, scored and sorted.
#[derive(Debug, Default)]
struct Plain(BTreeMap<u32, Vec<f32>>);

impl Plain {
    fn push(&mut self, id: u32, vector: &[f32]) {
        let mut vector = vector.to_vec();
        normalize(&mut vector);
        assert!(self.0.insert(id, vector).is_none());
    }

    fn search(&self, query: &[f32], k: usize, keep: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
        let mut query = query.to_vec();
        normalize(&mut query);
        let kept = self.0.iter().filter(|(id, _)| keep(**id));
        let mut scored: Vec<(u32, f32)> = kept.map(|(&id, vector)| (id, scan::dot(vector, &query))).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scored.truncate(k);
        scored
    }
}

/// Values around a common centre, as sentence embedders give them, or around none.
fn clustered(count: usize, dim: usize, spread: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let centre: Vec<f32> = (0..dim).map(|_| uniform()).collect();
    (0..count).map(|_| centre.iter().map(|value| value + spread * uniform()).collect()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32, usize),
    Remove(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (any::<u8>(), 0..60usize).prop_map(|(id, vector)| Step::Push(u32::from(id) << 20, vector));
    let remove = any::<u8>().prop_map(|id| Step::Remove(u32::from(id) << 20));
    prop::collection::vec(prop_oneof![4 => push, 1 => remove], 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exact_search_is_the_plain_scan_to_the_bit(
        dim in prop::sample::select(vec![1usize, 3, 32, 37, 64, 100]),
        spread in prop::sample::select(vec![0.0f32, 1e-4, 0.05, 0.5, 100.0]),
        seed in any::<u64>(),
        steps in steps(),
        k in 0..20usize,
        modulus in 1..4u32,
    ) {
        // Few different vectors under many ids: ties are the rule. One of them is zero.
        let mut vectors = clustered(60, dim, spread, seed);
        vectors[0].fill(0.0);
        let mut plain = Plain::default();
        let mut index = VectorIndex::new(dim);
        for step in steps {
            match step {
                Step::Push(id, vector) if !plain.0.contains_key(&id) => {
                    plain.push(id, &vectors[vector]);
                    index.push(id, &vectors[vector]);
                }
                Step::Push(id, _) | Step::Remove(id) => {
                    prop_assert_eq!(index.remove(id), plain.0.remove(&id).is_some());
                }
            }
            prop_assert_eq!(index.len(), plain.0.len());
        }
        let keep = |id: u32| (id >> 20).is_multiple_of(modulus);
        for query in &vectors[..10] {
            prop_assert_eq!(index.search(query, k, None), plain.search(query, k, |_| true));
            prop_assert_eq!(index.search(query, k, Some(&keep)), plain.search(query, k, keep));
        }
    }

    #[test]
    fn eight_bits_stay_within_their_bound(
        dim in 1..200usize,
        spread in prop::sample::select(vec![0.0f32, 0.05, 0.5, 100.0]),
        peak in prop::sample::select(vec![1.0f32, 1e3, 1e6]),
        seed in any::<u64>(),
    ) {
        let mut vectors = clustered(50, dim, spread, seed);
        // One value that stands out leaves few bits for the others.
        for vector in &mut vectors {
            vector[0] *= peak;
        }
        let mut plain = Plain::default();
        let mut index = VectorIndex::with_precision(dim, Precision::Int8);
        for (id, vector) in (0..).zip(&vectors) {
            plain.push(id, vector);
            index.push(id, vector);
        }
        let found: BTreeMap<u32, f32> = index.search(&vectors[7], 50, None).into_iter().collect();
        let query = Query::new(index.unit(&vectors[7]));
        for (id, exact) in plain.search(&vectors[7], 50, |_| true) {
            let bound = query.error_of(index.segments[0].errors[id as usize]);
            prop_assert!((found[&id] - exact).abs() <= bound, "{} vs. {exact}, bound {bound}", found[&id]);
            prop_assert!(bound < 0.6 * (dim as f32).sqrt() / 127.0 + 1e-3, "a bound of {bound} says little");
        }
    }
}

#[test]
fn rows_through_several_segments_come_and_go() {
    let vectors = clustered(3 * SEGMENT_ROWS + 5, 48, 0.3, 9);
    let (mut plain, mut index) = (Plain::default(), VectorIndex::new(48));
    let check = |plain: &Plain, index: &VectorIndex| {
        for query in vectors.iter().step_by(997) {
            assert_eq!(index.search(query, 10, None), plain.search(query, 10, |_| true));
        }
    };
    for (id, vector) in (0..).zip(&vectors) {
        plain.push(id, vector);
        index.push(id, vector);
    }
    check(&plain, &index);
    let before = index.clone();
    for id in (0..vectors.len() as u32).filter(|id| id % 3 != 1) {
        assert!(index.remove(id) && plain.0.remove(&id).is_some());
    }
    check(&plain, &index);
    assert!(!index.remove(0));
    for id in (0..vectors.len() as u32).filter(|id| id % 6 == 0) {
        plain.push(id, &vectors[id as usize]);
        index.push(id, &vectors[id as usize]);
    }
    check(&plain, &index);
    let all = (0..).zip(&vectors).fold(Plain::default(), |mut all, (id, vector)| {
        all.push(id, vector);
        all
    });
    check(&all, &before);
}

#[test]
fn nearest_come_first_and_equal_ones_by_id() {
    let mut index = VectorIndex::new(2);
    for (id, vector) in [(9, [1.0, 0.0]), (4, [0.0, 2.0]), (2, [3.0, 0.0]), (1, [0.0, 0.0]), (0, [1.0, 1.0])]
    {
        index.push(id, &vector);
    }
    let ids = |k| index.search(&[5.0, 0.0], k, None).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(5), [2, 9, 0, 1, 4]);
    assert_eq!(ids(2), [2, 9]);
    assert_eq!(ids(0), [0u32; 0]);
    assert!((index.search(&[5.0, 0.0], 1, None)[0].1 - 1.0).abs() < 1e-6);
    assert_eq!(VectorIndex::new(2).search(&[1.0, 0.0], 3, None), []);
}

#[test]
fn what_is_no_number_is_near_to_nothing() {
    let mut index = VectorIndex::new(2);
    index.push(0, &[f32::NAN, 1.0]);
    index.push(1, &[f32::INFINITY, 1.0]);
    index.push(2, &[-1.0, 0.0]);
    assert_eq!(index.search(&[1.0, 0.0], 3, None), [(0, 0.0), (1, 0.0), (2, -1.0)]);
    assert_eq!(index.search(&[f32::NAN, 0.0], 2, None), [(0, 0.0), (1, 0.0)]);
}

#[test]
#[should_panic(expected = "id 3 is taken")]
fn an_id_is_given_once() {
    let mut index = VectorIndex::new(1);
    index.push(3, &[1.0]);
    index.push(3, &[1.0]);
}
