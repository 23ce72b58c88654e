//! What a chat model is asked before a search: a question made to stand alone, other forms of it, a made-up answer.
//!
//! Multi-query and `HyDE` (Gao et al. 2022) search by more than the user's words; the question itself always stays
//! among the queries, so that a model that rambles can add to the search but not spoil it.

use crate::pairs::Language;
use crate::words::content_words;

/// Earlier messages that a question may lean on.
const HISTORY: usize = 6;

/// Other forms of a question at most.
const MAX_FORMS: usize = 3;

/// One line of a conversation: who said it, and what.
pub type Said<'a> = (&'a str, &'a str);

/// Asks for the question in words that need nothing of what was said before. None if nothing was.
pub fn stand_alone_prompt(question: &str, history: &[Said<'_>]) -> Option<String> {
    if history.is_empty() {
        return None;
    }
    let recent = &history[history.len().saturating_sub(HISTORY)..];
    let lines: Vec<String> = recent.iter().map(|(role, text)| format!("{role}: {}", text.trim())).collect();
    let lines = lines.join("\n");
    Some(match Language::of(question) {
        Language::English => format!(
            "Conversation:\n{lines}\n\nLast question: {}\n\nWrite the last question again so that it can be understood \
             without the conversation: put names in place of words like it, they, that. Reply with the question only.",
            question.trim()
        ),
        Language::Chinese => format!(
            "对话：\n{lines}\n\n最后的问题：{}\n\n请改写最后的问题，使它脱离对话也能看懂，把“它”“这个”等换成具体名称。只回复改写后的问题。",
            question.trim()
        ),
    })
}

/// The question that a reply gives; the original one if the reply is empty, long, or has lost what was asked.
pub fn stand_alone(question: &str, reply: &str) -> String {
    let line = reply.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.trim_matches(['"', '“', '”']);
    let line = line.split_once(": ").filter(|(label, _)| label.len() < 20).map_or(line, |(_, rest)| rest);
    let asked = content_words(question);
    let kept = content_words(line);
    let num_kept = asked.iter().filter(|word| kept.contains(word)).count();
    if line.is_empty() || kept.len() > asked.len() + 24 || num_kept * 3 < asked.len() {
        return question.trim().to_owned();
    }
    line.to_owned()
}

/// Asks for other forms of a question, one a line.
pub fn forms_prompt(question: &str) -> String {
    match Language::of(question) {
        Language::English => format!(
            "Write {MAX_FORMS} other ways to ask this question, with other words, one a line and nothing else.\n\
             Question: {}",
            question.trim()
        ),
        Language::Chinese => {
            format!(
                "请用不同的词写出这个问题的{MAX_FORMS}种其他问法，每行一种，不要写别的。\n问题：{}",
                question.trim()
            )
        }
    }
}

/// The forms in a reply: without numbering, the question itself and repetitions.
pub fn forms(question: &str, reply: &str) -> Vec<String> {
    let mut forms: Vec<String> = Vec::new();
    for line in reply.lines() {
        let numbering = |c: char| c.is_ascii_digit() || c.is_whitespace() || ".-*)、".contains(c);
        let line = line.trim_start_matches(numbering).trim();
        let new = !line.is_empty() && line != question.trim() && !forms.iter().any(|form| form == line);
        if new && line.chars().count() < 300 && forms.len() < MAX_FORMS {
            forms.push(line.to_owned());
        }
    }
    forms
}

/// Asks for a short passage that could answer the question; it need not be true to lie near the one that does.
pub fn made_up_answer_prompt(question: &str) -> String {
    match Language::of(question) {
        Language::English => format!(
            "Write one or two sentences of a document that answers this question.\nQuestion: {}",
            question.trim()
        ),
        Language::Chinese => format!("请写一两句文档中可能回答这个问题的话。\n问题：{}", question.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_counts_only_if_it_still_asks_the_question() {
        let question = "How long does it take?";
        let good = "How long does the firing of the kiln take?";
        assert_eq!(stand_alone(question, &format!("\n\"{good}\"\nMore text")), good);
        assert_eq!(stand_alone(question, &format!("Question: {good}")), good);
        for bad in ["", "  \n ", "Sure!", "The weather is fine today."] {
            assert_eq!(stand_alone(question, bad), question, "{bad}");
        }
        assert_eq!(stand_alone("它多重？", "水泵多重？"), "水泵多重？");
        assert!(stand_alone_prompt(question, &[]).is_none());
        let prompt = stand_alone_prompt("它多重？", &[("user", "水泵是什么？"), ("assistant", "一台机器。")]);
        assert!(prompt.is_some_and(|prompt| prompt.contains("水泵是什么？") && prompt.contains("它多重？")));
    }

    #[test]
    fn forms_lose_their_numbers_and_doubles() {
        let reply =
            "1. What is the weight?\n2) How heavy is it?\n\n- How heavy is it?\nHow much?\n- one too many";
        assert_eq!(forms("How much?", reply), ["What is the weight?", "How heavy is it?", "one too many"]);
        assert_eq!(forms("x", ""), [""; 0]);
    }
}
