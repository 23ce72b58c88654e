//! Guesses at the next tokens, which one forward pass then checks together.
//!
//! A row's logits don't depend on the rows beside it, so a guess is kept exactly where the sequence would have chosen
//! that token anyway: greedy, drawn from a seed, or under a constraint. Guesses change the speed and nothing else.
//! Prompt lookup is Saxena 2023, draft models Leviathan et al. 2023 with equality in place of rejection sampling.

use std::sync::Arc;

use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::{TokenId, Tokenizer};

use crate::engine::EngineConfig;
use crate::prefix::common_len;
use crate::request::{Error, Result};
use crate::sampling::greedy;
use crate::sequence::Sequence;

/// Where guesses come from.
#[derive(Debug, Clone)]
pub enum Speculation {
    Off,
    /// What followed the last tokens where they stood before: for answers that repeat their prompt.
    PromptLookup {
        max_draft: usize,
    },
    /// What a smaller model with the same vocabulary says.
    Draft {
        model: Arc<Model>,
        max_draft: usize,
    },
}

impl Speculation {
    /// Refuses a draft model whose ids mean something else.
    pub fn check(&self, target: &Model) -> Result<()> {
        let Self::Draft { model, .. } = self else {
            return Ok(());
        };
        same_vocabulary(model.tokenizer(), target.tokenizer())
    }
}

fn same_vocabulary(draft: &Tokenizer, target: &Tokenizer) -> Result<()> {
    let spelled = |tokenizer: &Tokenizer, id| match (id as usize) < tokenizer.vocab_size() {
        true => String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned(),
        false => "nothing".into(),
    };
    for id in 0..draft.vocab_size().max(target.vocab_size()) as TokenId {
        let both = [draft, target];
        let is_same = both[0].token_bytes(id) == both[1].token_bytes(id)
            && both[0].is_special(id) == both[1].is_special(id);
        if !is_same {
            let (draft, target) = (spelled(draft, id), spelled(target, id));
            return Err(Error::DraftVocabulary { id, draft, target });
        }
    }
    Ok(())
}

/// What a sequence learned about guessing.
#[derive(Debug)]
pub(crate) struct Drafting {
    /// Tokens to guess next time.
    budget: usize,
    /// Steps in a row in which no guess was right.
    misses: usize,
    /// The draft model's keys and values, of `fed`.
    cache: Option<KvCache>,
    fed: Vec<TokenId>,
}

impl Default for Drafting {
    fn default() -> Self {
        Self { budget: FIRST_DRAFT, misses: 0, cache: None, fed: Vec::new() }
    }
}

/// As many rows as decoding carries almost for nothing while it waits for the weights.
const FIRST_DRAFT: usize = 3;
/// Fewer equal tokens are chance.
const MIN_MATCH: usize = 2;
/// Longer matches say nothing more.
const MAX_MATCH: usize = 12;

impl Drafting {
    /// Bytes of the draft model's keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.cache.as_ref().map_or(0, KvCache::bytes)
    }

    /// Guesses more after good guesses and less after bad ones.
    pub(crate) fn learn(&mut self, num_drafted: usize, num_right: usize) {
        self.misses = if num_right == 0 { self.misses + 1 } else { 0 };
        self.budget = if num_right == num_drafted { 2 * self.budget } else { num_right + 1 };
    }
}

pub(crate) struct Speculator {
    speculation: Speculation,
    workspace: Workspace,
}

impl Speculator {
    pub(crate) fn new(speculation: Speculation) -> Self {
        Self { speculation, workspace: Workspace::default() }
    }

    /// Guesses for each sequence; none where it isn't decoding.
    pub(crate) fn propose(
        &mut self,
        active: &mut [Sequence],
        config: &EngineConfig,
        pool: &Pool,
    ) -> Vec<Vec<TokenId>> {
        let mut drafts = vec![Vec::new(); active.len()];
        let max_draft = match self.speculation {
            Speculation::Off => return drafts,
            Speculation::PromptLookup { max_draft } | Speculation::Draft { max_draft, .. } => max_draft,
        };
        let mut asking: Vec<(&mut Sequence, &mut Vec<TokenId>, usize)> = Vec::new();
        for (sequence, drafts) in active.iter_mut().zip(&mut drafts) {
            sequence.drafting.budget = sequence.drafting.budget.min(max_draft);
            // The last token that may still come needs no guess.
            let most = sequence.num_left(config.max_context).saturating_sub(1);
            let most = most.min(sequence.drafting.budget);
            let is_decoding = sequence.tokens.len() == sequence.cache.len() + 1;
            if !sequence.over && is_decoding && sequence.siblings.is_empty() && most > 0 {
                asking.push((sequence, drafts, most));
            }
        }
        match &self.speculation {
            Speculation::Off => {}
            Speculation::PromptLookup { .. } => {
                for (sequence, drafts, most) in asking {
                    let least = MIN_MATCH + sequence.drafting.misses.min(MAX_MATCH - MIN_MATCH);
                    drafts.extend_from_slice(lookup(&sequence.tokens, least, most));
                }
            }
            Speculation::Draft { model, .. } => {
                let model = Arc::clone(model);
                self.ask(&model, asking, config.prefill_chunk, pool);
            }
        }
        drafts
    }

    /// Greedy continuations by the draft model, all sequences together.
    fn ask(
        &mut self,
        model: &Model,
        mut asking: Vec<(&mut Sequence, &mut Vec<TokenId>, usize)>,
        chunk: usize,
        pool: &Pool,
    ) {
        let max_seq_len = model.config().max_seq_len;
        asking.retain(|(sequence, _, most)| sequence.tokens.len() + most <= max_seq_len);
        for (sequence, ..) in &mut asking {
            let drafting = &mut sequence.drafting;
            let cache = drafting.cache.get_or_insert_with(|| KvCache::new(model.decoder.page_layout()));
            let common = common_len(&drafting.fed, &sequence.tokens);
            drafting.fed.truncate(common.min(sequence.tokens.len() - 1));
            cache.truncate(drafting.fed.len());
        }
        while !asking.is_empty() {
            let mut ids = Vec::new();
            let mut rows = Vec::new();
            let mut wanted = Vec::new();
            for (sequence, drafts, _) in &mut asking {
                let drafting = &mut sequence.drafting;
                let known = drafting.fed.len();
                let missing = sequence.tokens.iter().chain(drafts.iter()).skip(known).take(chunk);
                drafting.fed.extend(missing);
                ids.extend_from_slice(&drafting.fed[known..]);
                wanted.push(ids.len() - 1);
                let cache = drafting.cache.as_mut().expect("made above");
                rows.push(Rows { cache, count: drafting.fed.len() - known });
            }
            let mut graph = Eager::new(pool, &mut self.workspace, rows);
            let logits = model.decoder.logits(&mut graph, &ids, &wanted);
            graph.finish();
            for (row, (sequence, drafts, _)) in asking.iter_mut().enumerate() {
                // A long prompt takes several steps to read, and there is no guess before its end.
                if sequence.drafting.fed.len() == sequence.tokens.len() + drafts.len() {
                    drafts.push(greedy(logits.row(row)));
                }
            }
            asking.retain(|(sequence, drafts, most)| {
                let is_behind = sequence.drafting.fed.len() < sequence.tokens.len();
                !is_behind && drafts.len() < *most
            });
        }
    }
}

/// What stood behind the longest earlier occurrence of the last tokens, the latest of equals.
fn lookup(tokens: &[TokenId], least: usize, most: usize) -> &[TokenId] {
    let (mut best, mut length) = (0, least.saturating_sub(1));
    let end = tokens.len();
    for next in (1..end).rev() {
        let equal = |back: usize| tokens[next - back] == tokens[end - back];
        let found = (1..=next.min(MAX_MATCH)).take_while(|&back| equal(back)).count();
        if found > length {
            (best, length) = (next, found);
            if found == MAX_MATCH {
                break;
            }
        }
    }
    match best {
        0 => &[],
        _ => &tokens[best..end.min(best + most)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_looked_up() {
        let cases: [(&[TokenId], &[TokenId]); 7] = [
            (&[], &[]),
            (&[7], &[]),
            (&[1, 2, 3], &[]),
            (&[1, 2, 3, 4, 1, 2], &[3, 4, 1]),
            (&[1, 2, 9, 1, 2, 8, 1, 2], &[8, 1, 2]),
            (&[5, 1, 2, 9, 1, 2, 8, 5, 1, 2], &[9, 1, 2]),
            (&[4, 4, 4, 4], &[4]),
        ];
        for (tokens, expected) in cases {
            assert_eq!(lookup(tokens, 2, 3), expected, "{tokens:?}");
        }
    }
}
