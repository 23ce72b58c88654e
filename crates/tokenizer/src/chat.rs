//! The one definition of how a conversation becomes ids (promises G1 and G3).
//!
//! [`ChatFormat::prompt`] gives what generation starts from, [`ChatFormat::training`] the same ids with the answers
//! behind them and a mask over the answers; both cut the text at the start of each answer, so that the ids before an
//! answer are the same in training and generation; where a template makes that impossible, [`ChatFormat::trainings`]
//! gives an example for each answer ([`turns`]). Stop ids are found by asking the template.
//! Text of users, documents and tools is guarded before the template sees it ([`guard`]) and never becomes special.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{Serde, Value};

use crate::conversation::{Conversation, Message, Role};
use crate::error::{Error, Result};
use crate::template::{Date, Surroundings, Template};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{TokenId, TokenKind};

mod guard;
mod turns;

use guard::Guard;

pub(crate) const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const PLAIN: &str = "{% for message in messages %}{% if message.role == 'assistant' %}\
                     Assistant: {{ message.content }}{{ eos_token }}\n\
                     {% elif message.role == 'user' %}User: {{ message.content }}\n\
                     {% else %}{{ message.content }}\n\n{% endif %}{% endfor %}\
                     {% if add_generation_prompt %}Assistant:{% endif %}";

/// Control tokens that end an answer in some family, beside eos and what the template itself writes.
const KNOWN_STOPS: [&str; 8] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|end|>",
    "</s>",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    /// The model's own template.
    Model,
    /// The model has none, but its vocabulary has the tokens of `ChatML`.
    ChatMl,
    /// Neither: `User: …` and `Assistant: …`, which keeps the roles apart by words alone.
    Plain,
}

#[derive(Debug)]
pub struct ChatFormat {
    tokenizer: Arc<Tokenizer>,
    template: Template,
    template_source: TemplateSource,
    date: Date,
    stops: Vec<TokenId>,
}

/// One conversation to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub ids: Vec<TokenId>,
    /// True where the assistant wrote the token, its end of turn included.
    pub mask: Vec<bool>,
    pub stops: Vec<TokenId>,
}

impl ChatFormat {
    /// The format of a model with the template its files hold, or of one without a template.
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<&str>) -> Result<Self> {
        let is_chatml =
            ["<|im_start|>", "<|im_end|>"].iter().all(|token| tokenizer.token_to_id(token).is_some());
        let (template, template_source) = match template {
            Some(template) => (template, TemplateSource::Model),
            None if is_chatml => (CHATML, TemplateSource::ChatMl),
            None => (PLAIN, TemplateSource::Plain),
        };
        let template = Template::compile(template)?;
        let date = Date::default();
        let mut format = Self { tokenizer, template, template_source, date, stops: Vec::new() };
        format.stops = format.find_stops();
        Ok(format)
    }

    /// The day for templates that write one; the same for training and serving.
    pub fn with_date(mut self, date: Date) -> Self {
        self.date = date;
        self
    }

    /// The ids that generation starts from: the conversation and the opening of the assistant's turn.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Vec<TokenId>> {
        let scene = self.scene(conversation)?;
        let text = scene.render(conversation.messages.len(), true)?;
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut at = 0;
        for message_index in assistant_turns(conversation) {
            // A template that rewrites earlier turns leaves no boundary to keep.
            let opening = scene.render(message_index, true);
            let start = opening.ok().filter(|opening| text.starts_with(opening.as_str()));
            if let Some(start) = start.map(|opening| opening.len()).filter(|start| *start > at) {
                scene.encode(&text[at..start], at == 0, &mut ids);
                at = start;
            }
        }
        scene.encode(&text[at..], at == 0, &mut ids);
        Ok(ids)
    }

    /// The rendered prompt, to be shown; [`Self::prompt`] knows more than this text can say.
    pub fn prompt_text(&self, conversation: &Conversation) -> Result<String> {
        let scene = self.scene(conversation)?;
        let text = scene.render(conversation.messages.len(), true)?;
        Ok(scene.guard.remove(&text).into_owned())
    }

    /// The rendered conversation without the opening of another answer.
    pub fn conversation_text(&self, conversation: &Conversation) -> Result<String> {
        let scene = self.scene(conversation)?;
        let text = scene.render(conversation.messages.len(), false)?;
        Ok(scene.guard.remove(&text).into_owned())
    }

    /// Ids and loss mask: every answer of the assistant counts, with the token that ends its turn.
    pub fn training(&self, conversation: &Conversation) -> Result<Example> {
        self.learn(conversation, &assistant_turns(conversation).collect::<Vec<_>>())
    }

    /// Whether an answer, or what stands before it, is written otherwise once more messages follow.
    pub(super) fn rewrites(&self, conversation: &Conversation, turns: &[usize]) -> Result<bool> {
        let scene = self.scene(conversation)?;
        let text = scene.render(conversation.messages.len(), false)?;
        for &message_index in turns {
            let (opening, turn) =
                (scene.render(message_index, true)?, scene.render(message_index + 1, false)?);
            if !text.starts_with(&opening) {
                return Ok(true);
            }
            if !turn.starts_with(&opening) {
                continue;
            }
            let end = self.first_stop(&turn, opening.len());
            if end.is_some_and(|end| !text.starts_with(&turn[..end])) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ids, and a mask over the answers at `turns`.
    fn learn(&self, conversation: &Conversation, turns: &[usize]) -> Result<Example> {
        let scene = self.scene(conversation)?;
        let text = scene.render(conversation.messages.len(), false)?;
        let mut example = Example { ids: Vec::new(), mask: Vec::new(), stops: self.stops.clone() };
        let mut at = 0;
        for &message_index in turns {
            let opening = scene.render(message_index, true)?;
            if opening.len() < at || !text.starts_with(&opening) {
                return Err(Error::PromptNotPrefix { message_index });
            }
            let turn = scene.render(message_index + 1, false)?;
            let turn_end = if text.starts_with(&turn) { turn.len() } else { text.len() };
            let end = self
                .first_stop(&text[..turn_end], opening.len())
                .ok_or(Error::NoEndOfTurn { message_index })?;
            for (range, learn) in [(at..opening.len(), false), (opening.len()..end, true)] {
                scene.encode(&text[range.clone()], range.start == 0, &mut example.ids);
                example.mask.resize(example.ids.len(), learn);
            }
            at = end;
        }
        scene.encode(&text[at..], at == 0, &mut example.ids);
        example.mask.resize(example.ids.len(), false);
        if !example.mask.contains(&true) {
            return Err(Error::NothingToLearn);
        }
        if !example.mask.contains(&false) {
            return Err(Error::NothingToAnswer);
        }
        Ok(example)
    }

    /// Ids that end an answer, ascending.
    pub fn stops(&self) -> &[TokenId] {
        &self.stops
    }

    /// Words that end an answer where no token can; to be looked for in the text.
    pub fn stop_texts(&self) -> &'static [&'static str] {
        match self.template_source {
            TemplateSource::Plain => &["\nUser:"],
            TemplateSource::Model | TemplateSource::ChatMl => &[],
        }
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    pub fn template_source(&self) -> TemplateSource {
        self.template_source
    }

    /// The Jinja text in use.
    pub fn template(&self) -> &str {
        &self.template.source
    }

    fn scene(&self, conversation: &Conversation) -> Result<Scene<'_>> {
        let spelled = |id: Option<TokenId>| match id {
            Some(id) => String::from_utf8_lossy(self.tokenizer.token_bytes(id)).into_owned(),
            None => String::new(),
        };
        let guard = Guard::for_conversation(conversation, &self.template.source)?;
        let user = |text: &str| guard.insert(text, self.tokenizer.added_tokens(), |_| true);
        let tools = match conversation.tools.as_slice() {
            [] => Value::from(()),
            tools => Value::from(Serde(guard::map_strings(&tools.to_vec().into(), &user))),
        };
        let around = Surroundings {
            tools,
            bos_token: spelled(self.tokenizer.bos()),
            eos_token: spelled(self.tokenizer.eos()),
            date: self.date,
            variables: Value::from(Serde(variables(conversation, &user)?)),
        };
        let messages = conversation.messages.iter();
        let messages = messages.map(|message| self.guarded(message, guard)).collect();
        Ok(Scene { format: self, guard, around, messages })
    }

    /// Everything a message says, guarded. The assistant may write its user-defined tokens (`<think>`,
    /// `<tool_call>`), as it does when it generates; nobody else may, and control tokens nobody.
    fn guarded(&self, message: &Message, guard: Guard) -> Value {
        let is_assistant = message.role == Role::Assistant;
        let insert = |text: &str| {
            guard.insert(text, self.tokenizer.added_tokens(), |token| {
                !is_assistant || token.kind != TokenKind::UserDefined
            })
        };
        let has_only_calls = message.content.is_empty() && !message.tool_calls.is_empty();
        let calls: Vec<_> = message.tool_calls.iter().map(with_arguments_read).collect();
        let json = serde_json::to_value(message).unwrap_or_default();
        let fields = json.as_object().into_iter().flatten().map(|(name, value)| {
            let value = match name.as_str() {
                "role" => value.clone(),
                // Templates tell such a message by its missing content.
                "content" if has_only_calls => serde_json::Value::Null,
                "tool_calls" => guard::map_strings(&calls.as_slice().into(), &insert),
                _ => guard::map_strings(value, &insert),
            };
            (name.clone(), value)
        });
        Value::from(Serde(fields.collect::<serde_json::Map<_, _>>()))
    }

    /// Eos, what the template writes behind an answer, and the known control tokens of the vocabulary.
    fn find_stops(&self) -> Vec<TokenId> {
        const ANSWER: &str = "Zq7";
        let probe = Conversation::from(vec![Message::user("1"), Message::assistant(ANSWER)]);
        let end_of_turn = || {
            let scene = self.scene(&probe).ok()?;
            let text = scene.render(2, false).ok()?;
            // Templates may write something in front of an answer, such as an empty `<think>`.
            let behind = text.rfind(ANSWER)? + ANSWER.len();
            self.tokenizer.added_tokens().find(&text, behind).map(|found| found.id)
        };
        let known = KNOWN_STOPS.iter().filter_map(|token| self.tokenizer.token_to_id(token));
        let known = known.filter(|id| self.tokenizer.is_special(*id));
        let mut stops: Vec<_> = self.tokenizer.eos().into_iter().chain(end_of_turn()).chain(known).collect();
        stops.sort_unstable();
        stops.dedup();
        stops
    }

    /// End of the first stop token in `text` from `at` on.
    fn first_stop(&self, text: &str, mut at: usize) -> Option<usize> {
        while let Some(found) = self.tokenizer.added_tokens().find(text, at) {
            if self.stops.binary_search(&found.id).is_ok() {
                return Some(found.end);
            }
            at = found.end;
        }
        None
    }
}

/// The API gives arguments as JSON text, templates expect the object it holds; other text stays.
fn with_arguments_read(call: &serde_json::Value) -> serde_json::Value {
    let mut call = call.clone();
    for path in ["/function/arguments", "/arguments"] {
        let Some(arguments) = call.pointer_mut(path) else { continue };
        let read = arguments.as_str().map(serde_json::from_str::<serde_json::Map<_, _>>);
        if let Some(Ok(read)) = read {
            *arguments = read.into();
        }
    }
    call
}

/// The caller's settings, which must not take the place of the conversation's own.
fn variables(
    conversation: &Conversation,
    guarded: &impl Fn(&str) -> String,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    const RESERVED: [&str; 7] = [
        "messages",
        "tools",
        "add_generation_prompt",
        "bos_token",
        "eos_token",
        "strftime_now",
        "raise_exception",
    ];
    let variables = conversation.variables.iter().map(|(name, value)| {
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::ReservedVariable { name: name.clone() });
        }
        Ok((name.clone(), guard::map_strings(value, guarded)))
    });
    variables.collect()
}

fn assistant_turns(conversation: &Conversation) -> impl Iterator<Item = usize> {
    let messages = conversation.messages.iter().enumerate();
    messages.filter(|(_, message)| message.role == Role::Assistant).map(|(index, _)| index)
}

/// A conversation ready to be rendered, any number of its messages at a time.
struct Scene<'f> {
    format: &'f ChatFormat,
    guard: Guard,
    around: Surroundings,
    messages: Vec<Value>,
}

impl Scene<'_> {
    fn render(&self, num_messages: usize, add_generation_prompt: bool) -> Result<String> {
        let messages = &self.messages[..num_messages];
        self.format.template.render(messages, &self.around, add_generation_prompt)
    }

    /// Special tokens are looked for while the guards stand; what is left is plain text without them.
    fn encode(&self, text: &str, is_first: bool, ids: &mut Vec<TokenId>) {
        let clean = |plain| -> Cow<'_, str> { self.guard.remove(plain) };
        self.format.tokenizer.encode_segments(text, is_first, clean, ids);
    }
}
