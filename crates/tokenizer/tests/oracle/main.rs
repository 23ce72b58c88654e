//! Ids against Hugging Face's `tokenizers`, on small vocabularies that it trains here on text of our own.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::sync::Arc;

use hearth_tokenizer::Tokenizer;
use serde_json::Value;

mod byte_bpe;
mod char_bpe;
mod hostile;
mod ranks;
mod training;
mod unigram;
mod wordpiece;

const LINES: [&str; 14] = [
    "The heater turns on when the room falls below the limit that you have set.",
    "Don't open the valve before the pump has stopped; it'll spill, and they've warned us.",
    "  indented text\n\n\twith tabs and   many spaces  \r\n",
    "锅炉启动之前，请先检查水压和阀门。水压不足时不要启动。",
    "如果显示屏出现代码 E17，请关闭电源，等待三十秒后再试。",
    "fn main() {\n    let total: u32 = (1..=10).sum();\n    println!(\"{total}\");\n}",
    "def area(r):\n    return 3.14159 * r ** 2  # square metres",
    "Serial numbers run from 1000 to 2450, and 1,000,000 hours were tested.",
    "naïve café — “quotes” … Ünïcödé Привет мир",
    "😀👍🏽👨‍👩‍👧‍👦 emoji and 日本語のテキスト 한국어",
    "snake_case camelCase kebab-case http://example.com/a?b=c&d=%20#e",
    "the the the that this then there these those heating heater heated heat",
    "请先检查水压。请先检查阀门。请先检查电源。水压和电源都正常。",
    "ALL CAPS AND I'LL SAY IT'S FINE",
];

const TRICKY: [&str; 23] = [
    "",
    " ",
    "\n",
    "a",
    "Hello, world!",
    " leading and trailing ",
    "two  spaces   three\ttab\n\nnewlines\r\n",
    "1234567890 3.14159 1,000,000 ½ Ⅷ ٣",
    "don't can't I'LL we've 'ſ 're",
    "naïve café — “quotes” …",
    "锅炉的水压不足，请检查阀门！全角　空格",
    "日本語のテキスト 中文 한국어",
    "Привет, мир! Ελληνικά",
    "😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈",
    "fn main() {\n    println!(\"{}\", x);\n}",
    "\0\u{1}\u{7f}\u{85} control \u{2028}\u{feff}",
    "e\u{301}A\u{30a} \u{a0}nbsp\u{200b}zwsp ﬁ Å",
    "العربية עברית हिन्दी ไทย",
    "\u{10ffff}\u{e000}\u{fffd}",
    "heaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheater",
    "▁under▁score ▁ ▁▁",
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    "\r\n\r\n  \n x",
];

/// One tokenizer, loaded by both.
struct Pair {
    ours: Arc<Tokenizer>,
    theirs: tokenizers::Tokenizer,
}

impl Pair {
    fn load(json: &Value) -> Self {
        let bytes = serde_json::to_vec(json).unwrap();
        Self {
            ours: Arc::new(Tokenizer::from_json(&bytes).unwrap()),
            theirs: tokenizers::Tokenizer::from_bytes(&bytes).unwrap(),
        }
    }

    fn check(&self, text: &str) {
        let theirs = self.theirs.encode(text, false).unwrap();
        assert_eq!(self.ours.encode_special(text), theirs.get_ids(), "{text:?}");
        let wrapped = self.theirs.encode(text, true).unwrap();
        assert_eq!(self.ours.wrap(&self.ours.encode_special(text)), wrapped.get_ids(), "{text:?}");
    }

    fn check_tricky(&self) {
        LINES.iter().chain(&TRICKY).for_each(|text| self.check(text));
        self.check(&LINES.concat().repeat(20));
    }
}
