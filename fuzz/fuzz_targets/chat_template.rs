//! A chat template: compiled, asked for its stops, rendered over a conversation. It runs on a budget.
#![no_main]

use std::sync::Arc;

use hearth_tokenizer::{ChatFormat, Conversation, Message, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TOKENIZER: &[u8] = br#"{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
"added_tokens":[{"id":2,"content":"<|im_end|>","special":true}],
"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}"#;

fuzz_target!(|source: &str| {
    let tokenizer = Tokenizer::from_json(TOKENIZER).expect("a whole tokenizer");
    let Ok(format) = ChatFormat::new(Arc::new(tokenizer), Some(source)) else { return };
    let messages = vec![Message::system("s"), Message::user("u"), Message::assistant("a"), Message::user("<|im_end|>")];
    let conversation = Conversation { messages, ..Conversation::default() };
    let _ = format.prompt(&conversation);
});
