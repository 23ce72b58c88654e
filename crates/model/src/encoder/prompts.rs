//! The words that stand before a text, so that questions and passages meet.

/// What is put before questions and before passages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompts {
    pub(super) query: String,
    pub(super) passage: String,
}

impl Prompts {
    /// What the E5 models were trained with (Wang et al. 2022).
    pub(super) fn e5() -> Self {
        Self { query: "query: ".into(), passage: "passage: ".into() }
    }

    /// For a model that doesn't say: E5 models by their name, others read the bare text.
    pub(super) fn of_name(name: &str) -> Self {
        let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
        match words.any(|word| word.eq_ignore_ascii_case("e5")) {
            true => Self::e5(),
            false => Self { query: String::new(), passage: String::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e5_is_a_word_of_the_name() {
        for (name, is_e5) in
            [("multilingual-e5-small", true), ("E5_base", true), ("bge-small-en", false), ("the5", false)]
        {
            assert_eq!(Prompts::of_name(name) == Prompts::e5(), is_e5, "{name}");
        }
    }
}
