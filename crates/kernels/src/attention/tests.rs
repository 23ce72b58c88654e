//! Attention against two passes in f64, and the laws of chunks, threads, levels, types of pages and chosen pages.

use super::*;
use crate::dispatch::at_every_level;

fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
        })
        .collect()
}

#[derive(Clone)]
struct Case {
    shape: AttentionShape,
    kv_type: KvType,
    most_pages: Option<usize>,
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    fn new(num_heads: usize, num_kv_heads: usize, head_dim: usize, tokens: usize) -> Self {
        let shape =
            AttentionShape { num_heads, num_kv_heads, head_dim, scale: 0.3, window: None, soft_cap: None };
        let kv = tokens * num_kv_heads * head_dim;
        Self {
            shape,
            kv_type: KvType::F32,
            most_pages: None,
            tokens,
            q: values(tokens * num_heads * head_dim, 1),
            k: values(kv, 2),
            v: values(kv, 3),
        }
    }

    fn layout(&self) -> PageLayout {
        PageLayout {
            num_layers: 2,
            num_kv_heads: self.shape.num_kv_heads,
            head_dim: self.shape.head_dim,
            kv_type: self.kv_type,
            has_bounds: self.most_pages.is_some(),
        }
    }

    fn pages(&self) -> Vec<Vec<f32>> {
        let layout = self.layout();
        let width = self.shape.num_kv_heads * self.shape.head_dim;
        let mut pages = vec![vec![0.0; layout.page_len()]; self.tokens.div_ceil(PAGE)];
        for t in 0..self.tokens {
            let at = t * width..(t + 1) * width;
            layout.write(&mut pages[t / PAGE], 1, t % PAGE, &self.k[at.clone()], &self.v[at]);
        }
        pages
    }

    /// Rows `from..to` of the sequence, all keys before them cached.
    fn rows(&self, pages: &[Vec<f32>], from: usize, to: usize, threads: usize) -> (Vec<f32>, Vec<f32>) {
        let width = self.shape.num_heads * self.shape.head_dim;
        let segment =
            Segment { pages: pages.iter().map(Vec::as_slice).collect(), position: from, rows: to - from };
        let mut out = vec![f32::NAN; (to - from) * width];
        let mut lse = vec![f32::NAN; (to - from) * self.shape.num_heads];
        let q = &self.q[from * width..to * width];
        attention(
            &Pool::new(threads),
            &self.shape,
            Keys { layout: self.layout(), layer: 1, most_pages: self.most_pages },
            &[segment],
            (q, &mut out),
            Some(&mut lse),
        );
        (out, lse)
    }

    /// Two passes in f64.
    fn reference(&self, t: usize, head: usize) -> (Vec<f64>, f64) {
        let AttentionShape { num_heads, num_kv_heads, head_dim, scale, window, soft_cap } = self.shape;
        let first = window.map_or(0, |window| (t + 1).saturating_sub(window));
        let kv_head = head / (num_heads / num_kv_heads);
        let at = |values: &[f32], t: usize, heads: usize, head: usize, c: usize| {
            f64::from(values[(t * heads + head) * head_dim + c])
        };
        let scores: Vec<f64> = (first..=t)
            .map(|s| {
                let dot: f64 = (0..head_dim)
                    .map(|c| at(&self.q, t, num_heads, head, c) * at(&self.k, s, num_kv_heads, kv_head, c))
                    .sum();
                let score = dot * f64::from(scale);
                soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            })
            .collect();
        let sum: f64 = scores.iter().map(|s| s.exp()).sum();
        let out = (0..head_dim)
            .map(|c| {
                let weighted: f64 = (first..=t)
                    .map(|s| scores[s - first].exp() * at(&self.v, s, num_kv_heads, kv_head, c))
                    .sum();
                weighted / sum
            })
            .collect();
        (out, sum.ln())
    }
}

fn check(case: &Case) {
    let AttentionShape { num_heads, head_dim, .. } = case.shape;
    let (out, lse) = case.rows(&case.pages(), 0, case.tokens, 2);
    for t in 0..case.tokens {
        for head in 0..num_heads {
            let (expected, expected_lse) = case.reference(t, head);
            assert!((f64::from(lse[t * num_heads + head]) - expected_lse).abs() < 1e-5);
            for (c, expected) in expected.iter().enumerate() {
                let got = f64::from(out[(t * num_heads + head) * head_dim + c]);
                assert!((got - expected).abs() < 2e-6, "row {t} head {head}: {got} vs. {expected}");
            }
        }
    }
}

/// Windows of one key, within a page, over a border and beyond the sequence; caps that bend scores.
fn limited(case: &Case) -> impl Iterator<Item = Case> {
    let limits = [(Some(1), None), (Some(10), Some(0.7)), (Some(64), None), (Some(65), Some(2.0))];
    let limits = limits.into_iter().chain([(Some(100), None), (Some(1000), None), (None, Some(0.4))]);
    limits.map(|(window, soft_cap)| Case {
        shape: AttentionShape { window, soft_cap, ..case.shape },
        ..case.clone()
    })
}

#[test]
fn equals_the_two_pass_softmax() {
    for (heads, kv_heads, dim, tokens) in
        [(1, 1, 16, 1), (4, 2, 16, 70), (7, 1, 8, 130), (3, 3, 64, 64), (2, 1, 80, 65)]
    {
        check(&Case::new(heads, kv_heads, dim, tokens));
    }
    limited(&Case::new(3, 1, 8, 200)).for_each(|case| check(&case));
}

#[test]
fn chunks_threads_and_later_keys_change_no_bit() {
    let plain = Case::new(6, 2, 32, 200);
    for case in limited(&plain).chain([plain.clone()]) {
        let pages = case.pages();
        let (whole, _) = case.rows(&pages, 0, 200, 1);
        assert_eq!(whole, case.rows(&pages, 0, 200, 3).0);
        for chunk in [1, 7, 64] {
            let pieces: Vec<f32> = (0..200)
                .step_by(chunk)
                .flat_map(|from| case.rows(&pages, from, (from + chunk).min(200), 2).0)
                .collect();
            assert_eq!(whole, pieces, "chunks of {chunk}");
        }
    }
}

#[test]
fn a_window_reads_no_page_before_it() {
    let mut case = Case::new(2, 1, 8, 300);
    case.shape.window = Some(70);
    let mut pages = case.pages();
    let (whole, _) = case.rows(&pages, 290, 300, 1);
    // Positions 221 on are seen: page 3 begins at 192.
    pages[..3].iter_mut().for_each(|page| page.fill(f32::NAN));
    assert_eq!(whole, case.rows(&pages, 290, 300, 1).0);
}

#[test]
fn every_level_gives_equal_bits() {
    let plain = Case::new(5, 1, 48, 90);
    for case in limited(&plain).chain([plain.clone()]) {
        let pages = case.pages();
        at_every_level(|| case.rows(&pages, 0, 90, 1).0);
    }
}

/// Every type of page, read whole and by choice.
fn kept(case: &Case) -> impl Iterator<Item = Case> {
    let choices = [None, Some(2), Some(3), Some(100)];
    choices
        .into_iter()
        .flat_map(move |most_pages| KvType::ALL.map(|kv_type| Case { kv_type, most_pages, ..case.clone() }))
}

#[test]
fn every_type_of_page_is_as_near_as_its_bits_allow() {
    for plain in [Case::new(4, 2, 16, 70), Case::new(3, 1, 80, 300), Case::new(7, 1, 64, 65)] {
        let (exact, _) = plain.rows(&plain.pages(), 0, plain.tokens, 1);
        for (kv_type, bound) in [(KvType::F16, 5e-4), (KvType::Q8_0, 8e-3)] {
            let case = Case { kv_type, ..plain.clone() };
            let (near, _) = case.rows(&case.pages(), 0, case.tokens, 1);
            let largest = exact.iter().zip(&near).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < bound && largest > 0.0, "{kv_type:?}: {largest}");
        }
    }
}

#[test]
fn a_page_holds_what_rounding_says() {
    for kv_type in KvType::ALL {
        let rounded = Case { kv_type, ..Case::new(4, 2, 48, 130) };
        let (mut exact, layout) = (Case { kv_type: KvType::F32, ..rounded.clone() }, rounded.layout());
        layout.round(&mut exact.k);
        layout.round(&mut exact.v);
        let (expected, _) = exact.rows(&exact.pages(), 0, 130, 1);
        let (got, _) = rounded.rows(&rounded.pages(), 0, 130, 1);
        for (expected, got) in expected.iter().zip(&got) {
            // Scales are multiplied after the sum instead of before it.
            assert!((expected - got).abs() < 2e-6, "{kv_type:?}: {expected} vs. {got}");
        }
    }
}

#[test]
fn types_and_choices_keep_the_laws_of_chunks_threads_and_levels() {
    for plain in [Case::new(6, 2, 32, 700), Case::new(3, 1, 80, 600)] {
        for case in kept(&plain) {
            let (pages, tokens) = (case.pages(), case.tokens);
            let (whole, _) = case.rows(&pages, 0, tokens, 1);
            assert_eq!(whole, case.rows(&pages, 0, tokens, 3).0, "threads");
            for chunk in [1, 67] {
                let pieces: Vec<f32> = (0..tokens)
                    .step_by(chunk)
                    .flat_map(|from| case.rows(&pages, from, (from + chunk).min(tokens), 2).0)
                    .collect();
                assert_eq!(whole, pieces, "chunks of {chunk}, {:?}, {:?}", case.kv_type, case.most_pages);
            }
            at_every_level(|| case.rows(&pages, 520, 560, 1).0);
        }
    }
}

#[test]
fn enough_pages_are_all_pages_and_too_few_are_not() {
    let dense = Case::new(6, 2, 32, 700);
    let (whole, _) = dense.rows(&dense.pages(), 0, 700, 2);
    let few = |most| {
        let case = Case { most_pages: Some(most), ..dense.clone() };
        case.rows(&case.pages(), 0, 700, 2).0
    };
    assert_eq!(whole, few(700_usize.div_ceil(PAGE)));
    let (three, width) = (few(3), 6 * 32);
    // Three pages are all there is up to position 191.
    assert_eq!(whole[..192 * width], three[..192 * width]);
    assert_ne!(whole[192 * width..], three[192 * width..]);
}

#[test]
fn the_page_that_a_query_looks_for_is_chosen() {
    // Keys of one page point where the last query points; all others are small.
    let mut case = Case::new(2, 1, 32, 640);
    for (t, k) in case.k.chunks_exact_mut(32).enumerate() {
        for k in k.iter_mut() {
            *k *= 0.01;
        }
        if t == 300 {
            k.copy_from_slice(&case.q[639 * 64..639 * 64 + 32]);
        }
    }
    case.shape.scale = 2.0;
    let (dense, _) = case.rows(&case.pages(), 639, 640, 1);
    let chosen = Case { most_pages: Some(3), ..case.clone() };
    let (sparse, _) = chosen.rows(&chosen.pages(), 639, 640, 1);
    for (dense, sparse) in dense[..32].iter().zip(&sparse) {
        assert!((dense - sparse).abs() < 1e-3, "{dense} vs. {sparse}");
    }
}
