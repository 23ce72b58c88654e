//! Scanners against the patterns they stand for.

use super::*;
use proptest::prelude::*;

fn words(splitters: &[Splitter], text: &str) -> Vec<String> {
    let mut out = Vec::new();
    split(splitters, text, &mut |word| out.push(word.to_owned()));
    out
}

fn by_pattern(pattern: &str) -> Splitter {
    Splitter::Pattern { regex: Box::new(compile(pattern).unwrap()), gaps: Gaps::Kept }
}

fn check_all(text: &str) {
    for (fast, pattern) in [
        (Splitter::Gpt2, GPT2_PATTERN),
        (Splitter::Tiktoken { max_digits: 1 }, QWEN2_PATTERN),
        (Splitter::Tiktoken { max_digits: 3 }, LLAMA3_PATTERN),
        (Splitter::Digits, r"\p{N}"),
    ] {
        let fast = words(&[fast], text);
        assert_eq!(fast, words(&[by_pattern(pattern)], text), "{pattern} on {text:?}");
        assert_eq!(fast.concat(), text);
    }
    let smollm = words(&Splitter::from_gguf("smollm").unwrap(), text);
    assert_eq!(smollm, words(&[by_pattern(r"\p{N}"), by_pattern(GPT2_PATTERN)], text));
}

#[test]
fn scanners_equal_patterns_on_hard_cases() {
    for text in [
        "",
        " ",
        "  ",
        "a",
        "don't DON'T I'LL we've 'sx '' ' 'ſ 're'",
        "two  spaces   three\ttab\n\nnewlines\r\n",
        " \n x \r\n\r\n  y\u{3000}z\u{a0}\u{a0}q",
        "1234567890 3.14159 ½Ⅷ٣",
        "中文，标点。 全角　空格",
        "snake_case <|im_end|>\n\n  (x)\n",
        "e\u{301} \u{200b}zwsp 👨‍👩‍👧‍👦\u{fe0f}",
        "\0\u{1}\u{7f} \u{85} \u{2028}x",
        "trailing   ",
        "\n\n\nx",
        "  .\n\n .",
    ] {
        check_all(text);
    }
}

proptest! {
    #[test]
    fn scanners_equal_patterns_on_any_text(text in any::<String>()) {
        check_all(&text);
    }

    #[test]
    fn scanners_equal_patterns_on_dense_text(
        text in "[ \t\r\n\u{a0}\u{3000}'stREvelLdmDſa中é\u{301}7½.,_<|>-]{0,40}"
    ) {
        check_all(&text);
    }
}

#[test]
fn a_pattern_of_its_own_keeps_the_gaps() {
    assert_eq!(words(&[by_pattern("[0-9]+")], "ab12cd"), ["ab", "12", "cd"]);
}

#[test]
fn an_unknown_name_is_an_error() {
    let message = Splitter::from_gguf("tekken-9").unwrap_err().to_string();
    assert!(message.contains("`tekken-9`"), "{message}");
}
