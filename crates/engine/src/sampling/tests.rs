//! Each filter and penalty against a plain reference over all tokens, written from the definitions.

use std::sync::Arc;

use hearth_testkit::{Scratch, TINY};
use hearth_tokenizer::{TokenId, Tokenizer};

use super::filters::{keep, softmax};
use super::*;

/// Logits without a pattern, some of them equal.
fn logits(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64).map(|i| ((mix(seed * 1000 + i) % 64) as f32 - 40.0) / 6.0).collect()
}

fn tokenizer() -> Arc<Tokenizer> {
    let folder = Scratch::new("sampling").unwrap();
    TINY.write(&folder).unwrap();
    let pool = hearth_kernels::pool::Pool::new(1);
    Arc::clone(hearth_model::Model::open(&folder, &pool).unwrap().tokenizer())
}

fn sampler(sampling: &Sampling, prompt: &[TokenId]) -> Sampler {
    Sampler::new(sampling.clone(), prompt, &tokenizer())
}

/// A probability for every token: those not kept have 0.
type Plain = Vec<f64>;

fn plain_softmax(logits: &[f32], temperature: f32) -> Plain {
    let powers: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|p| p / total).collect()
}

/// Keeps tokens by rank: `order` sorts ids, `enough(sum before this token, place)` ends the list.
fn plain_keep(p: &Plain, key: impl Fn(usize) -> f64, is_kept: impl Fn(usize, f64) -> bool) -> Plain {
    let mut ids: Vec<usize> = (0..p.len()).filter(|&id| p[id] > 0.0).collect();
    ids.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(p[b].total_cmp(&p[a])).then(a.cmp(&b)));
    let mut out = vec![0.0; p.len()];
    let mut sum = 0.0;
    for (place, id) in ids.into_iter().enumerate() {
        if place == 0 || is_kept(place, sum) {
            out[id] = p[id];
        }
        sum += p[id];
    }
    let total: f64 = out.iter().sum();
    out.iter().map(|p| p / total).collect()
}

fn plain_chain(logits: &[f32], sampling: &Sampling) -> Plain {
    let mut p = plain_softmax(logits, sampling.temperature);
    if sampling.top_k > 0 {
        p = plain_keep(&p, |id| -p[id], |place, _| place < sampling.top_k);
    }
    if sampling.typical_p < 1.0 {
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|&p| -p * p.ln()).sum();
        let away = |id: usize| ((-p[id].ln() - entropy).abs() * 1e9).round();
        p = plain_keep(&p, away, |_, sum| sum < f64::from(sampling.typical_p));
    }
    if sampling.top_p < 1.0 {
        p = plain_keep(&p, |id| -p[id], |_, sum| sum < f64::from(sampling.top_p));
    }
    let best = p.iter().fold(0.0_f64, |a, &b| a.max(b));
    let least = best * f64::from(sampling.min_p) * (1.0 - 1e-12);
    let p: Plain = p.iter().map(|&p| if p >= least { p } else { 0.0 }).collect();
    let total: f64 = p.iter().sum();
    p.iter().map(|p| p / total).collect()
}

#[test]
fn every_filter_alone_and_all_together_equal_a_plain_reference() {
    let base = Sampling { temperature: 1.0, ..Sampling::greedy() };
    let cases = [
        base.clone(),
        Sampling { temperature: 0.3, ..base.clone() },
        Sampling { top_k: 1, ..base.clone() },
        Sampling { top_k: 7, ..base.clone() },
        Sampling { top_p: 0.5, ..base.clone() },
        Sampling { top_p: 1e-6, ..base.clone() },
        Sampling { min_p: 0.2, ..base.clone() },
        Sampling { min_p: 1.0, ..base.clone() },
        Sampling { typical_p: 0.4, ..base.clone() },
        Sampling { typical_p: 0.95, temperature: 1.4, ..base.clone() },
        Sampling { top_k: 40, typical_p: 0.9, top_p: 0.8, min_p: 0.1, temperature: 1.3, ..base },
    ];
    for seed in 0..40 {
        let logits = logits(90, seed);
        for sampling in &cases {
            let kept = keep(softmax(&logits, sampling.temperature), sampling);
            let total: f64 = kept.iter().map(|&(_, p)| p).sum();
            let mut found = vec![0.0; logits.len()];
            for &(id, p) in &kept {
                found[id as usize] = p / total;
            }
            let expected = plain_chain(&logits, sampling);
            for (id, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-9, "{sampling:?}: token {id} {found} {expected}");
            }
        }
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.0f32, 1.0, 2.0, f32::NEG_INFINITY];
    let sampling = Sampling { temperature: 1.0, seed: 7, ..Sampling::greedy() };
    let mut sampler = sampler(&sampling, &[0]);
    let mut counts = [0.0f64; 4];
    for _ in 0..20_000 {
        counts[sampler.choose(&logits) as usize] += 1.0 / 20_000.0;
    }
    let total: f64 = (0..3).map(|i| f64::from(i).exp()).sum();
    for (i, count) in counts.iter().take(3).enumerate() {
        assert!((count - (i as f64).exp() / total).abs() < 0.012, "{i}: {count}");
    }
    assert_eq!(counts[3].to_bits(), 0.0f64.to_bits());
}

#[test]
fn greedy_takes_the_first_of_equals() {
    assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]), 1);
}

/// The logits after bias and penalties, from the papers' formulas and the whole list of tokens.
fn plain_penalties(logits: &[f32], sampling: &Sampling, prompt: &[TokenId], answer: &[TokenId]) -> Vec<f32> {
    let mut out = logits.to_vec();
    for (id, logit) in out.iter_mut().enumerate() {
        let is_id = |other: &&TokenId| **other as usize == id;
        *logit += sampling.logit_bias.iter().filter(|b| b.0 as usize == id).map(|b| b.1).sum::<f32>();
        if prompt.iter().chain(answer).any(|other| is_id(&other)) {
            // CTRL divides; transformers multiplies where the logit is negative, so that the token loses there too.
            let theta = sampling.repetition_penalty;
            *logit *= if *logit > 0.0 { 1.0 / theta } else { theta };
        }
        let count = answer.iter().filter(is_id).count() as f32;
        *logit -= count * sampling.frequency_penalty;
        *logit -= if count > 0.0 { sampling.presence_penalty } else { 0.0 };
    }
    out
}

#[test]
fn penalties_and_bias_equal_their_formulas_at_every_step() {
    let base = Sampling { temperature: 1.0, seed: 5, ..Sampling::greedy() };
    let cases = [
        Sampling { repetition_penalty: 1.3, ..base.clone() },
        Sampling { frequency_penalty: 0.7, ..base.clone() },
        Sampling { presence_penalty: -1.5, ..base.clone() },
        Sampling { logit_bias: vec![(3, -100.0), (9, 4.5), (9, 1.0)], ..base.clone() },
        Sampling {
            repetition_penalty: 0.8,
            frequency_penalty: -0.2,
            presence_penalty: 1.1,
            logit_bias: vec![(0, 2.0)],
            ..base
        },
    ];
    let prompt = [1, 5, 5, 20, 60];
    for sampling in &cases {
        let mut sampler = sampler(sampling, &prompt);
        let mut answer = Vec::new();
        for step in 0..30 {
            let logits = logits(64, step);
            let mut found = logits.clone();
            sampler.change(&mut found);
            let expected = plain_penalties(&logits, sampling, &prompt, &answer);
            for (id, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-4, "{sampling:?} step {step} token {id}");
            }
            answer.push(sampler.choose(&logits));
        }
    }
}

/// DRY in the words of its definition: try every earlier place, walk back while tokens agree and none is a breaker.
fn plain_dry(dry: &Dry, context: &[TokenId], is_breaker: impl Fn(TokenId) -> bool) -> Vec<(TokenId, f32)> {
    let mut penalties = Vec::new();
    for next in 0..256 {
        let mut longest = 0;
        for place in 0..context.len() {
            if context[place] != next || is_breaker(next) {
                continue;
            }
            let mut length = 0;
            while length < place {
                let (earlier, last) = (context[place - 1 - length], context[context.len() - 1 - length]);
                if earlier != last || is_breaker(last) {
                    break;
                }
                length += 1;
            }
            longest = longest.max(length);
        }
        if longest > 0 && longest >= dry.allowed_length {
            penalties.push((next, dry.multiplier * dry.base.powi((longest - dry.allowed_length) as i32)));
        }
    }
    penalties
}

#[test]
fn dry_equals_its_definition() {
    let tokenizer = tokenizer();
    let dry = Dry { sequence_breakers: vec![":".into(), "\n".into()], ..Dry::with_multiplier(0.8) };
    let is_breaker = |id: TokenId| id == u32::from(b':') || id == u32::from(b'\n');
    let mut num_penalties = 0;
    for seed in 0..60_u64 {
        for allowed_length in [0, 1, 2, 4] {
            let dry = Dry { allowed_length, ..dry.clone() };
            let letters = b"abab:cd";
            let alphabet = 2 + (seed % 6) as usize;
            let context: Vec<TokenId> = (0..seed * 2)
                .map(|i| u32::from(letters[(mix(seed * 777 + i) % alphabet as u64) as usize]))
                .collect();
            let found = DryState::new(dry.clone(), Arc::clone(&tokenizer), &context).penalties();
            let expected = plain_dry(&dry, &context, is_breaker);
            assert_eq!(found.len(), expected.len(), "{context:?}");
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.0, expected.0);
                assert!((found.1 / expected.1 - 1.0).abs() < 1e-4, "{found:?} {expected:?}");
            }
            num_penalties += found.len();
        }
    }
    assert!(num_penalties > 100, "the test has something to compare");
}

#[test]
fn mirostat_equals_its_definition_and_holds_the_surprise() {
    let mirostat = Mirostat { tau: 3.0, eta: 0.125 };
    let sampling = Sampling { temperature: 1.0, mirostat: Some(mirostat), seed: 11, ..Sampling::greedy() };
    let mut sampler = sampler(&sampling, &[0]);
    let mut mu = 6.0;
    let mut surprises = Vec::new();
    for step in 0..400 {
        let logits = logits(200, step);
        let p = plain_softmax(&logits, 1.0);
        let first = greedy(&logits) as usize;
        let is_kept = |id: usize| -p[id].log2() <= mu || id == first;
        let kept: Plain = (0..p.len()).map(|id| if is_kept(id) { p[id] } else { 0.0 }).collect();
        let total: f64 = kept.iter().sum();
        assert!((sampler.max_surprise - mu).abs() < 1e-9, "step {step}");
        let id = sampler.choose(&logits) as usize;
        assert!(kept[id] > 0.0, "step {step}: {id} is beyond the bound");
        let surprise = -(kept[id] / total).log2();
        mu -= 0.125 * (surprise - 3.0);
        surprises.push(surprise);
    }
    let mean = surprises[100..].iter().sum::<f64>() / (surprises.len() - 100) as f64;
    assert!((mean - 3.0).abs() < 0.15, "{mean} bits");
}

#[test]
fn values_outside_their_ranges_are_named() {
    let base = Sampling::greedy();
    let named = |sampling: Sampling| match sampling.check() {
        Err(Error::Parameter { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(base.check(), Ok(()));
    assert_eq!(named(Sampling { temperature: f32::NAN, ..base.clone() }), "temperature");
    assert_eq!(named(Sampling { typical_p: 0.0, ..base.clone() }), "typical_p");
    assert_eq!(named(Sampling { repetition_penalty: 0.0, ..base.clone() }), "repetition_penalty");
    assert_eq!(named(Sampling { frequency_penalty: 2.1, ..base.clone() }), "frequency_penalty");
    assert_eq!(named(Sampling { presence_penalty: f32::NAN, ..base.clone() }), "presence_penalty");
    assert_eq!(named(Sampling { logit_bias: vec![(1, 101.0)], ..base.clone() }), "logit_bias");
    assert_eq!(named(Sampling { dry: Some(Dry::with_multiplier(-1.0)), ..base.clone() }), "dry_multiplier");
    let mirostat = Some(Mirostat { tau: 5.0, eta: 0.0 });
    assert_eq!(named(Sampling { mirostat, ..base }), "mirostat_eta");
}

#[test]
fn top_logprobs_are_sorted_and_normalised() {
    let top = top_logprobs(&[0.0, 2.0, 1.0, 2.0], 3);
    assert_eq!(top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 3, 2]);
    let total: f32 = top_logprobs(&[0.0, 2.0, 1.0, 2.0], 4).iter().map(|(_, lp)| lp.exp()).sum();
    assert!((total - 1.0).abs() < 1e-6);
}
