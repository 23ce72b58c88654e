//! A response as events: items begin, grow and end, one after the other, each event with its number.

use hearth_engine::{Event, Finish, Usage};
use serde_json::{Value, json};

use super::{Body, call_item, item_id, message_item, part, reasoning_item, status_of};
use crate::answer::{Piece, Splitter};
use crate::error::Error;
use crate::generate::{Frame, Parts};

/// The item that is growing.
enum Open {
    Message(String),
    Reasoning(String),
    Call { call_id: String, name: String, arguments: String },
}

pub(super) struct Writer {
    body: Body,
    splitter: Option<Splitter>,
    open: Option<Open>,
    output: Vec<Value>,
    finish: Finish,
    num_events: u64,
}

impl Writer {
    pub(super) fn new(body: Body, splitters: Vec<Splitter>) -> Self {
        let splitter = splitters.into_iter().next();
        Self { body, splitter, open: None, output: Vec::new(), finish: Finish::Stop, num_events: 0 }
    }

    fn frame(&mut self, kind: &'static str, mut value: Value) -> Frame {
        value["type"] = kind.into();
        value["sequence_number"] = self.num_events.into();
        self.num_events += 1;
        Frame::named(kind, &value)
    }

    /// An event of the item that is open.
    fn of_item(&mut self, kind: &'static str, mut value: Value) -> Frame {
        value["item_id"] = self.open_id().into();
        value["output_index"] = self.output.len().into();
        self.frame(kind, value)
    }

    fn open_id(&self) -> String {
        let kind = match self.open {
            Some(Open::Message(_)) | None => "msg",
            Some(Open::Reasoning(_)) => "rs",
            Some(Open::Call { .. }) => "fc",
        };
        item_id(&self.body.id, kind, self.output.len())
    }

    fn open(&mut self, open: Open, frames: &mut Vec<Frame>) {
        self.close("completed", frames);
        self.open = Some(open);
        let id = self.open_id();
        let item = match &self.open {
            Some(Open::Reasoning(_)) => json!({
                "id": id, "type": "reasoning", "status": "in_progress", "summary": [], "content": [],
            }),
            Some(Open::Call { call_id, name, .. }) => call_item(&id, (call_id, name, ""), "in_progress"),
            _ => message_item(&id, Vec::new(), "in_progress"),
        };
        let place = self.output.len();
        frames.push(self.frame("response.output_item.added", json!({ "output_index": place, "item": item })));
        if let Some(Open::Message(_)) = self.open {
            let value = json!({ "content_index": 0, "part": part("") });
            frames.push(self.of_item("response.content_part.added", value));
        }
    }

    fn close(&mut self, status: &str, frames: &mut Vec<Frame>) {
        let Some(open) = &self.open else {
            return;
        };
        let id = self.open_id();
        let item = match open {
            Open::Message(text) => {
                let text = text.clone();
                let value = json!({ "content_index": 0, "text": text, "logprobs": [] });
                frames.push(self.of_item("response.output_text.done", value));
                let value = json!({ "content_index": 0, "part": part(&text) });
                frames.push(self.of_item("response.content_part.done", value));
                message_item(&id, vec![part(&text)], status)
            }
            Open::Reasoning(text) => {
                let text = text.clone();
                let value = json!({ "content_index": 0, "text": text });
                frames.push(self.of_item("response.reasoning_text.done", value));
                reasoning_item(&id, &text, status)
            }
            Open::Call { call_id, name, arguments } => {
                let (call_id, name, arguments) = (call_id.clone(), name.clone(), arguments.clone());
                let value = json!({ "name": name, "arguments": arguments });
                frames.push(self.of_item("response.function_call_arguments.done", value));
                call_item(&id, (&call_id, &name, &arguments), status)
            }
        };
        let place = self.output.len();
        frames.push(self.frame("response.output_item.done", json!({ "output_index": place, "item": item })));
        self.output.push(item);
        self.open = None;
    }

    fn piece(&mut self, piece: Piece, frames: &mut Vec<Frame>) {
        match piece {
            Piece::Text(text) => {
                if !matches!(self.open, Some(Open::Message(_))) {
                    self.open(Open::Message(String::new()), frames);
                }
                if let Some(Open::Message(all)) = &mut self.open {
                    *all += &text;
                }
                let value = json!({ "content_index": 0, "delta": text, "logprobs": [] });
                frames.push(self.of_item("response.output_text.delta", value));
            }
            Piece::Reasoning(text) => {
                if !matches!(self.open, Some(Open::Reasoning(_))) {
                    self.open(Open::Reasoning(String::new()), frames);
                }
                if let Some(Open::Reasoning(all)) = &mut self.open {
                    *all += &text;
                }
                let value = json!({ "content_index": 0, "delta": text });
                frames.push(self.of_item("response.reasoning_text.delta", value));
            }
            Piece::Call { id, name, .. } => {
                self.open(Open::Call { call_id: id, name, arguments: String::new() }, frames);
            }
            Piece::Arguments { text, .. } => {
                if let Some(Open::Call { arguments, .. }) = &mut self.open {
                    *arguments += &text;
                }
                let value = json!({ "delta": text });
                frames.push(self.of_item("response.function_call_arguments.delta", value));
            }
        }
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in pieces {
            self.piece(piece, &mut frames);
        }
        frames
    }
}

impl Parts for Writer {
    fn first(&mut self, _: usize) -> Vec<Frame> {
        let response = self.body.value("in_progress", Vec::new());
        ["response.created", "response.in_progress"]
            .map(|kind| self.frame(kind, json!({ "response": response })))
            .into()
    }

    fn event(&mut self, _: usize, event: Event) -> Vec<Frame> {
        match event {
            Event::Token(token) => {
                let pieces = self.splitter.as_mut().map(|splitter| splitter.push(&token.text));
                self.pieces(pieces.unwrap_or_default())
            }
            Event::Done { finish, text, .. } => {
                self.finish = finish;
                let mut pieces = Vec::new();
                if let Some(splitter) = &mut self.splitter {
                    pieces = splitter.push(&text);
                    pieces.extend(splitter.finish());
                }
                let mut frames = self.pieces(pieces);
                if self.open.is_none() && self.output.is_empty() {
                    self.open(Open::Message(String::new()), &mut frames);
                }
                self.close(status_of(finish), &mut frames);
                frames
            }
            Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&mut self, usage: Usage) -> Vec<Frame> {
        let response = self.body.whole(std::mem::take(&mut self.output), self.finish, usage);
        let kind = match self.finish {
            Finish::Stop => "response.completed",
            Finish::Length => "response.incomplete",
        };
        vec![self.frame(kind, json!({ "response": response }))]
    }

    fn failed(&self, error: &Error) -> Frame {
        let body = error.body();
        let value = json!({
            "type": "error", "sequence_number": self.num_events, "code": body["error"]["code"],
            "message": body["error"]["message"], "param": body["error"]["param"],
        });
        Frame::named("error", &value)
    }
}
