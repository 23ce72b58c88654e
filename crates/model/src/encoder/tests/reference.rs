//! The forward pass by the book: one token at a time, f64, nothing shared with the program.

use super::fixture::{EPS, Fixture, HEADS, HIDDEN, INNER, LAYERS};

type Rows = Vec<Vec<f64>>;

/// The mean of a text's rows, scaled to length 1.
pub(super) fn embed(fixture: &Fixture, ids: &[u32]) -> Vec<f64> {
    let x = hidden(fixture, ids);
    let mean: Vec<f64> =
        (0..HIDDEN).map(|c| x.iter().map(|row| row[c]).sum::<f64>() / x.len() as f64).collect();
    unit(&mean)
}

/// The first token's row, scaled to length 1.
pub(super) fn embed_first(fixture: &Fixture, ids: &[u32]) -> Vec<f64> {
    unit(&hidden(fixture, ids)[0])
}

fn unit(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter().map(|value| value / length).collect()
}

/// The last layer's row of each token.
fn hidden(fixture: &Fixture, ids: &[u32]) -> Rows {
    let tensor = |name: &str, at: usize| f64::from(fixture.tensors[name][at]);
    let mut x: Rows = ids
        .iter()
        .enumerate()
        .map(|(position, &id)| {
            let sum = (0..HIDDEN).map(|c| {
                tensor("emb.word", id as usize * HIDDEN + c)
                    + tensor("emb.pos", position * HIDDEN + c)
                    + tensor("emb.type", c)
            });
            norm(fixture, "emb.ln", &sum.collect::<Vec<f64>>())
        })
        .collect();
    for layer in 0..LAYERS {
        let linear = |part: &str, x: &[f64], rows: usize| {
            let name = format!("l{layer}.{part}");
            let (weight, bias) =
                (&fixture.tensors[&format!("{name}.w")], &fixture.tensors[&format!("{name}.b")]);
            (0..rows)
                .map(|row| {
                    let weights = &weight[row * x.len()..(row + 1) * x.len()];
                    let products = x.iter().zip(weights).map(|(x, w)| x * f64::from(*w));
                    f64::from(bias[row]) + products.sum::<f64>()
                })
                .collect::<Vec<f64>>()
        };
        let all = |part: &str, x: &Rows| -> Rows { x.iter().map(|row| linear(part, row, HIDDEN)).collect() };
        let mixed = attention(&all("q", &x), &all("k", &x), &all("v", &x));
        x = x
            .iter()
            .zip(&mixed)
            .map(|(x, mixed)| {
                let x = norm(fixture, &format!("l{layer}.aln"), &add(x, &linear("ao", mixed, HIDDEN)));
                let inner: Vec<f64> = linear("fi", &x, INNER).into_iter().map(gelu).collect();
                norm(fixture, &format!("l{layer}.oln"), &add(&x, &linear("fo", &inner, HIDDEN)))
            })
            .collect();
    }
    x
}

fn attention(q: &Rows, k: &Rows, v: &Rows) -> Rows {
    let dim = HIDDEN / HEADS;
    let row = |q: &Vec<f64>| {
        (0..HIDDEN)
            .map(|c| {
                let head = c / dim * dim..(c / dim + 1) * dim;
                let exps: Vec<f64> = k
                    .iter()
                    .map(|k| head.clone().map(|d| q[d] * k[d]).sum::<f64>() / (dim as f64).sqrt())
                    .map(f64::exp)
                    .collect();
                exps.iter().zip(v).map(|(e, v)| e * v[c]).sum::<f64>() / exps.iter().sum::<f64>()
            })
            .collect()
    };
    q.iter().map(row).collect()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn norm(fixture: &Fixture, name: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&fixture.tensors[&format!("{name}.w")], &fixture.tensors[&format!("{name}.b")]);
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let scale = (variance + f64::from(EPS)).sqrt();
    let row = x.iter().zip(weight).zip(bias);
    row.map(|((x, w), b)| (x - mean) / scale * f64::from(*w) + f64::from(*b)).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt()))
}

/// `2/√π Σ (-1)ⁿ x²ⁿ⁺¹ / (n!·(2n+1))`; beyond 4 it is 1 up to 2e-8.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut power, mut sum) = (x, x);
    for n in 1..100 {
        power *= -x * x / f64::from(n);
        sum += power / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
