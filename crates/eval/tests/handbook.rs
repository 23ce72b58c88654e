//! The questions of `examples/handbook` are scored as their writer meant it: each answer stands in
//! its source by the very rule that scores a model's answer, and an answer alone gets full marks.
//!
//! DOCX and PDF files are read from the Markdown they are made of.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use hearth_eval::{metrics, question};

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
    }

    fn text_of(source: &str) -> String {
        let path = examples().join("handbook").join(source);
        assert!(path.is_file(), "no file `{source}`");
        let extension = path.extension().unwrap().to_str().unwrap();
        if matches!(extension, "pdf" | "docx") {
            let name = path.with_extension("md").file_name().unwrap().to_owned();
            return fs_err::read_to_string(examples().join("make_handbook/sources").join(name)).unwrap();
        }
        let text = fs_err::read_to_string(&path).unwrap();
        if extension == "html" { without_tags(&text) } else { text }
    }

    fn without_tags(html: &str) -> String {
        let pieces = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
        pieces.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_answer_stands_in_its_source() {
        check("handbook-questions.jsonl", 60);
        check("handbook-questions-unseen.jsonl", 48);
    }

    fn check(file: &str, count: usize) {
        let questions = question::read(&examples().join(file)).unwrap();
        assert_eq!(questions.len(), count);
        for question in &questions {
            let text = text_of(question.source.as_deref().expect("source"));
            let found = question.answers.iter().any(|answer| metrics::occurs_in(&text, answer));
            assert!(found, "`{}`: none of {:?}", question.question, question.answers);
            for answer in &question.answers {
                assert!(metrics::exact_match(answer, &question.answers) > 0.0, "{answer}");
                assert!(
                    !metrics::occurs_in(&question.question, answer),
                    "`{}` tells `{answer}`",
                    question.question
                );
            }
        }
    }
}
