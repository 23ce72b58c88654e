//! A conversation to running answers: what chat completions, messages and responses share.

use std::sync::Arc;

use hearth_engine::{Completion, Engine, Finish, Stream};
use hearth_tokenizer::{ChatFormat, Conversation, Message, Role, TokenId};
use serde_json::{Map, Value};

use crate::answer::{Answer, Marks, Splitter};
use crate::caller::Caller;
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::generate;
use crate::grounding::Cite;
use crate::meter::Meter;
use crate::sampling::Asked;
use crate::state::{Assistant, State};
use crate::tools::Tools;

/// A request that was read whole.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) assistant: Arc<Assistant>,
    pub(crate) conversation: Conversation,
    pub(crate) asked: Asked,
    pub(crate) max_tokens: usize,
    pub(crate) logprobs: Option<usize>,
    pub(crate) tools: Tools,
    /// The number of the request, for the ids of its calls.
    pub(crate) request: u64,
}

/// Answers under way.
pub(crate) struct Asking {
    pub(crate) engine: Arc<Engine>,
    pub(crate) stream: Stream,
    pub(crate) meter: Meter,
    pub(crate) cite: Option<Cite>,
    /// One for each choice.
    pub(crate) splitters: Vec<Splitter>,
    pub(crate) prompt_tokens: usize,
}

struct Prepared {
    engine: Arc<Engine>,
    prompt: Vec<TokenId>,
    cite: Option<Cite>,
}

impl Ask {
    /// What the prompt would cost: for those who only count.
    pub(crate) async fn count(self, state: &Arc<State>) -> Result<usize> {
        let state = Arc::clone(state);
        generate::blocking(move || {
            Ok(prepare(&state, &self.assistant, self.conversation, &self.tools, self.max_tokens)?
                .prompt
                .len())
        })
        .await
    }

    /// Searches documents, renders the prompt and queues it.
    pub(crate) async fn start(
        self,
        state: &Arc<State>,
        caller: &Caller,
        param: &'static str,
    ) -> Result<Asking> {
        let Self { assistant, conversation, asked, max_tokens, logprobs, tools, request } = self;
        let is_grounded = assistant.grounding.is_some();
        let (name, adapter) = (assistant.name.clone(), assistant.adapter.clone());
        let (shared, used) = (Arc::clone(state), tools.clone());
        let prepared =
            generate::blocking(move || prepare(&shared, &assistant, conversation, &used, max_tokens)).await?;
        let engine = prepared.engine;
        let chat = &engine.model().chat;
        let prompt_tokens = prepared.prompt.len();
        let is_thinking = opens_thinking(chat, &prepared.prompt);
        let mut job = asked.request(prepared.prompt, max_tokens, chat.stops());
        job.stop.extend(chat.stop_texts().iter().map(ToString::to_string));
        job.adapter = adapter;
        job.logprobs = logprobs;
        job.client = caller.client();
        let dialect = Dialect::of_template(chat.template());
        if let Some(constraint) = dialect.constraint(&tools) {
            if job.constraint.is_some() {
                return Err(Error::parameter(
                    "tool_choice",
                    "a call that must be made leaves no room for `response_format`",
                ));
            }
            job.constraint = Some(constraint);
        }
        let stream = engine.submit_choices(job, asked.n);
        let stream = stream.map_err(|error| Error::from_engine(error, param, is_grounded))?;
        let has_thinking = chat.template().contains("<think>");
        let may_call = tools.may_call();
        let splitter = |choice: usize| {
            Splitter::new(Marks {
                is_thinking: is_thinking && !tools.must_call(),
                has_thinking: has_thinking && !tools.must_call(),
                tools: may_call.then(|| (tools.clone(), dialect)),
                call_id: format!("call_{:x}{request:04x}{choice:x}", state.started()),
            })
        };
        Ok(Asking {
            engine: Arc::clone(&engine),
            stream,
            meter: Meter::start(state, caller, &name, prompt_tokens),
            cite: prepared.cite,
            splitters: (0..asked.n).map(splitter).collect(),
            prompt_tokens,
        })
    }
}

/// Whether the template has begun the reasoning already.
fn opens_thinking(chat: &ChatFormat, prompt: &[TokenId]) -> bool {
    let tail = chat.tokenizer().decode_special(&prompt[prompt.len().saturating_sub(8)..]);
    tail.trim_end().ends_with("<think>")
}

/// Why an answer ended, as the OpenAI API says it.
pub(crate) fn finish_reason(finish: Finish, has_calls: bool) -> &'static str {
    match finish {
        Finish::Stop if has_calls => "tool_calls",
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// The parts of each whole answer.
pub(crate) fn answers(splitters: Vec<Splitter>, completions: &[Completion]) -> Vec<Answer> {
    splitters
        .into_iter()
        .zip(completions)
        .map(|(splitter, completion)| splitter.whole(&completion.text))
        .collect()
}

/// The assistant's system text, then its passages, then ids.
fn prepare(
    state: &State,
    assistant: &Assistant,
    mut conversation: Conversation,
    tools: &Tools,
    max_tokens: usize,
) -> Result<Prepared> {
    let engine = state.engine_of(assistant)?;
    if let Some(system) = &assistant.system {
        put_system(&mut conversation, system);
    }
    let mut cite = None;
    if let Some(grounding) = &assistant.grounding {
        let max_context = engine.max_context();
        // However long the answer may get, half of the context is the question's.
        let max_prompt_tokens = max_context - max_tokens.min(max_context / 2);
        let grounded = grounding.ground(&conversation, max_prompt_tokens);
        let grounded = grounded.map_err(|reason| Error::Grounding { reason })?;
        conversation = grounded.conversation;
        cite = Some(grounded.cite);
    }
    let chat = &engine.model().chat;
    tools.put(&mut conversation, chat.template());
    let prompt = chat.prompt(&conversation);
    let prompt = prompt.map_err(|error| Error::Template { reason: error.to_string() })?;
    Ok(Prepared { engine, prompt, cite })
}

/// Templates know one system message at the start: the assistant's text goes before the conversation's.
fn put_system(conversation: &mut Conversation, system: &str) {
    match conversation.messages.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content = format!("{system}\n\n{}", first.content);
        }
        _ => conversation.messages.insert(0, Message::system(system)),
    }
}

/// Messages with nothing in them that the template wouldn't see. What clients send back of an earlier answer is let go.
pub(crate) fn messages(values: Vec<Map<String, Value>>) -> Result<Vec<Message>> {
    const READ: [&str; 6] = ["role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"];
    const ECHOED: [&str; 3] = ["refusal", "annotations", "citations"];
    if values.is_empty() {
        return Err(Error::parameter("messages", "must hold at least one message"));
    }
    let message = |(index, mut map): (usize, Map<String, Value>)| {
        map.retain(|key, value| !(ECHOED.contains(&key.as_str()) || value.is_null()));
        if let Some(key) = map.keys().find(|key| !READ.contains(&key.as_str())) {
            return Err(Error::UnknownParameters { names: vec![format!("messages[{index}].{key}")] });
        }
        let parsed = serde_json::from_value(Value::Object(map));
        parsed.map_err(|error| Error::parameter(format!("messages[{index}]"), error.to_string()))
    };
    values.into_iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<Vec<Message>> {
        messages(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn an_echoed_answer_is_read_and_a_foreign_field_is_named() {
        let echoed = json!([{ "role": "assistant", "content": "x", "refusal": null, "citations": [{}], "audio": null }]);
        assert_eq!(read(echoed).unwrap(), [Message::assistant("x")]);
        let error = read(json!([{ "role": "user", "content": "x" }, { "role": "user", "contnet": "x" }]));
        assert!(error.unwrap_err().to_string().contains("`messages[1].contnet`"));
        let error = read(json!([{ "role": "user", "content": [{ "type": "image_url" }] }]));
        assert!(error.unwrap_err().to_string().contains("image_url"));
        assert!(read(json!([])).is_err());
    }

    #[test]
    fn there_is_one_system_message() {
        let mut conversation = Conversation::from(vec![Message::system("b"), Message::user("c")]);
        put_system(&mut conversation, "a");
        assert_eq!(conversation.messages, [Message::system("a\n\nb"), Message::user("c")]);
        let mut conversation = Conversation::from(vec![Message::user("c")]);
        put_system(&mut conversation, "a");
        assert_eq!(conversation.messages, [Message::system("a"), Message::user("c")]);
    }
}
