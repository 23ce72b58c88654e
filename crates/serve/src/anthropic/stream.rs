//! An answer as the events of the Anthropic API: blocks begin, grow and end, one after the other.

use std::sync::Arc;

use hearth_engine::{Event, Finish, Token, Usage};
use hearth_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{stop_reason, stop_text, usage};
use crate::answer::{Piece, Splitter};
use crate::error::Error;
use crate::generate::{Frame, Parts};

pub(super) struct Writer {
    head: Value,
    splitter: Option<Splitter>,
    tokenizer: Arc<Tokenizer>,
    stops: Vec<String>,
    tokens: Vec<Token>,
    /// Kind of the block that is open.
    open: Option<&'static str>,
    num_blocks: usize,
    end: (&'static str, Option<String>),
}

impl Writer {
    pub(super) fn new(
        mut head: Value,
        splitters: Vec<Splitter>,
        prompt_tokens: usize,
        (tokenizer, stops): (Arc<Tokenizer>, Vec<String>),
    ) -> Self {
        // How much of the prompt was cached is known at the end.
        let known = Usage { prompt_tokens, ..Usage::default() };
        head["usage"] = usage(&known);
        let splitter = splitters.into_iter().next();
        let end = ("end_turn", None);
        Self { head, splitter, tokenizer, stops, tokens: Vec::new(), open: None, num_blocks: 0, end }
    }

    fn close(&mut self, frames: &mut Vec<Frame>) {
        if self.open.take().is_some() {
            let index = self.num_blocks - 1;
            frames.push(named(&json!({ "type": "content_block_stop", "index": index })));
        }
    }

    fn open(&mut self, kind: &'static str, block: &Value, frames: &mut Vec<Frame>) {
        self.close(frames);
        let index = self.num_blocks;
        frames.push(named(&json!({ "type": "content_block_start", "index": index, "content_block": block })));
        self.open = Some(kind);
        self.num_blocks += 1;
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in pieces {
            let delta = match piece {
                Piece::Text(text) => {
                    if self.open != Some("text") {
                        self.open("text", &json!({ "type": "text", "text": "" }), &mut frames);
                    }
                    json!({ "type": "text_delta", "text": text })
                }
                Piece::Reasoning(text) => {
                    if self.open != Some("thinking") {
                        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                        self.open("thinking", &block, &mut frames);
                    }
                    json!({ "type": "thinking_delta", "thinking": text })
                }
                Piece::Call { id, name, .. } => {
                    let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                    self.open("tool_use", &block, &mut frames);
                    continue;
                }
                Piece::Arguments { text, .. } => json!({ "type": "input_json_delta", "partial_json": text }),
            };
            let index = self.num_blocks.saturating_sub(1);
            frames.push(named(&json!({ "type": "content_block_delta", "index": index, "delta": delta })));
        }
        frames
    }
}

/// An event whose name is its `type`.
fn named(value: &Value) -> Frame {
    let name = match value["type"].as_str() {
        Some("message_start") => "message_start",
        Some("content_block_start") => "content_block_start",
        Some("content_block_delta") => "content_block_delta",
        Some("content_block_stop") => "content_block_stop",
        Some("message_delta") => "message_delta",
        Some("message_stop") => "message_stop",
        _ => "error",
    };
    Frame::named(name, value)
}

impl Parts for Writer {
    fn first(&mut self, _: usize) -> Vec<Frame> {
        vec![named(&json!({ "type": "message_start", "message": self.head }))]
    }

    fn event(&mut self, _: usize, event: Event) -> Vec<Frame> {
        match event {
            Event::Token(token) => {
                let pieces = self.splitter.as_mut().map(|splitter| splitter.push(&token.text));
                if !self.stops.is_empty() {
                    self.tokens.push(token);
                }
                self.pieces(pieces.unwrap_or_default())
            }
            Event::Done { finish, usage, text } => {
                let (mut pieces, mut has_calls) = (Vec::new(), false);
                if let Some(splitter) = &mut self.splitter {
                    pieces = splitter.push(&text);
                    pieces.extend(splitter.finish());
                    has_calls = splitter.has_calls();
                }
                let stop = match finish {
                    Finish::Stop => stop_text(&self.tokenizer, &self.tokens, &usage, &self.stops),
                    Finish::Length => None,
                };
                self.end = stop_reason(finish, has_calls, stop);
                let mut frames = self.pieces(pieces);
                if self.num_blocks == 0 {
                    self.open("text", &json!({ "type": "text", "text": "" }), &mut frames);
                }
                self.close(&mut frames);
                frames
            }
            Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&mut self, total: Usage) -> Vec<Frame> {
        let (reason, sequence) = &self.end;
        let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
        vec![
            named(&json!({ "type": "message_delta", "delta": delta, "usage": usage(&total) })),
            named(&json!({ "type": "message_stop" })),
        ]
    }

    fn failed(&self, error: &Error) -> Frame {
        named(&error.anthropic_body())
    }
}
