//! A needle in a haystack (Kamradt 2023): one sentence that has nothing to do with a long text, and a question about it.
//!
//! In: the number of the needle. Out: a prompt around two parts of a text, and whether an answer has what was hidden.
//! Numbers are drawn from the needle's own, so that no model has seen them and every run asks the same.

/// A sentence to hide, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    place: &'static str,
    code: String,
}

const PLACES: [&str; 6] = ["lighthouse", "bakery", "observatory", "harbour", "greenhouse", "windmill"];

impl Needle {
    pub fn new(index: usize) -> Self {
        // Multiplicative hashing (Knuth): neighbours get unlike codes of six digits.
        let code = (index as u32 + 1).wrapping_mul(2_654_435_761) % 900_000 + 100_000;
        Self { place: PLACES[index % PLACES.len()], code: code.to_string() }
    }

    /// The whole prompt: `before`, the sentence, `after`, and the question.
    pub fn prompt(&self, before: &str, after: &str) -> String {
        let Self { place, code } = self;
        format!(
            "{before}\nThe secret code of the {place} is {code}.\n{after}\n\n\
             What is the secret code of the {place}? Answer with the number only."
        )
    }

    pub fn is_in(&self, answer: &str) -> bool {
        answer.replace([',', ' '], "").contains(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_differ_and_are_recognised_in_any_spelling() {
        let needles: Vec<Needle> = (0..50).map(Needle::new).collect();
        for (i, a) in needles.iter().enumerate() {
            assert_eq!(a.code.len(), 6);
            assert!(a.is_in(&format!("It is {},{}.", &a.code[..3], &a.code[3..])));
            assert!(needles[..i].iter().all(|b| a.code != b.code && !b.is_in(&a.code)));
        }
    }

    #[test]
    fn the_sentence_stands_between_the_parts_and_the_question_names_no_number() {
        let needle = Needle::new(3);
        let prompt = needle.prompt("BEFORE", "AFTER");
        let (before, rest) = prompt.split_once(&needle.code).unwrap();
        assert!(before.starts_with("BEFORE") && rest.contains("AFTER") && !rest.contains(&needle.code));
    }
}
