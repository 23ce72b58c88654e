//! Models that read a question and passages together, more slowly than an index and with more care.

use anyhow::Result;
use hearth_engine::score::log_probs;
use hearth_knowledge::embed::Reranker;
use hearth_model::Model;
use std::sync::Arc;

use crate::commands::Context;
use crate::models::Machine;

/// Opens a reranker by the name of a chat model.
pub(crate) fn load(context: &Context, name: &str) -> Result<Box<dyn Reranker>> {
    let (local, model) = context.machine.model(name, &context.terminal)?;
    Ok(Box::new(QueryLikelihood { name: local.name, model, machine: context.machine.clone() }))
}

/// The log-probability that the model writes the question after reading the passage (Sachan et al. 2022), a token.
struct QueryLikelihood {
    name: String,
    model: Arc<Model>,
    machine: Machine,
}

/// Tokens of a passage that are read.
const PASSAGE_TOKENS: usize = 160;

impl Reranker for QueryLikelihood {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>, String> {
        let tokenizer = self.model.tokenizer();
        let question = tokenizer.encode(&format!(" {}", query.trim()));
        let score = |passage: &&str| {
            let mut ids: Vec<_> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
            ids.extend(
                tokenizer.encode(&format!("Passage: {}", passage.trim())).into_iter().take(PASSAGE_TOKENS),
            );
            ids.extend(tokenizer.encode("\nQuestion about this passage:"));
            let from = ids.len() - 1;
            ids.extend(&question);
            let found = log_probs(&self.model.decoder, &self.machine.pool, &ids, from);
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.iter().sum::<f32>() / found.len().max(1) as f32)
        };
        passages.iter().map(score).collect()
    }
}
