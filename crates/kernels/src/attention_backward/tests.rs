//! Against finite differences of the definition, and equal bits whatever the threads and neighbours.

use super::*;
use crate::dispatch::at_every_level;
use crate::gradient_check::{Random, assert_close, numeric_gradient};

/// The definition in f64: `(out, log_sum_exp)`.
fn exact(shape: &AttentionShape, sequence_lens: &[usize], [q, k, v]: [&[f64]; 3]) -> (Vec<f64>, Vec<f64>) {
    let AttentionShape { num_heads, num_kv_heads, head_dim, scale, window, soft_cap } = *shape;
    let mut out = vec![0.0; q.len()];
    let mut log_sums = vec![0.0; q.len() / head_dim];
    let mut start = 0;
    for &len in sequence_lens {
        for row in start..start + len {
            for head in 0..num_heads {
                let at = (row * num_heads + head) * head_dim;
                let key_at = |key: usize| (key * num_kv_heads + head / (num_heads / num_kv_heads)) * head_dim;
                let first = window.map_or(start, |window| start.max((row + 1).saturating_sub(window)));
                let exps: Vec<f64> = (first..=row)
                    .map(|key| {
                        let products = (0..head_dim).map(|d| q[at + d] * k[key_at(key) + d]);
                        let score = products.sum::<f64>() * f64::from(scale);
                        soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()).exp()
                    })
                    .collect();
                let sum: f64 = exps.iter().sum();
                log_sums[row * num_heads + head] = sum.ln();
                for (key, e) in (first..).zip(&exps) {
                    for d in 0..head_dim {
                        out[at + d] += e / sum * v[key_at(key) + d];
                    }
                }
            }
        }
        start += len;
    }
    (out, log_sums)
}

struct Case {
    shape: AttentionShape,
    sequence_lens: Vec<usize>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    log_sum_exp: Vec<f32>,
    dout: Vec<f32>,
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn case(heads: [usize; 2], head_dim: usize, sequence_lens: &[usize]) -> Case {
    limited_case(heads, head_dim, sequence_lens, (None, None))
}

fn limited_case(
    [num_heads, num_kv_heads]: [usize; 2],
    head_dim: usize,
    sequence_lens: &[usize],
    (window, soft_cap): (Option<usize>, Option<f32>),
) -> Case {
    let scale = (head_dim as f32).sqrt().recip();
    let shape = AttentionShape { num_heads, num_kv_heads, head_dim, scale, window, soft_cap };
    let rows: usize = sequence_lens.iter().sum();
    let mut random = Random::new(21);
    let mut values =
        |heads: usize| random.values(rows * heads * head_dim).iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
    let (q, k, v) = (values(num_heads), values(num_kv_heads), values(num_kv_heads));
    let dout = values(num_heads);
    let (out, log_sums) = exact(&shape, sequence_lens, [&wide(&q), &wide(&k), &wide(&v)]);
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect();
    let (out, log_sum_exp) = (narrow(out), narrow(log_sums));
    let sequence_lens = sequence_lens.to_vec();
    Case { shape, sequence_lens, q, k, v, out, log_sum_exp, dout }
}

fn run(case: &Case, threads: usize) -> [Vec<f32>; 3] {
    // Old content must not matter.
    let (mut dq, mut dk, mut dv) =
        (vec![9.0; case.q.len()], vec![9.0; case.k.len()], vec![9.0; case.v.len()]);
    let saved =
        SavedAttention { q: &case.q, k: &case.k, v: &case.v, out: &case.out, log_sum_exp: &case.log_sum_exp };
    let mut gradients = AttentionGradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    let pool = Pool::new(threads);
    let lens = &case.sequence_lens;
    attention_backward(&pool, &case.shape, lens, &saved, &case.dout, &mut gradients);
    [dq, dk, dv]
}

#[test]
fn gradients_pass_finite_differences() {
    for (heads, head_dim, lens) in
        [([1, 1], 2, vec![1]), ([2, 1], 6, vec![5]), ([4, 2], 4, vec![3, 1, 7]), ([3, 3], 2, vec![33, 2])]
    {
        check_gradients(&case(heads, head_dim, &lens));
    }
}

#[test]
fn gradients_of_windows_and_soft_caps_pass_finite_differences() {
    for (limits, lens) in [
        ((Some(1), None), vec![3]),
        ((Some(4), None), vec![9, 2]),
        ((Some(33), None), vec![70]),
        ((None, Some(0.8)), vec![5, 3]),
        ((Some(5), Some(1.5)), vec![40]),
    ] {
        check_gradients(&limited_case([2, 1], 2, &lens, limits));
    }
}

fn check_gradients(case: &Case) {
    let lens = &case.sequence_lens;
    let [dq, dk, dv] = run(case, 2);
    let (q, k, v) = (wide(&case.q), wide(&case.k), wide(&case.v));
    let loss = |q: &[f64], k: &[f64], v: &[f64]| exact(&case.shape, lens, [q, k, v]).0;
    let expected = numeric_gradient(&case.q, &case.dout, |q| loss(q, &k, &v));
    assert_close("dq", &dq, &expected, 2e-5);
    let expected = numeric_gradient(&case.k, &case.dout, |k| loss(&q, k, &v));
    assert_close("dk", &dk, &expected, 2e-5);
    let expected = numeric_gradient(&case.v, &case.dout, |v| loss(&q, &k, v));
    assert_close("dv", &dv, &expected, 2e-5);
}

#[test]
fn equal_bits_for_threads_levels_and_neighbours() {
    check_equal_bits(&case([6, 2], 20, &[40, 7, 64, 1]));
    check_equal_bits(&limited_case([6, 2], 20, &[40, 7, 64, 1], (Some(37), Some(3.0))));
}

fn check_equal_bits(together: &Case) {
    let one = run(together, 1);
    assert_eq!(one, run(together, 3), "threads");
    at_every_level(|| run(together, 1).concat());

    // The second sequence by itself.
    let rows = 40..47;
    let cut = |x: &[f32]| {
        let cols = x.len() / 112;
        x[rows.start * cols..rows.end * cols].to_vec()
    };
    let alone = Case {
        shape: together.shape,
        sequence_lens: vec![7],
        q: cut(&together.q),
        k: cut(&together.k),
        v: cut(&together.v),
        out: cut(&together.out),
        log_sum_exp: cut(&together.log_sum_exp),
        dout: cut(&together.dout),
    };
    assert_eq!(run(&alone, 1), one.map(|x| cut(&x)), "neighbours");
}
