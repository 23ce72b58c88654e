//! Question–answer pairs by rule, without a model: table rows, `key: value` lines, sentences that say what something is,
//! and sentences with a number or a name, which become a gap to fill.
//!
//! Answers are copied from the text, so they are always right; the questions are plainer than a person's.

use std::collections::BTreeSet;

use crate::chunk::Chunk;
use crate::document::Document;
use crate::pairs::{Language, Source};
use crate::questions::Pair;
use crate::sentences::sentences;
use crate::words::{is_cjk, normalize};

/// What stands for the missing words.
const GAP: &str = "____";

/// Longer keys and values are sentences that happen to hold a colon.
const MAX_KEY_CHARS: usize = 40;
const MAX_VALUE_CHARS: usize = 90;

/// Gaps of one sentence; more would only repeat it.
const MAX_GAPS: usize = 2;

/// Column names that say nothing about the value.
const PLAIN_COLUMNS: [&str; 14] = [
    "value",
    "values",
    "description",
    "data",
    "details",
    "detail",
    "content",
    "specification",
    "值",
    "数值",
    "内容",
    "说明",
    "数据",
    "参数",
];

/// Words after a Chinese number that belong to it, longer ones first.
const CHINESE_UNITS: &str = "平方米 立方米 个工作日 工作日 摄氏度 千瓦时 平方公里 毫安时 个小时 小时 分钟 个月 公里 千米 厘米 毫米 \
    公斤 千克 毫升 毫秒 千瓦 千伏 毫安 兆帕 千帕 赫兹 分贝 万元 亿元 美元 欧元 公顷 年 月 日 天 周 秒 元 米 克 升 度 次 个 人 \
    台 份 粒 瓶 包 盒 支 片 只 根 盘 格 欧姆 页 条 项 级 倍 块 位 瓦 伏 安 帕 吨 斤 岁 层 楼 折 号 分 名 家 种 件 张 卷 章";

/// All pairs the rules find in one chunk, in the order of the text, no question twice.
pub fn fact_pairs(chunk: &Chunk, document: &Document) -> Vec<Pair> {
    let subject = chunk.headings.last().unwrap_or(&document.title).as_str();
    let rules = Rules { subject, title: &document.title, language: Language::of(&chunk.text) };
    let mut found: Vec<(String, String, String)> = Vec::new();
    let mut header: Option<Vec<&str>> = None;
    for line in chunk.text.lines() {
        if line.contains(" | ") {
            let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
            match header.as_ref().filter(|header| header.len() == cells.len()) {
                Some(header) => rules.row(header, &cells, line, &mut found),
                None => header = Some(cells),
            }
            continue;
        }
        header = None;
        let line = without_item_mark(line);
        if !rules.key_value(line, &mut found) {
            for range in sentences(line) {
                rules.sentence(line[range].trim(), &mut found);
            }
        }
    }
    let source = Source::new(chunk);
    let mut asked = BTreeSet::new();
    let pairs = found.into_iter().filter_map(|(question, answer, evidence)| {
        let pair = source.check(&question, &answer).ok()?;
        asked.insert(normalize(&question)).then_some(Pair { evidence, ..pair })
    });
    pairs.collect()
}

/// `- text`, `3. text` → `text`
fn without_item_mark(line: &str) -> &str {
    let line = line.trim_start_matches(['-', '*', '•', ' ']);
    let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = after.len() < line.len();
    let rest = after.strip_prefix(". ").or_else(|| after.strip_prefix(") ")).filter(|_| numbered);
    rest.unwrap_or(line).trim()
}

struct Rules<'a> {
    /// The nearest heading.
    subject: &'a str,
    title: &'a str,
    language: Language,
}

impl Rules<'_> {
    /// `Title, heading`, which tells equal sentences of different places apart.
    fn place(&self) -> String {
        match (self.subject == self.title, self.language) {
            (true, _) => self.title.into(),
            (false, Language::English) => format!("{}, {}", self.title, self.subject),
            (false, Language::Chinese) => format!("{}，{}", self.title, self.subject),
        }
    }

    fn row(&self, header: &[&str], cells: &[&str], line: &str, found: &mut Vec<(String, String, String)>) {
        let name = cells[0];
        for (column, value) in header.iter().zip(cells).skip(1) {
            if name.is_empty() || value.is_empty() || value.chars().count() > MAX_VALUE_CHARS {
                continue;
            }
            let plain = PLAIN_COLUMNS.contains(&column.to_lowercase().as_str());
            let question = match (Language::of(&format!("{column}{name}")), plain) {
                (Language::English, true) => {
                    format!("What is the {} of {}?", lower_first(name), self.place())
                }
                (Language::English, false) => {
                    format!("What is the {} of {name} ({})?", lower_first(column), self.place())
                }
                (Language::Chinese, true) => format!("{}的{name}是什么？", self.place()),
                (Language::Chinese, false) => {
                    format!("{name}的{column}是什么？（{}）", self.place())
                }
            };
            found.push((question, (*value).into(), line.into()));
        }
    }

    /// True if the line is `key: value`.
    fn key_value(&self, line: &str, found: &mut Vec<(String, String, String)>) -> bool {
        let Some((key, value)) = line.split_once("：").or_else(|| line.split_once(": ")) else {
            return false;
        };
        let (key, value) = (key.trim(), value.trim().trim_end_matches(['.', '。']));
        let sentence_like =
            |text: &str| text.contains(['。', '，', '；', '!', '?', ';']) || text.contains(". ");
        if key.is_empty()
            || value.is_empty()
            || key.chars().count() > MAX_KEY_CHARS
            || value.chars().count() > MAX_VALUE_CHARS
            || key.split_whitespace().count() > 5
            || sentence_like(key)
            || sentence_like(value)
        {
            return false;
        }
        let question = match Language::of(key) {
            Language::English => format!("What is the {} of {}?", lower_first(key), self.place()),
            Language::Chinese => format!("{}的{key}是什么？", self.place()),
        };
        found.push((question, value.into(), line.into()));
        true
    }

    fn sentence(&self, sentence: &str, found: &mut Vec<(String, String, String)>) {
        let length = sentence.chars().count();
        if !(8..=300).contains(&length) {
            return;
        }
        let language = Language::of(sentence);
        let definition = match language {
            Language::English => english_definition(sentence),
            Language::Chinese => chinese_definition(sentence),
        };
        if let Some((question, answer)) = definition {
            found.push((question, answer, sentence.into()));
        }
        let place = self.place();
        for answer in gaps(sentence).into_iter().take(MAX_GAPS) {
            let with_gap = sentence.replacen(&answer, GAP, 1);
            let question = match language {
                Language::English => format!("Fill in the blank ({place}): {with_gap}"),
                Language::Chinese => format!("填空（{place}）：{with_gap}"),
            };
            found.push((question, answer, sentence.into()));
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.clone().next()) else {
        return String::new();
    };
    // An abbreviation keeps its capitals.
    if second.is_some_and(char::is_uppercase) {
        return text.into();
    }
    first.to_lowercase().chain(text.chars().skip(1)).collect()
}

/// `The X is Y.` → What is the X? Y
fn english_definition(sentence: &str) -> Option<(String, String)> {
    let starts = ["The ", "A ", "An ", "Our ", "Its ", "Each ", "Every "];
    if !starts.iter().any(|start| sentence.starts_with(start)) {
        return None;
    }
    let (at, verb) = [" is ", " are ", " was ", " were "]
        .iter()
        .filter_map(|verb| sentence.find(verb).map(|at| (at, *verb)))
        .min()?;
    let (name, rest) = (&sentence[..at], &sentence[at + verb.len()..]);
    let answer = rest.trim_end_matches(['.', '!']).trim();
    let words = name.split_whitespace().count();
    if words > 8
        || name.contains(',')
        || answer.split_whitespace().count() > 14
        || answer.starts_with("not ")
        || says_what_is_done(answer)
    {
        return None;
    }
    Some((format!("What{verb}{}?", lower_first(name)), answer.into()))
}

/// `switched off …` and `required for …` don't say what a thing is.
fn says_what_is_done(answer: &str) -> bool {
    let first = answer.split_whitespace().next().unwrap_or_default();
    first.ends_with("ed") || first.ends_with("ing")
}

/// `X为Y。` → X是多少？ or X是什么？ Y
fn chinese_definition(sentence: &str) -> Option<(String, String)> {
    let stops = ['，', '。', '；', '：', '、', '（', '“', '！', '？'];
    let (at, verb) =
        ["为", "是"].iter().filter_map(|verb| sentence.find(verb).map(|at| (at, *verb))).min()?;
    let (name, rest) = (&sentence[..at], &sentence[at + verb.len()..]);
    let answer = &rest[..rest.find(stops).unwrap_or(rest.len())];
    let parts_of_words =
        ["认为", "因为", "作为", "成为", "分为", "视为", "行为", "还是", "但是", "不是", "就是", "于是"];
    let joined: String = name.chars().rev().take(1).chain(verb.chars()).collect();
    let chars = name.chars().count();
    if !(2..=16).contains(&chars)
        || name.contains(stops)
        || parts_of_words.contains(&joined.as_str())
        || !(1..=24).contains(&answer.chars().count())
        || answer.starts_with(['了', '什', '否'])
    {
        return None;
    }
    let ask = if answer.contains(|c: char| c.is_ascii_digit()) { "多少" } else { "什么" };
    Some((format!("{name}是{ask}？"), answer.into()))
}

/// Numbers with their unit, then codes and names inside the sentence, in the order of the text.
fn gaps(sentence: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut names = Vec::new();
    let mut previous_end = 0;
    for (start, end) in tokens(sentence) {
        if start < previous_end {
            continue;
        }
        let token = &sentence[start..end];
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            let end = end + unit_length(&sentence[end..]);
            numbers.push(sentence[start..end].to_string());
            previous_end = end;
        } else if start > 0 && token.starts_with(char::is_uppercase) && token.chars().count() > 1 {
            let end = name_end(sentence, end);
            names.push(sentence[start..end].to_string());
            previous_end = end;
        }
    }
    numbers.extend(names);
    let mut seen = BTreeSet::new();
    numbers.retain(|gap| seen.insert(gap.clone()));
    numbers
}

/// Runs of letters and digits with the points, commas, hyphens, colons inside them; Chinese characters divide.
fn tokens(sentence: &str) -> Vec<(usize, usize)> {
    let part = |c: char| c.is_alphanumeric() && !is_cjk(c);
    let mut tokens: Vec<(usize, usize)> = Vec::new();
    let mut open: Option<usize> = None;
    let chars: Vec<(usize, char)> = sentence.char_indices().collect();
    for (index, &(at, c)) in chars.iter().enumerate() {
        let next = chars.get(index + 1).map(|&(_, c)| c);
        let inner = matches!(c, '.' | ',' | '-' | ':' | '/') && open.is_some() && next.is_some_and(part);
        if part(c) || inner {
            open.get_or_insert(at);
        } else if let Some(start) = open.take() {
            tokens.push((start, at));
        }
    }
    tokens.extend(open.map(|start| (start, sentence.len())));
    tokens
}

/// How many bytes after a number are its unit: `%`, ` kg`, ` months`, `个月`.
fn unit_length(after: &str) -> usize {
    let spaces = after.len() - after.trim_start_matches(' ').len();
    let rest = &after[spaces..];
    if let Some(c) = rest.chars().next().filter(|c| matches!(c, '%' | '°' | '℃' | '％' | '€' | '£')) {
        let letter = if c == '°' { rest[c.len_utf8()..].chars().next() } else { None };
        return spaces + c.len_utf8() + letter.filter(char::is_ascii_uppercase).map_or(0, char::len_utf8);
    }
    if let Some(unit) = CHINESE_UNITS.split_whitespace().find(|unit| rest.starts_with(unit)) {
        return spaces + unit.len();
    }
    let word: usize = rest.chars().take_while(|c| c.is_alphabetic() && !is_cjk(*c)).map(char::len_utf8).sum();
    let function = crate::words::is_function_word(&rest[..word].to_lowercase());
    if spaces <= 1 && word > 0 && !function { spaces + word } else { 0 }
}

/// A name goes on over the capitalised words that follow.
fn name_end(sentence: &str, mut end: usize) -> usize {
    while let Some(rest) = sentence[end..].strip_prefix(' ') {
        let word: usize =
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').map(char::len_utf8).sum();
        if word == 0 || !rest.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()) {
            break;
        }
        end += 1 + word;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{DocumentId, DocumentKind};

    #[track_caller]
    fn check_pairs(text: &str, expected: &[(&str, &str)]) {
        let document = Document {
            id: DocumentId(1),
            path: "x.md".into(),
            title: "Kestrel pump".into(),
            kind: DocumentKind::Markdown,
            blocks: Vec::new(),
            notes: Vec::new(),
        };
        let chunk = crate::pairs::tests::chunk(text);
        let pairs = fact_pairs(&chunk, &document);
        let found: Vec<_> = pairs.iter().map(|p| (p.question.as_str(), p.answer.as_str())).collect();
        assert_eq!(found, expected);
        for pair in &pairs {
            assert!(chunk.text.contains(&pair.answer) && chunk.text.contains(&pair.evidence));
        }
    }

    #[test]
    fn rows_and_keys_become_questions() {
        check_pairs(
            "Part | Mass | Price\nValve | 3 kg | 40 EUR\nProperty | Value\nVoltage | 230 V\nMaker: Arden Ltd",
            &[
                ("What is the mass of Valve (Kestrel pump, Care)?", "3 kg"),
                ("What is the price of Valve (Kestrel pump, Care)?", "40 EUR"),
                ("What is the voltage of Kestrel pump, Care?", "230 V"),
                ("What is the maker of Kestrel pump, Care?", "Arden Ltd"),
            ],
        );
        check_pairs(
            "零件 | 重量\n阀门 | 3公斤\n额定电压：230伏",
            &[
                ("阀门的重量是什么？（Kestrel pump，Care）", "3公斤"),
                ("Kestrel pump，Care的额定电压是什么？", "230伏"),
            ],
        );
    }

    #[test]
    fn item_numbers_are_no_facts_and_percent_belongs_to_its_number() {
        check_pairs(
            "3. Turn it off.\n- Keep it at 15 % humidity. The lamp is switched off.",
            &[("Fill in the blank (Kestrel pump, Care): Keep it at ____ humidity.", "15 %")],
        );
    }

    #[test]
    fn sentences_give_definitions_and_gaps() {
        check_pairs(
            "The normal pressure is 4.5 bar. Call Arden Vale Service after 25 minutes.",
            &[
                ("What is the normal pressure?", "4.5 bar"),
                ("Fill in the blank (Kestrel pump, Care): The normal pressure is ____.", "4.5 bar"),
                ("Fill in the blank (Kestrel pump, Care): Call Arden Vale Service after ____.", "25 minutes"),
                ("Fill in the blank (Kestrel pump, Care): Call ____ after 25 minutes.", "Arden Vale Service"),
            ],
        );
        check_pairs(
            "水泵的保修期为37个月，从购买之日起计算。因为潮湿会导致短路。",
            &[
                ("水泵的保修期是多少？", "37个月"),
                ("填空（Kestrel pump，Care）：水泵的保修期为____，从购买之日起计算。", "37个月"),
            ],
        );
    }
}
