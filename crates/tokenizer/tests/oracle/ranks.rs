//! tiktoken's rank files against `tiktoken-rs`, whose package holds the files.

use std::sync::LazyLock;

use hearth_tokenizer::{Encoding, Tokenizer};
use proptest::prelude::*;
use tiktoken_rs::CoreBPE;

use crate::{LINES, TRICKY};

struct Ranks {
    ours: Tokenizer,
    theirs: CoreBPE,
}

impl Ranks {
    /// The library gives its ranks out as tokens; written back, they are the file it was made from.
    fn of(encoding: Encoding, theirs: CoreBPE, num_ranks: u32) -> Self {
        let mut file = String::new();
        for id in 0..num_ranks {
            if let Ok(bytes) = theirs.decode_bytes(&[id]) {
                file.extend([crate::unigram::base64(&bytes), format!(" {id}\n")]);
            }
        }
        Self { ours: Tokenizer::from_tiktoken(file.as_bytes(), encoding).unwrap(), theirs }
    }

    fn check(&self, text: &str) {
        assert_eq!(self.ours.encode(text), self.theirs.encode_ordinary(text), "{text:?}");
        let special = self.theirs.encode_with_special_tokens(text);
        assert_eq!(self.ours.encode_special(text), special, "{text:?}");
        assert_eq!(self.ours.decode(&self.ours.encode(text)), text);
    }
}

static RANKS: LazyLock<[Ranks; 4]> = LazyLock::new(|| {
    [
        Ranks::of(Encoding::R50k, tiktoken_rs::r50k_base().unwrap(), 50_256),
        Ranks::of(Encoding::P50k, tiktoken_rs::p50k_base().unwrap(), 50_281),
        Ranks::of(Encoding::Cl100k, tiktoken_rs::cl100k_base().unwrap(), 100_256),
        Ranks::of(Encoding::O200k, tiktoken_rs::o200k_base().unwrap(), 199_998),
    ]
});

#[test]
fn rank_file_ids_equal_known_values() {
    let check = |which: usize, text: &str, expected: &[u32]| {
        assert_eq!(RANKS[which].ours.encode(text), expected, "{text:?}");
    };
    check(0, "hello world", &[31373, 995]);
    check(0, &"0".repeat(17), &[8269, 10535, 830]);
    check(2, "today\n  \n", &[31213, 14211]);
    check(
        2,
        "hello123!!!? (안녕하세요!) 😉",
        &[15339, 4513, 12340, 30, 320, 31495, 230, 75265, 243, 92245, 16715, 57037],
    );
    let end = "<|endoftext|>";
    assert_eq!(RANKS[2].ours.encode_special(end), [100_257]);
    assert!(RANKS[2].ours.encode(end).len() > 1, "plain text stays text");
}

#[test]
fn rank_file_ids_equal_on_hard_text() {
    for ranks in RANKS.iter() {
        LINES.iter().chain(&TRICKY).for_each(|text| ranks.check(text));
        for text in [
            "x \n  ",
            "\n\n  ",
            "<|endoftext|> a",
            "camelCase HTTPServer'S 12345",
            "def f(x):\n        return x\n",
        ] {
            ranks.check(text);
        }
        ranks.check(&LINES.concat().repeat(3));
    }
}

#[test]
fn damaged_rank_files_are_errors_that_name_the_line() {
    let check = |file: &[u8], expected: &str| {
        let message = Tokenizer::from_tiktoken(file, Encoding::R50k).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(b"IQ== 0\nIg==", "line 2 of the rank file isn't a token and a rank");
    check(b"IQ== x\n", "line 1 of the rank file has a rank");
    check(b"IQ== 4294967295\n", "below 2^24");
    check(b"I! 0\n", "isn't base64");
    check(b" 0\n", "isn't a token and a rank");
    check(b"= 0\n", "of no bytes");
    check(b"\xff\xfe 0\n", "isn't text");
    // Without any tokens there is nothing to spell text with: all of it is counted as lost.
    let empty = Tokenizer::from_tiktoken(b"", Encoding::R50k).unwrap();
    assert_eq!((empty.encode("ab").len(), empty.num_lost_bytes("ab")), (0, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rank_file_ids_equal_on_any_text(text in any::<String>(), which in 0..4_usize) {
        RANKS[which].check(&text);
    }

    #[test]
    fn rank_file_ids_equal_on_text_of_words(
        text in "(the|Hello|WORLD|ing|'s|'LL| |  |\n|\r\n|\t|/|水压|é|e\u{301}|ǅ|😀|<\\|endoftext\\|>|[0-9]{1,5}|[A-Za-z]{1,5}|\\.){0,14}",
        which in 0..4_usize,
    ) {
        RANKS[which].check(&text);
    }
}
