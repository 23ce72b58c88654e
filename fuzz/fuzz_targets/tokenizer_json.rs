//! A `tokenizer.json`: built, then text encoded and decoded with it.
#![no_main]

use hearth_tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_json(bytes) else { return };
    for text in ["", "Hello, world! 12345", "锅炉\u{301} <|im_end|>\n\n\t ▁x"] {
        let ids = tokenizer.encode(text);
        let _ = tokenizer.decode(&ids);
        let _ = tokenizer.encode_special(text);
    }
});
