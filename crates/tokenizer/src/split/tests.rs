//! Scanners against the patterns they stand for.

use std::sync::LazyLock;

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

/// Each pattern as a scanner and as a regular expression.
static BOTH: LazyLock<Vec<(Splitter, Splitter)>> = LazyLock::new(|| {
    use families::{CL100K, CL100K_PORTABLE, GPT2, LLAMA3, NANOCHAT, O200K, QWEN2, TEKKEN};
    let patterns = [GPT2, QWEN2, LLAMA3, CL100K, O200K, TEKKEN, r"\p{N}", CL100K_PORTABLE, NANOCHAT];
    let both = patterns.map(|pattern| (Splitter::from_pattern(pattern).unwrap(), by_pattern(pattern)));
    both.into_iter().collect()
});

fn check_all(text: &str) {
    for (scanner, pattern) in BOTH.iter() {
        assert!(!matches!(scanner, Splitter::Pattern { .. }), "{pattern:?} has a scanner");
        let fast = words(std::slice::from_ref(scanner), text);
        assert_eq!(fast, words(std::slice::from_ref(pattern), text), "{pattern:?} on {text:?}");
        assert_eq!(fast.concat(), text);
    }
    let smollm = words(&Splitter::from_gguf("smollm").unwrap(), text);
    assert_eq!(smollm, words(&[BOTH[6].1.clone(), BOTH[0].1.clone()], text));
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
        "camelCase HTTPServer XMLHttpRequestS'Ts iPhone'S ǅabc ʰʰ中A中B aʰB",
        "a/b//\n/\n c.\r\n/x ./\n",
        "x \n  ",
        "\u{301}\u{301}A\u{301}bC .\u{301}Ab 'ſ a'ſ",
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
        text in "[ \t\r\n\u{a0}\u{3000}'stREvelLdmDſa中éǅʰ\u{301}7½.,_<|>/-]{0,40}"
    ) {
        check_all(&text);
    }
}

#[test]
fn a_pattern_of_its_own_keeps_the_gaps() {
    assert_eq!(words(&[by_pattern("[0-9]+")], "ab12cd"), ["ab", "12", "cd"]);
}

#[test]
fn families_split_as_their_published_patterns_do() {
    let check = |pre: &str, text: &str, expected: &[&str]| {
        assert_eq!(words(&Splitter::from_gguf(pre).unwrap(), text), expected, "{pre}");
    };
    check("deepseek-v3", "a1234 你好x", &["a", "123", "4", " ", "你好", "x"]);
    check("deepseek-coder", "def f():\n  x12", &["def", " f", "():", "\n", " ", " x", "1", "2"]);
    check("falcon", "don't 12345!", &["don", "'", "t", " ", "123", "45", "!"]);
    check("gpt-4o", "helloWorld 1234", &["hello", "World", " ", "123", "4"]);
    check("tekken", "it's 12", &["it", "'s", " ", "1", "2"]);
    check("bloom", "a, b", &["a", ",", " b"]);
    check("glm4", "1234", &["123", "4"]);
    check("qwen35", "e\u{301}t 12", &["e\u{301}t", " ", "1", "2"]);
}

#[test]
fn an_unknown_name_is_an_error() {
    let message = Splitter::from_gguf("tekken-9").unwrap_err().to_string();
    assert!(message.contains("`tekken-9`"), "{message}");
}
