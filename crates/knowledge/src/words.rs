//! Text → words for search and comparison, for English, Chinese and both in one sentence.
//!
//! Full-width forms become half-width, letters lower case. Runs of Chinese characters are cut by jieba
//! (search mode: long words and the words inside them); other runs are words as they stand, with English endings
//! removed by the Snowball stemmer. A number keeps its decimal point and loses its thousands separators.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use jieba_rs::Jieba;
use rust_stemmers::{Algorithm, Stemmer};

static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);
static STEMMER: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));

/// Words that carry no topic: Lucene's English list, question words, and the usual Chinese particles.
static FUNCTION_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let english = "a an and are as at be but by for if in into is it no not of on or such that the their then \
        there these they this to was will with do does did has have had from its which who whom what when where \
        why how can could should would may must i you he she we our your my me us been being than also so any \
        each other about under over after before between during through much many";
    let chinese = "的 了 是 在 和 与 及 或 就 都 而 着 也 吗 呢 吧 啊 把 被 对 从 到 为 以 于 有 这 那 这个 那个 什么 \
        哪 哪个 哪些 谁 怎么 怎样 如何 为什么 多少 几 请 请问 它 他 她 我 你 们 我们 你们 他们 其 之 中 上 下 里 会 能 \
        可以 应 应该 需要 个 一个 等 时 时候 是否 可 要 用 由 并 且 但 如果 则";
    english.split_whitespace().chain(chinese.split_whitespace()).collect()
});

/// One word of a text: its form for comparison and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub form: String,
    pub range: Range<usize>,
}

/// All words for an index, in order. In search mode words overlap: 知识库 gives 知识 and 知识库.
pub fn words(text: &str) -> Vec<Word> {
    cut(text, true)
}

/// Words that don't overlap, for comparing an answer with its source.
pub fn plain_words(text: &str) -> Vec<Word> {
    cut(text, false)
}

/// The forms of the words that carry a topic.
pub fn content_words(text: &str) -> Vec<String> {
    let all = cut(text, false).into_iter().map(|word| word.form);
    all.filter(|form| !is_function_word(form)).collect()
}

/// Compares after stemming, which leaves these short words as they are (`this` and `does` get lost endings).
pub fn is_function_word(form: &str) -> bool {
    FUNCTION_WORDS.contains(form) || matches!(form, "thi" | "doe" | "ha" | "wa")
}

/// True for characters of Chinese and Japanese words, which are written without spaces.
pub fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{3040}'..='\u{30ff}' | '\u{20000}'..='\u{323af}' | '々' | '〇')
}

/// CJK characters with their punctuation, beside which a line end is no space.
pub fn is_cjk_or_punctuation(c: char) -> bool {
    is_cjk(c)
        || matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}' | '“' | '”' | '‘' | '’' | '…' | '—')
}

/// Lower case, half-width, single spaces and none beside a Chinese character (`5 个月` is `5个月`): for testing
/// whether one text contains another.
pub fn normalize(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut space = false;
    for c in text.chars().map(half_width) {
        if c.is_whitespace() {
            space = true;
            continue;
        }
        let before = normal.chars().next_back();
        if space && before.is_some_and(|before| !is_cjk(before)) && !is_cjk(c) {
            normal.push(' ');
        }
        space = false;
        normal.extend(c.to_lowercase());
    }
    normal
}

/// True if most letters of the text are Chinese; questions and prompts follow this.
pub fn is_chinese(text: &str) -> bool {
    let cjk = text.chars().filter(|&c| is_cjk(c)).count();
    let latin = text.split(|c: char| !c.is_alphanumeric() || is_cjk(c)).filter(|run| !run.is_empty());
    cjk > latin.count()
}

fn half_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '’' | '‘' => '\'',
        _ => c,
    }
}

#[derive(PartialEq, Clone, Copy)]
enum Run {
    Cjk,
    Word,
    Gap,
}

fn cut(text: &str, search: bool) -> Vec<Word> {
    let chars: Vec<(usize, char)> = text.char_indices().map(|(at, c)| (at, half_width(c))).collect();
    let end_of = |index: usize| chars.get(index).map_or(text.len(), |&(at, _)| at);
    let mut words = Vec::new();
    let mut start = 0;
    while start < chars.len() {
        let run = run_of(&chars, start);
        let mut end = start + 1;
        while end < chars.len() && run_of(&chars, end) == run {
            end += 1;
        }
        let range = chars[start].0..end_of(end);
        match run {
            Run::Gap => {}
            Run::Cjk => push_cjk(&mut words, text, range, search),
            Run::Word => {
                let raw: String = chars[start..end].iter().map(|&(_, c)| c).collect();
                words.push(Word { form: word_form(&raw), range });
            }
        }
        start = end;
    }
    words
}

/// A point or comma between digits, and an apostrophe between letters, belong to the word.
fn run_of(chars: &[(usize, char)], index: usize) -> Run {
    let c = chars[index].1;
    let neighbour = |offset: isize| {
        let at = index.checked_add_signed(offset)?;
        chars.get(at).map(|&(_, c)| c)
    };
    if is_cjk(c) {
        return Run::Cjk;
    }
    if c.is_alphanumeric() {
        return Run::Word;
    }
    let between = |test: fn(char) -> bool| neighbour(-1).is_some_and(test) && neighbour(1).is_some_and(test);
    let inside = match c {
        '.' | ',' => between(|c| c.is_ascii_digit()),
        '\'' => between(|c| c.is_alphabetic() && !is_cjk(c)),
        // Combining marks continue the letter before them.
        '\u{300}'..='\u{36f}' => true,
        _ => false,
    };
    if inside { Run::Word } else { Run::Gap }
}

fn word_form(raw: &str) -> String {
    let lower = raw.to_lowercase();
    if lower.starts_with(|c: char| c.is_ascii_digit()) {
        return number_form(&lower);
    }
    if !lower.is_ascii() {
        return lower;
    }
    let stem = lower.strip_suffix("'s").unwrap_or(&lower);
    STEMMER.stem(stem).into_owned()
}

/// `1,000` is `1000`; `1,5` stays, since it may be a decimal comma.
fn number_form(lower: &str) -> String {
    let groups: Vec<&str> = lower.split(',').collect();
    let thousands = groups.len() > 1
        && groups[1..].iter().all(|group| group.split('.').next().is_some_and(|g| g.len() == 3));
    if thousands { groups.concat() } else { lower.to_string() }
}

fn push_cjk(words: &mut Vec<Word>, text: &str, range: Range<usize>, search: bool) {
    let run = &text[range.clone()];
    let tokens = if search { JIEBA.cut_for_search(run, true) } else { JIEBA.cut(run, true) };
    let mut at = 0;
    for token in tokens {
        // Tokens are slices of the run; their address gives the place even where they overlap.
        let start = token.word.as_ptr() as usize - run.as_ptr() as usize;
        at = start.max(at.min(start));
        let start = range.start + at;
        words.push(Word { form: token.word.to_lowercase(), range: start..start + token.word.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = words(text);
        let forms: Vec<&str> = found.iter().map(|word| word.form.as_str()).collect();
        assert_eq!(forms, expected);
        for word in &found {
            assert!(text.is_char_boundary(word.range.start) && text.is_char_boundary(word.range.end));
        }
    }

    #[test]
    fn mixed_text_gives_the_words_of_both_languages() {
        check("", &[]);
        check("!?。", &[]);
        check("Batteries' charging", &["batteri", "charg"]);
        check("Bosch's 2.5 kg and 1,000 W", &["bosch", "2.5", "kg", "and", "1000", "w"]);
        check("在Linux上安装", &["在", "linux", "上", "安装"]);
        check("ＡＢ１２", &["ab12"]);
        check("中华人民共和国", &["中华", "华人", "人民", "共和", "共和国", "中华人民共和国"]);
    }

    #[test]
    fn normal_form_ignores_case_width_and_spaces() {
        assert_eq!(normalize("  Ｈｅｌｌｏ\n\tWORLD  "), "hello world");
        assert_eq!(normalize("保修 5 个月 by ABC"), "保修5个月by abc");
        assert!(is_chinese("如何安装 Linux？") && !is_chinese("What does 安装 mean here?"));
    }
}
