//! A question answered from the documents, with citations that were checked.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hearth_engine::{Completion, Engine, Request};
use hearth_knowledge::answer::{self, NOT_FOUND_CHINESE, NOT_FOUND_ENGLISH, long_prompt, rag_prompt};
use hearth_knowledge::chunk::Chunk;
use hearth_knowledge::cite::{self, Citation};
use hearth_knowledge::document::Document;
use hearth_knowledge::evidence::{Signs, evidence, signs};
use hearth_knowledge::knowledge_base::Hit;
use hearth_knowledge::rephrase;
use hearth_knowledge::retrieve::{Passage, Retrieved, Source, retrieve};
use hearth_knowledge::words::is_chinese;
use hearth_model::Model;
use hearth_tokenizer::{Conversation, Message};
use serde_json::{Value, json};

use super::Context;
use super::find::{Bases, options, passage_json, reranker, shown};
use crate::args::{KbAskArgs, SearchMethod};

/// Tokens of a prompt with passages at most.
const PROMPT_TOKENS: usize = 1536;
/// Tokens of a reply that isn't the answer: a question, other forms of it.
const REPHRASE_TOKENS: usize = 96;

pub(super) fn run(context: &Context, args: &KbAskArgs) -> Result<()> {
    let bases = Bases::open(context, &args.name, args.method != SearchMethod::Bm25)?;
    let sources = bases.sources();
    let (_, model) = context.machine.model(&args.model, &context.terminal)?;
    let room = args.long_context.unwrap_or(0).max(PROMPT_TOKENS) + 512 + args.max_tokens;
    let chat = Chat { engine: context.machine.engine(&model, room), model };
    let queries = queries(args, &chat)?;
    let method = bases.method(args.method);
    let reranker = reranker(context, &args.find, method)?;
    let options = options(&args.find, method, args.k, reranker.as_deref())?;
    let texts: Vec<&str> = queries.iter().map(String::as_str).collect();
    let found = retrieve(&texts, &sources, &options)?;
    let signs = signs(&queries[0], &found.passages, &sources);
    let answered = if found.passages.is_empty() || evidence(signs) < args.min_evidence {
        let text = if is_chinese(&args.question) { NOT_FOUND_CHINESE } else { NOT_FOUND_ENGLISH };
        Answered { text: text.into(), citations: Vec::new(), completion: None }
    } else {
        match args.long_context {
            Some(tokens) => {
                chat.over_documents(&queries[0], &found.passages, &sources, tokens, args.max_tokens)?
            }
            None => chat.over_passages(&queries[0], &found.passages, args.max_tokens)?,
        }
    };
    show(context, args, &queries, &found, signs, &answered);
    Ok(())
}

/// The question as it stands alone, then other texts to search by.
fn queries(args: &KbAskArgs, chat: &Chat) -> Result<Vec<String>> {
    let mut question = args.question.trim().to_owned();
    if let Some(path) = &args.history {
        let said = history(path)?;
        let said: Vec<(&str, &str)> = said.iter().map(|(role, text)| (&**role, &**text)).collect();
        if let Some(prompt) = rephrase::stand_alone_prompt(&question, &said) {
            question = rephrase::stand_alone(&question, &chat.reply("", prompt, REPHRASE_TOKENS)?.text);
        }
    }
    let mut queries = vec![question.clone()];
    if args.multi_query {
        let reply = chat.reply("", rephrase::forms_prompt(&question), REPHRASE_TOKENS)?;
        queries.extend(rephrase::forms(&question, &reply.text));
    }
    if args.hyde {
        queries.push(chat.reply("", rephrase::made_up_answer_prompt(&question), REPHRASE_TOKENS)?.text);
    }
    Ok(queries)
}

/// `role` and `content`, a line each.
fn history(path: &std::path::Path) -> Result<Vec<(String, String)>> {
    let text = fs_err::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let said = lines.map(|(index, line)| {
        let bad =
            || format!("`{}` line {} should be {{\"role\": …, \"content\": …}}", path.display(), index + 1);
        let value: Value = serde_json::from_str(line).with_context(bad)?;
        let part = |name: &str| value[name].as_str().map(str::to_owned).with_context(bad);
        Ok((part("role")?, part("content")?))
    });
    said.collect()
}

struct Answered {
    text: String,
    citations: Vec<Citation>,
    completion: Option<Completion>,
}

/// A chat model that answers one thing at a time.
struct Chat {
    engine: Arc<Engine>,
    model: Arc<Model>,
}

impl Chat {
    fn reply(&self, system: &str, user: String, max_tokens: usize) -> Result<Completion> {
        let system = (!system.is_empty()).then(|| Message::system(system));
        let messages = system.into_iter().chain([Message::user(user)]).collect();
        let prompt = self.model.chat.prompt(&Conversation { messages, ..Conversation::default() })?;
        let stops = self.model.chat.stops().to_vec();
        let stop = self.model.chat.stop_texts().iter().map(|&stop| stop.to_owned()).collect();
        Ok(self.engine.generate(Request { stop, ..Request::greedy(prompt, max_tokens, stops) })?)
    }

    fn count(&self, text: &str) -> usize {
        self.model.tokenizer().encode(text).len()
    }

    fn over_passages(&self, question: &str, passages: &[Passage<'_>], max_tokens: usize) -> Result<Answered> {
        let hits: Vec<Hit<'_>> =
            passages.iter().enumerate().map(|(index, passage)| passage.hit(index + 1)).collect();
        let prompt = rag_prompt(question, &hits, PROMPT_TOKENS, &|text| self.count(text));
        let used = prompt.passages(&hits);
        let completion = self.reply(&prompt.system, prompt.user, max_tokens)?;
        Ok(answered(completion, &used))
    }

    /// The whole documents of the best passages, the best first, as far as they fit.
    fn over_documents(
        &self,
        question: &str,
        passages: &[Passage<'_>],
        sources: &[Source<'_>],
        tokens: usize,
        max_tokens: usize,
    ) -> Result<Answered> {
        let mut documents: Vec<(&str, &Document)> = Vec::new();
        for passage in passages {
            let named = (passage.base, passage.document);
            if !documents.iter().any(|(base, other)| (*base, other.id) == (named.0, named.1.id)) {
                documents.push(named);
            }
        }
        let whole: Vec<Document> = documents.iter().map(|(_, document)| (*document).clone()).collect();
        let prompt = long_prompt(&whole, tokens, &|text| self.count(text));
        let user = prompt.user(question);
        let completion = self.reply(&prompt.system, user, max_tokens)?;
        let mut hits = Vec::new();
        for (name, document) in documents {
            let base = sources.iter().find(|source| source.name == name).map(|source| source.base);
            let chunks = base.into_iter().flat_map(hearth_knowledge::knowledge_base::KnowledgeBase::chunks);
            for chunk in chunks.filter(|chunk: &&Chunk| chunk.document == document.id) {
                hits.push(Hit::of(hits.len() + 1, chunk, document));
            }
        }
        Ok(answered(completion, &hits))
    }
}

fn answered(completion: Completion, hits: &[Hit<'_>]) -> Answered {
    let citations = cite::cite(&completion.text, hits);
    Answered { text: completion.text.trim().to_owned(), citations, completion: Some(completion) }
}

fn show(
    context: &Context,
    args: &KbAskArgs,
    queries: &[String],
    found: &Retrieved<'_>,
    signs: Signs,
    answered: &Answered,
) {
    let not_found = answer::is_not_found(&answered.text);
    if context.json {
        let passages: Vec<Value> = found
            .passages
            .iter()
            .enumerate()
            .map(|(index, passage)| passage_json(index + 1, passage))
            .collect();
        let usage = answered.completion.as_ref().map(|completion| {
            json!({ "prompt_tokens": completion.usage.prompt_tokens, "completion_tokens": completion.usage.completion_tokens })
        });
        return context.print_json(&json!({
            "question": args.question, "queries": queries, "answer": answered.text, "found": !not_found,
            "evidence": evidence(signs), "signs": { "words": signs.words, "cosine": signs.cosine },
            "citations": answered.citations, "passages": passages, "trace": found.trace, "usage": usage,
        }));
    }
    let mut text = answered.text.clone();
    for citation in answered.citations.iter().filter(|citation| !citation.marked) {
        let mark = format!(" [{}]", citation.index);
        if !text.ends_with(&mark) {
            text.push_str(&mark);
        }
    }
    context.print(&text);
    for citation in &answered.citations {
        let page = citation.page.map(|page| format!(", p. {page}")).unwrap_or_default();
        let heading = citation.heading.as_ref().map(|heading| format!(" · {heading}")).unwrap_or_default();
        context
            .print(&format!("[{}] {}{page}{heading}: “{}”", citation.index, citation.path, citation.quote));
    }
    context.terminal.say(&format!("evidence {:.2}; {}", evidence(signs), shown(&found.trace)));
}
