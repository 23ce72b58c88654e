//! Beam search: the most probable answers, found by following several at once.
//!
//! All beams of a step are one forward pass; their keys and values share pages up to where they part. A beam's score
//! is its log-probability over its length to the power `length_penalty` (Wu et al. 2016 in the form of transformers).

use hearth_kernels::loss::log_softmax_row;
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::TokenId;

use crate::request::{Error, Finish, Result};

/// Prompt tokens in one forward pass.
const CHUNK: usize = 256;

#[derive(Debug, Clone)]
pub struct BeamConfig {
    /// Answers followed at once, and found at most.
    pub width: usize,
    /// 0 compares sums of log-probabilities, 1 their means.
    pub length_penalty: f32,
    pub max_tokens: usize,
    /// Positions at most, prompt and answer.
    pub max_context: usize,
    /// Tokens that end an answer; they count in its score and aren't part of it.
    pub stop_ids: Vec<TokenId>,
}

/// An answer. Best first in results.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    pub tokens: Vec<TokenId>,
    /// Of all tokens, the stop token included.
    pub logprob: f64,
    pub score: f64,
    pub finish: Finish,
}

/// An answer that goes on.
struct Live {
    tokens: Vec<TokenId>,
    logprob: f64,
    cache: KvCache,
}

/// The best answers to a prompt.
pub fn search(decoder: &Decoder, pool: &Pool, prompt: &[TokenId], config: &BeamConfig) -> Result<Vec<Beam>> {
    let vocab_size = decoder.config.vocab_size;
    let max_context = config.max_context.min(decoder.config.max_seq_len);
    check(prompt, vocab_size, max_context, config)?;
    let mut workspace = Workspace::default();
    let mut forward = |ids: &[TokenId], caches: &mut [&mut KvCache], wanted: &[usize]| {
        let count = ids.len() / caches.len();
        let rows = caches.iter_mut().map(|cache| Rows { cache, count }).collect();
        let mut graph = Eager::new(pool, &mut workspace, rows);
        if wanted.is_empty() {
            drop(decoder.hidden(&mut graph, ids));
            graph.finish();
            return Vec::new();
        }
        let logits = decoder.logits(&mut graph, ids, wanted);
        graph.finish();
        let row = |row: usize| {
            let mut row = logits.row(row).to_vec();
            log_softmax_row(&mut row);
            row
        };
        (0..wanted.len()).map(row).collect::<Vec<Vec<f32>>>()
    };
    let mut cache = KvCache::new(decoder.page_layout());
    let (last, before) = prompt.split_last().ok_or(Error::EmptyPrompt)?;
    for chunk in before.chunks(CHUNK) {
        forward(chunk, &mut [&mut cache], &[]);
    }
    let config =
        BeamConfig { max_tokens: config.max_tokens.min(max_context - prompt.len()), ..config.clone() };
    let beams = follow(cache, &config, |live| {
        let ids: Vec<TokenId> = live.iter().map(|beam| *beam.tokens.last().unwrap_or(last)).collect();
        let mut caches: Vec<&mut KvCache> = live.iter_mut().map(|beam| &mut beam.cache).collect();
        let wanted: Vec<usize> = (0..ids.len()).collect();
        forward(&ids, &mut caches, &wanted)
    });
    if beams.iter().any(|beam| beam.score.is_nan()) {
        return Err(Error::NotFinite);
    }
    Ok(beams)
}

fn check(prompt: &[TokenId], vocab_size: usize, max_context: usize, config: &BeamConfig) -> Result<()> {
    if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(Error::TokenId { id, vocab_size });
    }
    if prompt.len() >= max_context {
        return Err(Error::ContextTooLong { prompt_tokens: prompt.len(), max_context });
    }
    if !(1..=MAX_WIDTH).contains(&config.width) {
        return Err(Error::Count { name: "beams", value: config.width, most: MAX_WIDTH });
    }
    if !(-10.0..=10.0).contains(&config.length_penalty) {
        let value = config.length_penalty;
        return Err(Error::Parameter { name: "length_penalty", value, expected: "-10 to 10" });
    }
    Ok(())
}

/// Each beam holds keys and values of its own answer.
const MAX_WIDTH: usize = 256;

/// Follows the best beams; `log_probs` computes one more position of each.
fn follow(
    cache: KvCache,
    config: &BeamConfig,
    mut log_probs: impl FnMut(&mut [Live]) -> Vec<Vec<f32>>,
) -> Vec<Beam> {
    let mut live = vec![Live { tokens: Vec::new(), logprob: 0.0, cache }];
    let mut found: Vec<Beam> = Vec::new();
    for len in 1..=config.max_tokens {
        let rows = log_probs(&mut live);
        let mut next = continuations(&live, &rows, config);
        let (ended, going): (Vec<Step>, Vec<Step>) =
            next.drain(..).partition(|step| config.stop_ids.contains(&step.id));
        for step in ended {
            let (tokens, logprob) = (live[step.parent].tokens.clone(), step.logprob);
            found.push(Beam { tokens, logprob, score: score(logprob, len, config), finish: Finish::Stop });
        }
        keep_best(&mut found, config.width);
        let is_last = len == config.max_tokens;
        live = going.iter().take(config.width).map(|step| step.take(&live)).collect();
        if is_last || live.is_empty() || is_settled(&found, &live, len, config) {
            break;
        }
    }
    if live.first().is_some_and(|beam| beam.tokens.len() == config.max_tokens) {
        found.extend(live.into_iter().map(|beam| Beam {
            score: score(beam.logprob, beam.tokens.len().max(1), config),
            logprob: beam.logprob,
            tokens: beam.tokens,
            finish: Finish::Length,
        }));
    }
    keep_best(&mut found, config.width);
    found
}

/// One more token on one beam.
struct Step {
    parent: usize,
    id: TokenId,
    logprob: f64,
}

impl Step {
    fn take(&self, live: &[Live]) -> Live {
        let Live { tokens, cache, .. } = &live[self.parent];
        let tokens = tokens.iter().copied().chain([self.id]).collect();
        Live { tokens, logprob: self.logprob, cache: cache.clone() }
    }
}

/// The most probable ways to go on, best first: so many that, all stop tokens apart, `width` of them are left.
fn continuations(live: &[Live], rows: &[Vec<f32>], config: &BeamConfig) -> Vec<Step> {
    let most = config.width + live.len() * config.stop_ids.len();
    let mut steps: Vec<Step> = Vec::new();
    for (parent, (beam, row)) in live.iter().zip(rows).enumerate() {
        let all = row.iter().enumerate().filter(|(_, logprob)| **logprob > f32::NEG_INFINITY);
        let mut own: Vec<Step> = all
            .map(|(id, &logprob)| Step {
                parent,
                id: id as TokenId,
                logprob: beam.logprob + f64::from(logprob),
            })
            .collect();
        let order = |a: &Step, b: &Step| b.logprob.total_cmp(&a.logprob).then(a.id.cmp(&b.id));
        if own.len() > most {
            own.select_nth_unstable_by(most, order);
            own.truncate(most);
        }
        steps.extend(own);
    }
    // Ties go to the better parent, then to the smaller id.
    steps.sort_by(|a, b| b.logprob.total_cmp(&a.logprob).then(a.parent.cmp(&b.parent)).then(a.id.cmp(&b.id)));
    steps.truncate(most);
    steps
}

fn score(logprob: f64, len: usize, config: &BeamConfig) -> f64 {
    logprob / (len as f64).powf(f64::from(config.length_penalty))
}

fn keep_best(beams: &mut Vec<Beam>, width: usize) {
    beams.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.tokens.cmp(&b.tokens)));
    beams.truncate(width);
}

/// Whether no live beam can still beat the worst of those found: log-probabilities only fall.
fn is_settled(found: &[Beam], live: &[Live], len: usize, config: &BeamConfig) -> bool {
    if found.len() < config.width {
        return false;
    }
    let (Some(worst), Some(best)) = (found.last(), live.first()) else {
        return false;
    };
    let reachable = [len + 1, config.max_tokens].map(|len| score(best.logprob, len, config));
    worst.score >= reachable[0].max(reachable[1])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use hearth_model::Model;
    use hearth_testkit::{Scratch, TINY};

    use super::*;
    use crate::score;

    const ALPHABET: [TokenId; 5] = [97, 98, 99, 100, 101];
    const STOP: TokenId = 101;

    fn model() -> Arc<Model> {
        let folder = Scratch::new("beam").unwrap();
        TINY.write(&folder).unwrap();
        Arc::new(Model::open(&folder, &Pool::new(1)).unwrap())
    }

    fn config(width: usize, length_penalty: f32, max_tokens: usize) -> BeamConfig {
        BeamConfig { width, length_penalty, max_tokens, max_context: 4096, stop_ids: vec![STOP] }
    }

    /// Log-probabilities of the alphabet after a text, each scored on its own.
    fn one(model: &Model, prompt: &[TokenId], tokens: &[TokenId]) -> Vec<f32> {
        let all = [prompt, tokens].concat();
        let mut row = vec![f32::NEG_INFINITY; model.config().vocab_size];
        score::each_row(&model.decoder, &Pool::new(1), &all, all.len() - 1, |_, logits| {
            let mut logits = logits.to_vec();
            log_softmax_row(&mut logits);
            for id in ALPHABET {
                row[id as usize] = logits[id as usize];
            }
        })
        .unwrap();
        row
    }

    /// Every answer of at most `max_tokens`, its sum and its score.
    fn all_answers(
        next: &mut dyn FnMut(&[TokenId]) -> Vec<f32>,
        config: &BeamConfig,
    ) -> Vec<(Vec<TokenId>, f64)> {
        let (mut open, mut done) = (vec![(Vec::new(), 0.0)], Vec::new());
        for len in 1..=config.max_tokens {
            let mut longer = Vec::new();
            for (tokens, sum) in open {
                let row = next(&tokens);
                for id in ALPHABET {
                    let sum = sum + f64::from(row[id as usize]);
                    let score = sum / (len as f64).powf(f64::from(config.length_penalty));
                    match id {
                        STOP => done.push((tokens.clone(), score)),
                        _ => longer.push(([tokens.as_slice(), &[id]].concat(), sum)),
                    }
                }
            }
            open = longer;
        }
        let len = config.max_tokens as f64;
        done.extend(open.into_iter().map(|(t, sum)| (t, sum / len.powf(f64::from(config.length_penalty)))));
        done.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        done
    }

    #[test]
    fn a_wide_beam_finds_what_trying_everything_finds() {
        let model = model();
        let prompt = [104, 105, 32];
        let mut known = BTreeMap::<Vec<TokenId>, Vec<f32>>::new();
        let mut next = |tokens: &[TokenId]| {
            known.entry(tokens.to_vec()).or_insert_with(|| one(&model, &prompt, tokens)).clone()
        };
        for length_penalty in [0.0, 1.0, -1.0, 2.0] {
            for (width, max_tokens) in [(64, 4), (4, 2), (1, 1)] {
                let config = config(width, length_penalty, max_tokens);
                let cache = KvCache::new(model.decoder.page_layout());
                let found = follow(cache, &config, |live| live.iter().map(|b| next(&b.tokens)).collect());
                let expected = all_answers(&mut next, &config);
                assert_eq!(found.len(), width.min(expected.len()));
                for (found, (tokens, score)) in found.iter().zip(&expected) {
                    assert_eq!(&found.tokens, tokens, "width {width} penalty {length_penalty}");
                    assert!((found.score - score).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn batched_beams_have_the_log_probabilities_of_their_tokens_alone() {
        let model = model();
        let pool = Pool::new(2);
        let prompt: Vec<TokenId> = (0..70).map(|i| 33 + i * i % 89).collect();
        let found = search(&model.decoder, &pool, &prompt, &config(6, 0.7, 12)).unwrap();
        assert_eq!(found.len(), 6);
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        for beam in &found {
            let end: &[TokenId] = if beam.finish == Finish::Stop { &[STOP] } else { &[] };
            let all = [&prompt, beam.tokens.as_slice(), end].concat();
            let scored = score::log_probs(&model.decoder, &pool, &all, prompt.len() - 1).unwrap();
            let sum: f64 = scored.iter().map(|&value| f64::from(value)).sum();
            assert!((sum - beam.logprob).abs() < 1e-4, "{sum} {}", beam.logprob);
        }
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let model = model();
        let search = |prompt: &[TokenId], config| search(&model.decoder, &Pool::new(1), prompt, &config);
        assert_eq!(search(&[], config(2, 1.0, 3)), Err(Error::EmptyPrompt));
        let none = Error::Count { name: "beams", value: 0, most: MAX_WIDTH };
        assert_eq!(search(&[97], config(0, 1.0, 3)), Err(none));
        assert!(search(&[97; 4096], config(2, 1.0, 3)).is_err());
        assert!(search(&[97], config(2, f32::NAN, 3)).is_err());
    }
}
