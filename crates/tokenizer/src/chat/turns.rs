//! Examples for templates that show earlier answers otherwise than they were given: one for each answer.
//!
//! Reasoners' templates leave out what was thought once the next question is there, and open an answer with `<think>`
//! that the finished conversation no longer has. No single row of ids then holds every answer behind the prompt it was
//! generated from; one row an answer does. What the template has left out of the last answer is put back as the model
//! writes it: the thought, `</think>` and an empty line.

use super::{ChatFormat, Example, assistant_turns};
use crate::conversation::{Conversation, Message};
use crate::error::{Error, Result};
use crate::vocabulary::TokenKind;

const THINK: &str = "<think>";
const END_OF_THOUGHT: &str = "</think>";

impl ChatFormat {
    /// All that is to be learned from a conversation: [`Self::training`] where that can be, else an example for each
    /// answer, each behind exactly the ids of [`Self::prompt`]. So it is where the template writes earlier answers
    /// otherwise than the last, as those do that leave out what was thought.
    pub fn trainings(&self, conversation: &Conversation) -> Result<Vec<Example>> {
        let turns: Vec<usize> = assistant_turns(conversation).collect();
        let one_by_one = || turns.iter().map(|&index| self.turn(conversation, index)).collect();
        if turns.len() > 1 && self.rewrites(conversation, &turns)? {
            return one_by_one();
        }
        match self.training(conversation) {
            Err(Error::PromptNotPrefix { .. }) => one_by_one(),
            example => Ok(vec![example?]),
        }
    }

    fn turn(&self, conversation: &Conversation, message_index: usize) -> Result<Example> {
        let mut conversation = conversation.clone();
        conversation.messages.truncate(message_index + 1);
        let scene = self.scene(&conversation)?;
        let opening = scene.render(message_index, true)?;
        let text = scene.render(message_index + 1, false)?;
        let Some(message) = conversation.messages.pop() else {
            return Err(Error::NothingToLearn);
        };
        let begun = BegunThought::of(&opening, &text);
        let start = match &begun {
            _ if text.starts_with(&opening) => opening.len(),
            Some(begun) => begun.start,
            None => return Err(Error::PromptNotPrefix { message_index }),
        };
        let end = self.first_stop(&text, start).ok_or(Error::NoEndOfTurn { message_index })?;
        let mut learned = text[start..end].to_owned();
        if let Some(begun) = begun.filter(|begun| begun.start == start) {
            let thought = scene.guard.insert(thought_of(&message), self.tokenizer.added_tokens(), |token| {
                token.kind != TokenKind::UserDefined
            });
            learned = begun.finish(&opening, &thought, learned.trim_start_matches('\n'));
        }
        let mut ids = self.prompt(&conversation)?;
        let mut mask = vec![false; ids.len()];
        scene.encode(&learned, false, &mut ids);
        mask.resize(ids.len(), true);
        Ok(Example { ids, mask, stops: self.stops.clone() })
    }
}

/// A thought that the opening of an answer begins, and that the finished conversation doesn't show.
struct BegunThought {
    /// Where the answer stands in the conversation.
    start: usize,
    /// The opening ends the thought as well: there is none.
    is_closed: bool,
}

impl BegunThought {
    fn of(opening: &str, text: &str) -> Option<Self> {
        let opening = opening.trim_end();
        let unclosed = opening.strip_suffix(END_OF_THOUGHT);
        let before = unclosed.unwrap_or(opening).trim_end().strip_suffix(THINK)?;
        let answer = text.strip_prefix(before)?;
        (!answer.starts_with(THINK)).then_some(Self { start: before.len(), is_closed: unclosed.is_some() })
    }

    /// What the model writes behind the opening.
    fn finish(&self, opening: &str, thought: &str, answer: &str) -> String {
        let num_breaks = opening.len() - opening.trim_end_matches('\n').len();
        match self.is_closed {
            true => format!("{}{answer}", &"\n\n"[num_breaks.min(2)..]),
            false => format!("{}{thought}\n{END_OF_THOUGHT}\n\n{answer}", &"\n"[num_breaks.min(1)..]),
        }
    }
}

/// What was thought before the answer, kept apart from it or in front of it; nothing if nothing was.
fn thought_of(message: &Message) -> &str {
    let within =
        || message.content.split_once(END_OF_THOUGHT)?.0.split_once(THINK).map(|(_, thought)| thought);
    message.reasoning_content.as_deref().or_else(within).unwrap_or_default().trim_matches('\n')
}
