//! C4's rules for lines and pages (Raffel et al., 2020), as `FineWeb` uses them, and boilerplate of Chinese and English pages.
//!
//! Names of reasons are those of datatrove's `C4QualityFilter`.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use serde::{Deserialize, Serialize};

use crate::units;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "rules that are switched on and off one by one")]
pub struct C4 {
    pub enabled: bool,
    /// Lines must end a sentence. Off, as in `FineWeb`: it takes headings and lists.
    pub terminal_punctuation: bool,
    pub min_sentences: usize,
    /// Units of a line; 0 keeps headings.
    pub min_words_per_line: usize,
    pub max_word_length: usize,
    pub lorem_ipsum: bool,
    pub javascript: bool,
    /// Pages with a curly bracket go: they are mostly code.
    pub curly_bracket: bool,
    pub policy: bool,
    /// Short lines of sharing, navigation, copyright and registration, in Chinese and English.
    pub boilerplate: bool,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            enabled: true,
            terminal_punctuation: false,
            min_sentences: 5,
            min_words_per_line: 3,
            max_word_length: 1000,
            lorem_ipsum: true,
            javascript: true,
            curly_bracket: true,
            policy: true,
            boilerplate: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phrase {
    LoremIpsum,
    JavaScript,
    Policy,
    Boilerplate,
}

const PHRASES: [(&str, Phrase); 41] = [
    ("lorem ipsum", Phrase::LoremIpsum),
    ("javascript", Phrase::JavaScript),
    ("terms of use", Phrase::Policy),
    ("privacy policy", Phrase::Policy),
    ("cookie policy", Phrase::Policy),
    ("uses cookies", Phrase::Policy),
    ("use of cookies", Phrase::Policy),
    ("use cookies", Phrase::Policy),
    ("隐私政策", Phrase::Policy),
    ("隐私条款", Phrase::Policy),
    ("使用条款", Phrase::Policy),
    ("all rights reserved", Phrase::Boilerplate),
    ("click here to", Phrase::Boilerplate),
    ("share on facebook", Phrase::Boilerplate),
    ("share this:", Phrase::Boilerplate),
    ("skip to content", Phrase::Boilerplate),
    ("powered by wordpress", Phrase::Boilerplate),
    ("leave a reply", Phrase::Boilerplate),
    ("log in to reply", Phrase::Boilerplate),
    ("subscribe to our newsletter", Phrase::Boilerplate),
    ("版权所有", Phrase::Boilerplate),
    ("icp备", Phrase::Boilerplate),
    ("公网安备", Phrase::Boilerplate),
    ("未经授权", Phrase::Boilerplate),
    ("转载请注明", Phrase::Boilerplate),
    ("禁止转载", Phrase::Boilerplate),
    ("免责声明", Phrase::Boilerplate),
    ("上一篇", Phrase::Boilerplate),
    ("下一篇", Phrase::Boilerplate),
    ("相关阅读", Phrase::Boilerplate),
    ("相关推荐", Phrase::Boilerplate),
    ("点击查看", Phrase::Boilerplate),
    ("点击进入", Phrase::Boilerplate),
    ("返回首页", Phrase::Boilerplate),
    ("返回顶部", Phrase::Boilerplate),
    ("加入收藏", Phrase::Boilerplate),
    ("设为首页", Phrase::Boilerplate),
    ("分享到", Phrase::Boilerplate),
    ("扫描二维码", Phrase::Boilerplate),
    ("关注微信公众号", Phrase::Boilerplate),
    ("责任编辑：", Phrase::Boilerplate),
];

/// A longer line says something beside its boilerplate. In bytes: some 35 words, or 65 Chinese characters.
const MAX_BOILERPLATE_BYTES: usize = 200;
const END_MARKS: &[char] = &[
    '.', '?', '!', '"', '\'', '”', '’', '。', '？', '！', '；', '…', '」', '』', '）', ')', '」', '】', '．',
    '؟', '।', '۔',
];

#[derive(Debug)]
pub(super) struct LineFilter {
    phrases: Option<AhoCorasick>,
    found: Vec<(usize, Phrase)>,
}

impl LineFilter {
    pub(super) fn new(config: &C4) -> Self {
        let builder = || {
            AhoCorasickBuilder::new()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::DFA))
                .build(PHRASES.iter().map(|phrase| phrase.0))
                .ok()
        };
        Self { phrases: config.enabled.then(builder).flatten(), found: Vec::new() }
    }

    /// Removes lines; true if the text was changed, a reason if all of it has to go.
    pub(super) fn filter(
        &mut self,
        text: &mut String,
        config: &C4,
        removed: &mut BTreeMap<String, u64>,
    ) -> Result<bool, &'static str> {
        if config.curly_bracket && memchr::memchr(b'{', text.as_bytes()).is_some() {
            return Err("curly_bracket");
        }
        self.found.clear();
        if let Some(phrases) = &self.phrases {
            for found in phrases.find_iter(text.as_str()) {
                self.found.push((found.start(), PHRASES[found.pattern().as_usize()].1));
            }
        }
        if config.lorem_ipsum && self.found.iter().any(|found| found.1 == Phrase::LoremIpsum) {
            return Err("lorem_ipsum");
        }
        let mut kept = String::new();
        let (mut changed, mut num_sentences, mut at, mut next) = (false, 0, 0, 0);
        for line in text.split_inclusive('\n') {
            let end = at + line.len();
            let from = next;
            while next < self.found.len() && self.found[next].0 < end {
                next += 1;
            }
            let trimmed = line.trim();
            match reason(trimmed, config, &self.found[from..next]).filter(|_| !trimmed.is_empty()) {
                Some(reason) => {
                    if !changed {
                        kept.push_str(&text[..at]);
                        changed = true;
                    }
                    match removed.get_mut(reason) {
                        Some(lines) => *lines += 1,
                        None => _ = removed.insert(reason.into(), 1),
                    }
                }
                None => {
                    num_sentences += sentences(trimmed);
                    if changed {
                        kept.push_str(line);
                    }
                }
            }
            at = end;
        }
        if num_sentences < config.min_sentences {
            return Err("too_few_sentences");
        }
        if changed {
            *text = kept.trim().to_owned();
        }
        Ok(changed)
    }
}

/// Why a line goes.
fn reason(line: &str, config: &C4, found: &[(usize, Phrase)]) -> Option<&'static str> {
    let has = |phrase: Phrase| found.iter().any(|found| found.1 == phrase);
    if line.len() > config.max_word_length && has_long_word(line, config.max_word_length) {
        return Some("too_long_word");
    }
    if config.terminal_punctuation && (!line.ends_with(END_MARKS) || line.ends_with("...")) {
        return Some("no_terminal_punc");
    }
    // A Chinese character is a unit, so that short Chinese sentences aren't taken for single words.
    if few_words(line, config.min_words_per_line) {
        return Some("too_few_words");
    }
    if config.javascript && has(Phrase::JavaScript) {
        return Some("javascript");
    }
    if config.policy && has(Phrase::Policy) {
        return Some("policy");
    }
    (config.boilerplate && has(Phrase::Boilerplate) && line.len() <= MAX_BOILERPLATE_BYTES)
        .then_some("boilerplate")
}

fn has_long_word(line: &str, max: usize) -> bool {
    // Chinese has no spaces, and its sentences are no words.
    line.split_ascii_whitespace().any(|word| word.len() > max && units::num_han(word) * 6 < word.len())
}

/// Fewer words than `min`? Stops counting as soon as there are enough.
fn few_words(line: &str, min: usize) -> bool {
    let (mut count, mut in_word) = (0, false);
    for c in line.chars() {
        if count + usize::from(in_word) >= min {
            return false;
        }
        if units::is_unspaced(c) {
            count += 1 + usize::from(in_word);
            in_word = false;
        } else if c.is_whitespace() {
            count += usize::from(in_word);
            in_word = false;
        } else {
            in_word = true;
        }
    }
    count + usize::from(in_word) < min
}

/// Ends of sentences: a mark before white space or the line's end, or a Chinese one anywhere.
fn sentences(line: &str) -> usize {
    let bytes = line.as_bytes();
    let mut count = 0;
    let mut ended = false;
    for at in memchr::memchr3_iter(b'.', b'!', b'?', bytes) {
        let next = bytes.get(at + 1);
        if next.is_none_or(|next| next.is_ascii_whitespace() || matches!(next, b'"' | b'\'' | b')')) {
            count += 1;
        }
        ended = at + 1 == bytes.len();
    }
    if !line.is_ascii() {
        for at in memchr::memchr2_iter(0xe3, 0xef, bytes) {
            // 。 ！ ？ ；
            let mark = bytes.get(at..at + 3);
            if matches!(mark, Some([0xe3, 0x80, 0x82] | [0xef, 0xbc, 0x81 | 0x9f | 0x9b])) {
                count += 1;
                ended = at + 3 == bytes.len();
            }
        }
    }
    // A line that doesn't end with a mark is a sentence all the same, as for the splitter of NLTK.
    count + usize::from(!ended && !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boilerplate_lines_go_and_are_counted() {
        let mut text = "One thing is this. Two. Three. Four.\nPlease enable JavaScript to go on now.\n\
            这是一句完整的话，没有问题。\n京ICP备12345678号\nFive is the last one.\n"
            .to_owned();
        let mut removed = BTreeMap::new();
        let config = C4::default();
        assert_eq!(LineFilter::new(&config).filter(&mut text, &config, &mut removed), Ok(true));
        assert_eq!(
            text,
            "One thing is this. Two. Three. Four.\n这是一句完整的话，没有问题。\nFive is the last one."
        );
        assert_eq!(removed, BTreeMap::from([("boilerplate".into(), 1), ("javascript".into(), 1)]));
    }

    #[test]
    fn pages_of_code_filler_and_few_sentences_go() {
        let config = C4::default();
        for (text, reason) in [
            ("a {b} c", "curly_bracket"),
            ("Lorem Ipsum dolor sit amet.", "lorem_ipsum"),
            ("One sentence is too few.", "too_few_sentences"),
        ] {
            let mut text = text.to_owned();
            let judged = LineFilter::new(&config).filter(&mut text, &config, &mut BTreeMap::new());
            assert_eq!(judged, Err(reason));
        }
        assert_eq!(sentences("一句。两句！三句？"), 3);
    }
}
