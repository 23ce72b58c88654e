//! Question–answer pairs from a chat model: the prompt, and what of its reply is kept.
//!
//! A pair is kept only if the answer's words stand in the chunk, the question asks for something and no other asks the
//! same. Everything dropped is returned with its reason.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::questions::Pair;
use crate::sentences::sentences;
use crate::words::{content_words, is_chinese, is_cjk, normalize, plain_words};

/// A longer answer is no fact but a retelling.
const MAX_ANSWER_WORDS: usize = 40;

/// Content words of a brief answer at most.
const MAX_BRIEF_WORDS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    pub fn of(text: &str) -> Self {
        if is_chinese(text) { Self::Chinese } else { Self::English }
    }
}

/// A pair that wasn't kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub question: String,
    pub reason: String,
}

/// Messages (role, content) that ask a chat model for `how_many` pairs about a chunk.
pub fn pair_prompt(chunk: &Chunk, title: &str, language: Language, how_many: usize) -> Vec<(String, String)> {
    let place = chunk.headings.last().map_or(title, String::as_str);
    let (system, user) = match language {
        Language::English => (
            "You write quiz questions. Each question asks for one fact of the passage, names the thing it asks about, \
             and can be understood without the passage. Each answer is copied from the passage and short.",
            format!(
                "Passage from \"{title}\", section \"{place}\":\n\n{}\n\nWrite {how_many} questions with answers. \
                 Use exactly this form:\nQ: question\nA: answer",
                chunk.text
            ),
        ),
        Language::Chinese => (
            "你负责出题。每个问题只问原文中的一个事实，写明所问的对象，不看原文也能读懂。答案从原文中摘抄，要简短。",
            format!(
                "原文出自《{title}》“{place}”一节：\n\n{}\n\n请写出{how_many}个问题和答案，严格按照以下格式：\nQ: 问题\nA: 答案",
                chunk.text
            ),
        ),
    };
    vec![("system".into(), system.into()), ("user".into(), user)]
}

/// Takes a model's reply apart and checks each pair against the chunk.
pub fn parse_pairs(reply: &str, chunk: &Chunk) -> (Vec<Pair>, Vec<Rejected>) {
    let (mut kept, mut rejected) = (Vec::new(), Vec::new());
    let source = Source::new(chunk);
    let mut questions = BTreeSet::new();
    let mut open: Option<String> = None;
    for line in reply.lines() {
        match labelled(line) {
            Some((Label::Question, text)) => {
                if let Some(question) = open.replace(text.to_string()) {
                    rejected.push(Rejected { question, reason: "no answer follows".into() });
                }
            }
            Some((Label::Answer, text)) => {
                let Some(question) = open.take() else {
                    continue;
                };
                match source.check(&question, text) {
                    Ok(_) if !asks(&question) => {
                        rejected.push(Rejected { question, reason: "the question asks nothing".into() });
                    }
                    Err(reason) => rejected.push(Rejected { question, reason }),
                    Ok(_) if !questions.insert(normalize(&question)) => {
                        rejected.push(Rejected { question, reason: "asked twice".into() });
                    }
                    Ok(pair) => kept.push(pair),
                }
            }
            None => {}
        }
    }
    if let Some(question) = open {
        rejected.push(Rejected { question, reason: "no answer follows".into() });
    }
    (kept, rejected)
}

enum Label {
    Question,
    Answer,
}

/// `Q: …`, `**Question 2:** …`, `1. Q: …`, `问题：…`, `答：…`.
fn labelled(line: &str) -> Option<(Label, &str)> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || " .)*#-_>".contains(c));
    let labels = [
        ("question", Label::Question),
        ("answer", Label::Answer),
        ("q", Label::Question),
        ("a", Label::Answer),
        ("问题", Label::Question),
        ("答案", Label::Answer),
        ("问", Label::Question),
        ("答", Label::Answer),
    ];
    labels.into_iter().find_map(|(name, label)| {
        let start = line.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
        let rest =
            line[start.len()..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '*');
        let rest = rest.strip_prefix(':').or_else(|| rest.strip_prefix('：'))?;
        Some((label, rest.trim_matches(|c: char| c.is_whitespace() || c == '*')))
    })
}

/// A chunk with its words, against which pairs are checked.
pub(crate) struct Source<'a> {
    chunk: &'a Chunk,
    words: BTreeSet<String>,
    text: String,
}

impl<'a> Source<'a> {
    pub(crate) fn new(chunk: &'a Chunk) -> Self {
        Self {
            chunk,
            words: plain_words(&chunk.text).into_iter().map(|word| word.form).collect(),
            text: normalize(&chunk.text),
        }
    }

    /// Makes a pair of a question and an answer if they are sound.
    pub(crate) fn check(&self, question: &str, answer: &str) -> Result<Pair, String> {
        let question = question.trim();
        let answer = answer.trim().trim_matches(['"', '“', '”']).trim_end_matches(['.', '。']).trim();
        let asked: BTreeSet<String> = content_words(question).into_iter().collect();
        let has_cjk = question.chars().any(is_cjk);
        if asked.len() < 2 || question.chars().count() < if has_cjk { 5 } else { 10 } {
            return Err("the question is too short to ask for something".into());
        }
        let lower = normalize(question);
        let about_text =
            ["passage", "the text", "this section", "the document", "原文", "本文", "文中", "段落"];
        if about_text.iter().any(|words| lower.contains(words)) {
            return Err("the question is about the passage, not about a thing".into());
        }
        let answer_words = content_words(answer);
        if answer_words.is_empty() {
            return Err("the answer holds no content".into());
        }
        if answer_words.len() > MAX_ANSWER_WORDS {
            return Err(format!("the answer has more than {MAX_ANSWER_WORDS} words"));
        }
        if answer_words.iter().all(|word| asked.contains(word)) {
            return Err("the question gives the answer away".into());
        }
        // Chinese words may be cut differently out of context, so the characters decide.
        let missing = answer_words.iter().find(|word| {
            let in_text = word.chars().any(is_cjk) && self.text.contains(word.as_str());
            !(in_text || self.words.contains(*word))
        });
        if let Some(word) = missing {
            return Err(format!("`{word}` of the answer isn't in the passage"));
        }
        let evidence = evidence(&answer_words, &asked, &self.chunk.text);
        Ok(Pair {
            question: question.into(),
            answer: answer.into(),
            document: self.chunk.document,
            chunk: self.chunk.id,
            evidence,
        })
    }
}

/// Whether a text is put as a question: small models also write headings and statements where one is wanted.
fn asks(question: &str) -> bool {
    let words = [
        "什么", "多少", "几", "哪", "是否", "如何", "怎么", "怎样", "为何", "谁", "多久", "多长", "吗",
        "何时",
    ];
    question.ends_with(['?', '？']) || words.iter().any(|word| question.contains(word))
}

/// Whether an answer is a fact that can be given word for word, rather than a retelling.
pub fn is_brief(answer: &str) -> bool {
    content_words(answer).len() <= MAX_BRIEF_WORDS
}

/// The sentence with the most words of the answer, then of the question.
fn evidence(answer: &[String], asked: &BTreeSet<String>, text: &str) -> String {
    let score = |sentence: &str| {
        let words: BTreeSet<String> = plain_words(sentence).into_iter().map(|word| word.form).collect();
        let of_answer = answer.iter().filter(|word| words.contains(*word)).count();
        (of_answer, asked.iter().filter(|word| words.contains(*word)).count())
    };
    let sentences = sentences(text).into_iter().map(|range| text[range].trim());
    // The first of equals.
    let best = sentences.rev().max_by_key(|sentence| score(sentence));
    best.unwrap_or(text).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::chunk::ChunkId;
    use crate::document::DocumentId;

    pub(crate) fn chunk(text: &str) -> Chunk {
        Chunk {
            id: ChunkId(3),
            document: DocumentId(1),
            page: Some(2),
            headings: vec!["Kestrel pump".into(), "Care".into()],
            range: 0..text.len(),
            text: text.into(),
            num_tokens: 1,
        }
    }

    #[test]
    fn sound_pairs_are_kept_and_the_others_say_why_not() {
        let chunk = chunk(
            "The motor of the Kestrel stays hot for 25 minutes. Use filter F-9 only.\n保修期为三十七个月。",
        );
        let reply = "Sure!\n1. **Q:** How long does the Kestrel's motor stay hot?\n**A:** 25 minutes\n\
            Q: Which filter fits the Kestrel?\nA: filter F-9.\nQ: How long does the Kestrel's motor stay hot?\nA: 25 minutes\n\
            问题：红隼水泵的保修期是多久？\n答案：三十七个月。\nQ: How heavy is the Kestrel pump?\nA: 12 kg\nQ: Why?\nA: motor\n\
            Q: Filter of the Kestrel pump\nA: filter F-9\n\
            Q: What does the passage say about filters?\nA: filter F-9\nQ: Does the motor get hot?\nA: Yes\n\
            Q: What about motor and filter?\nA: the motor\nQ: What is left over here?";
        let (kept, rejected) = parse_pairs(reply, &chunk);
        let kept: Vec<_> = kept.iter().map(|p| (p.answer.as_str(), p.evidence.as_str())).collect();
        assert_eq!(
            kept,
            [
                ("25 minutes", "The motor of the Kestrel stays hot for 25 minutes."),
                ("filter F-9", "Use filter F-9 only."),
                ("三十七个月", "保修期为三十七个月。"),
            ]
        );
        let reasons: Vec<_> = rejected.iter().map(|rejected| rejected.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "asked twice",
                "`12` of the answer isn't in the passage",
                "the question is too short to ask for something",
                "the question asks nothing",
                "the question is about the passage, not about a thing",
                "`yes` of the answer isn't in the passage",
                "the question gives the answer away",
                "no answer follows",
            ]
        );
    }

    #[test]
    fn questions_ask_and_brief_answers_are_facts() {
        for (text, expected) in [
            ("What is it?", true),
            ("柜子有多少托盘", true),
            ("每月检查一次门封条", false),
            ("Kestrel pump", false),
        ] {
            assert_eq!(asks(text), expected, "{text}");
        }
        assert!(is_brief("25 minutes") && is_brief("三十七个月"));
        assert!(!is_brief(
            "Open the hatch, take the filter out, wash it in warm water, dry it and put it back in"
        ));
    }

    #[test]
    fn the_prompt_shows_the_passage_in_its_language() {
        let chunk = chunk("保修期为三十七个月。");
        let messages = pair_prompt(&chunk, "手册", Language::of(&chunk.text), 3);
        assert_eq!(messages[0].0, "system");
        assert!(messages[1].1.contains("保修期为三十七个月。") && messages[1].1.contains("3个问题"));
        let english = pair_prompt(&chunk, "Manual", Language::English, 2);
        assert!(english[1].1.contains("Write 2 questions"));
    }
}
