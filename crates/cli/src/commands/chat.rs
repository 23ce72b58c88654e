//! `hearth chat`: a conversation in the terminal, or one question a line from a pipe.
//!
//! Answers come as they are made. Ctrl-C ends an answer and not the program; what was said by then stays in the
//! conversation. Every conversation is kept in the home folder.

mod saved;
mod slash;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use hearth_engine::{Engine, Error, Event, Finish, Request, Usage};
use hearth_knowledge::extract;
use hearth_tokenizer::{Conversation, Message, Role};
use serde_json::json;

use super::Context;
use super::generate::finish_name;
use crate::args::ChatArgs;
use saved::Saved;
use slash::Slash;

pub(super) fn run(context: &Context, args: ChatArgs) -> Result<()> {
    let is_interactive = std::io::stdin().is_terminal() && !context.json;
    let loaded = args.load.as_deref().map(Saved::read).transpose()?;
    args.sampling.sampling().check()?;
    let (local, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    let model = context.machine.adapted(model, args.adapter.as_deref())?;
    let terminal = &context.terminal;
    let engine = context.machine.guessing_engine(&model, args.context, &args.speculation, terminal)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let folder = context.machine.home.chats();
    let system = args.system.as_deref().map(Message::system);
    let mut chat = Chat {
        kept: folder.join(format!("{seconds}-{}.json", std::process::id())),
        messages: loaded.map_or_else(|| system.into_iter().collect(), |saved| saved.messages),
        context,
        args,
        name: local.name,
        engine,
        attached: Vec::new(),
        is_interactive,
    };
    if is_interactive {
        terminal.say(&format!("{}; /help lists what else can be done, /exit leaves", chat.name));
    }
    chat.talk()
}

struct Chat<'a> {
    context: &'a Context,
    args: ChatArgs,
    name: String,
    engine: Arc<Engine>,
    messages: Vec<Message>,
    /// Files that go with the next message.
    attached: Vec<String>,
    /// Where this conversation is kept.
    kept: PathBuf,
    is_interactive: bool,
}

impl Chat<'_> {
    /// Reads lines to the end. What goes wrong ends a pipe and is only said to a person.
    fn talk(&mut self) -> Result<()> {
        while let Some(line) = self.read()? {
            self.context.terminal.forget_interrupt();
            let done = match Slash::parse(&line) {
                None if line.trim().is_empty() => continue,
                None => self.ask(&line),
                Some(Ok(Slash::Exit)) => return Ok(()),
                Some(Ok(command)) => self.obey(command),
                Some(Err(message)) => Err(anyhow::anyhow!(message)),
            };
            match done {
                Ok(()) => {}
                Err(error) if self.is_interactive => self.context.terminal.say(&format!("error: {error:#}")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A message: a line, or several where each but the last ends in a backslash.
    fn read(&self) -> Result<Option<String>> {
        let mut text = String::new();
        loop {
            if self.is_interactive {
                self.context.terminal.ask(if text.is_empty() { "> " } else { "… " });
            }
            let before = text.len();
            if std::io::stdin().lock().read_line(&mut text).context("standard input can't be read")? == 0 {
                return Ok((before > 0).then_some(text));
            }
            let end = text.trim_end_matches(['\n', '\r']).len();
            text.truncate(end);
            if !text.ends_with('\\') {
                return Ok(Some(text));
            }
            text.pop();
            text.push('\n');
        }
    }

    fn ask(&mut self, text: &str) -> Result<()> {
        let content = self.attached.iter().map(String::as_str).chain([text]).collect::<Vec<_>>().join("\n\n");
        self.messages.push(Message::user(content));
        match self.answer() {
            Ok(answer) => {
                self.attached.clear();
                self.messages.push(Message::assistant(answer));
                let saved = Saved { model: self.name.clone(), messages: self.messages.clone() };
                saved.write(&self.kept)
            }
            Err(error) => {
                // The conversation stays what it was, and what is attached waits for the next try.
                self.messages.pop();
                Err(error)
            }
        }
    }

    fn answer(&self) -> Result<String> {
        let model = self.engine.model();
        let conversation = Conversation { messages: self.messages.clone(), ..Conversation::default() };
        let request = Request {
            sampling: self.args.sampling.sampling(),
            stop: model.chat.stop_texts().iter().map(|&stop| stop.to_owned()).collect(),
            ..Request::greedy(
                model.chat.prompt(&conversation)?,
                self.args.max_tokens,
                model.chat.stops().to_vec(),
            )
        };
        let stream = self.engine.submit(request).map_err(|error| match error {
            Error::ContextTooLong { .. } => anyhow::anyhow!(
                "{error}\nhint: /clear begins anew, a larger `--context` holds more (this model: {})",
                model.config().max_seq_len
            ),
            other => other.into(),
        })?;
        self.context.terminal.watch_answer(Some(stream.canceller()));
        let mut answer = String::new();
        let end = loop {
            match stream.next_event().unwrap_or(Event::Failed(Error::Stopped)) {
                Event::Token(token) => self.show(&mut answer, &token.text),
                Event::Done { text, finish, usage } => {
                    self.show(&mut answer, &text);
                    break Ok(Some((finish, usage)));
                }
                Event::Failed(Error::Cancelled) => break Ok(None),
                Event::Failed(error) => break Err(error),
            }
        };
        self.context.terminal.watch_answer(None);
        self.finish(&answer, end?);
        Ok(answer)
    }

    fn show(&self, answer: &mut String, text: &str) {
        answer.push_str(text);
        if !self.context.json {
            let mut out = std::io::stdout();
            // A reader that has hung up is noticed at the answer's end.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// The end of an answer; `None` is one that was stopped.
    fn finish(&self, answer: &str, end: Option<(Finish, Usage)>) {
        let finish = end.map_or("cancelled", |(finish, _)| finish_name(finish));
        if self.context.json {
            let usage = end.map(|(_, usage)| usage).unwrap_or_default();
            return self.context.print_json(&json!({
                "text": answer, "finish": finish, "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens, "completion_tokens": usage.completion_tokens,
            }));
        }
        self.context.print("");
        match finish {
            "cancelled" => self.context.terminal.say("(stopped)"),
            "length" => self.context.terminal.say("(the answer reached its limit; /set max_tokens N)"),
            _ => {}
        }
    }

    fn obey(&mut self, command: Slash) -> Result<()> {
        let say = |text: &str| self.context.terminal.say(text);
        match command {
            Slash::Help => say(slash::HELP),
            Slash::Exit => {}
            Slash::Clear => {
                self.messages.retain(|message| message.role == Role::System);
                self.attached.clear();
                say("the conversation begins anew");
            }
            Slash::Save(path) => {
                let saved = Saved { model: self.name.clone(), messages: self.messages.clone() };
                saved.write(&path)?;
                say(&format!("saved to `{}`", path.display()));
            }
            Slash::Load(path) => {
                let saved = Saved::read(&path)?;
                say(&format!("{} messages with `{}`", saved.messages.len(), saved.model));
                self.messages = saved.messages;
            }
            Slash::File(path) => {
                let text = read_document(&path)?;
                let num_tokens = self.engine.model().tokenizer().encode(&text).len();
                say(&format!("`{}` goes with your next message: {num_tokens} tokens", path.display()));
                self.attached.push(format!("Content of {}:\n\n{text}", path.display()));
            }
            Slash::System(text) => {
                self.messages.retain(|message| message.role != Role::System);
                if !text.is_empty() {
                    self.messages.insert(0, Message::system(text));
                }
            }
            Slash::Set(name, value) => self.set(&name, &value)?,
        }
        Ok(())
    }

    /// Nothing changes if the value can't be used.
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if name.trim_start_matches("--").replace('-', "_") == "max_tokens" {
            self.args.max_tokens = value.parse().with_context(|| format!("`{value}` isn't a number"))?;
            return Ok(());
        }
        let mut changed = self.args.sampling.clone();
        if let Err(message) = changed.set(name, value) {
            bail!(message);
        }
        changed.sampling().check()?;
        self.args.sampling = changed;
        Ok(())
    }
}

/// Text of a file: as knowledge bases read it where its type is known, else as it is.
fn read_document(path: &Path) -> Result<String> {
    let bytes = fs_err::read(path)?;
    if let Some(kind) = extract::kind_of(path) {
        let document = extract::extract(&path.to_string_lossy(), kind, &bytes);
        return Ok(document.with_context(|| format!("`{}` can't be read", path.display()))?.text());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            bail!("`{}` isn't text: the byte at {offset} isn't UTF-8", path.display())
        }
    }
}
