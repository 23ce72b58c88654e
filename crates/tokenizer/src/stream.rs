//! Tokens in, text out as soon as it is complete: a character whose bytes are spread over tokens is held back.
//!
//! The pieces joined are what [`Tokenizer::decode`] gives for all tokens at once.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;
use crate::vocabulary::TokenId;

#[derive(Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    pending: Vec<u8>,
    has_text: bool,
}

impl StreamDecoder {
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new(), has_text: false }
    }

    /// The text that this token completes; empty while a character is unfinished.
    pub fn push(&mut self, id: TokenId) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        let bytes = self.tokenizer.token_bytes(id);
        let skip = usize::from(!self.has_text && self.tokenizer.strips_first_space(bytes));
        self.has_text |= !bytes.is_empty();
        self.pending.extend_from_slice(&bytes[skip..]);
        take_complete(&mut self.pending)
    }

    /// What is left when the stream ends; an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        self.has_text = false;
        rest
    }
}

/// Moves everything out of `pending` but an unfinished last character.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut used = 0;
    loop {
        match std::str::from_utf8(&pending[used..]) {
            Ok(rest) => {
                text.push_str(rest);
                used = pending.len();
                break;
            }
            Err(error) => {
                let valid = &pending[used..used + error.valid_up_to()];
                text.push_str(&String::from_utf8_lossy(valid));
                used += error.valid_up_to();
                let Some(invalid) = error.error_len() else {
                    break;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                used += invalid;
            }
        }
    }
    pending.drain(..used);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_joined_equal_the_whole(pieces in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xE4), Just(0xBD), Just(0xA0)], 0..5), 0..12)
        ) {
            let mut pending = Vec::new();
            let mut joined = String::new();
            for piece in &pieces {
                pending.extend_from_slice(piece);
                joined.push_str(&take_complete(&mut pending));
                prop_assert!(pending.len() < 4, "an unfinished character has at most three bytes");
            }
            joined.push_str(&String::from_utf8_lossy(&pending));
            let whole = pieces.concat();
            prop_assert_eq!(joined, String::from_utf8_lossy(&whole));
        }
    }
}
