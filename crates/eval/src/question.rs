//! Questions with their accepted answers, one JSON object a line.
//!
//! `{"id":…,"question":…,"answers":[…],"source":…}`; `id` may be missing (the line number is used)
//! and so may `source` (citations of that question are then not scored).

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    #[serde(default)]
    pub id: String,
    pub question: String,
    /// Any one of these counts as right.
    pub answers: Vec<String>,
    /// The document that holds the answer, relative to the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Reads a question file; the error names the line and what is wrong with it.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    parse(&fs_err::read_to_string(path)?, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let mut ids = HashSet::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let question = parse_line(line, index + 1).map_err(|reason| Error::Question {
            path: path.into(),
            line: index + 1,
            reason,
        })?;
        if !ids.insert(question.id.clone()) {
            return Err(Error::DuplicateQuestion { id: question.id });
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(Error::NoQuestions { path: path.into() });
    }
    Ok(questions)
}

fn parse_line(line: &str, number: usize) -> Result<Question, String> {
    let mut question: Question = serde_json::from_str(line).map_err(|error| error.to_string())?;
    question.question = question.question.trim().to_owned();
    if question.question.is_empty() {
        return Err("`question` is empty".to_owned());
    }
    question.answers.retain(|answer| !answer.trim().is_empty());
    if question.answers.is_empty() {
        return Err("`answers` holds no text".to_owned());
    }
    if question.id.is_empty() {
        question.id = format!("q{number}");
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, &str>) {
        let found = parse(text, Path::new("questions.jsonl"));
        match (found, expected) {
            (Ok(questions), Ok(count)) => assert_eq!(questions.len(), count, "{text}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error} for {text}");
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        check("", Err("holds no question"));
        check("\n \n", Err("holds no question"));
        check("{\"question\":\"a\",\"answers\":[\"b\"]}\n\n", Ok(1));
        check("\u{feff}{\"question\":\"a\",\"answers\":[\"b\"]}", Ok(1));
        check("{\"question\":\"a\",\"answers\":[\" \"]}", Err("line 1"));
        check("{\"question\":\" \",\"answers\":[\"b\"]}", Err("`question` is empty"));
        check("{\"question\":\"a\",\"answers\":[\"b\"]}\nnot json", Err("line 2"));
        check("{\"answers\":[\"b\"]}", Err("missing field `question`"));
        check(
            "{\"id\":\"x\",\"question\":\"a\",\"answers\":[\"b\"]}\n\
             {\"id\":\"x\",\"question\":\"c\",\"answers\":[\"d\"]}",
            Err("`x` occurs twice"),
        );
    }

    #[test]
    fn a_missing_id_is_the_line_number() {
        let text = "\n{\"question\":\"a\",\"answers\":[\"b\"],\"source\":\"s.md\"}";
        let questions = parse(text, Path::new("q")).unwrap();
        assert_eq!(questions[0].id, "q2");
        assert_eq!(questions[0].source.as_deref(), Some("s.md"));
    }
}
