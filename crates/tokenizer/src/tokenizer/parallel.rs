//! Long texts on several threads: cut where no word can reach across, so that the ids are those of one thread.

use super::{Model, SpacePrefix, Tokenizer};
use crate::classes::{LETTER, class};
use crate::normalizer::Normalizer;
use crate::split::Splitter;
use crate::vocabulary::TokenId;

/// Less text than this for each thread isn't worth starting one.
const MIN_CHUNK_BYTES: usize = 1 << 16;

impl Tokenizer {
    /// [`Self::encode`] on up to `threads` threads; the ids don't depend on how many.
    pub fn encode_on(&self, text: &str, threads: usize) -> Vec<TokenId> {
        let chunks = self.chunks(text, threads);
        let [first, rest @ ..] = chunks.as_slice() else {
            return self.encode(text);
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = rest.iter().map(|chunk| scope.spawn(|| self.encode(chunk))).collect();
            let mut ids = self.encode(first);
            for (thread, chunk) in others.into_iter().zip(rest) {
                // A thread that is gone leaves its chunk to this one.
                ids.extend(thread.join().unwrap_or_else(|_| self.encode(chunk)));
            }
            ids
        })
    }

    /// Pieces of about equal length, one where the text can't be cut.
    fn chunks<'t>(&self, text: &'t str, threads: usize) -> Vec<&'t str> {
        let count = threads.min(text.len() / MIN_CHUNK_BYTES).max(1);
        if count == 1 || !self.can_be_cut() {
            return vec![text];
        }
        let mut chunks = Vec::with_capacity(count);
        let mut start = 0;
        for index in 1..count {
            let wanted = text.len() / count * index;
            if let Some(cut) = self.cut_after(text, wanted.max(start + 1)) {
                chunks.push(&text[start..cut]);
                start = cut;
            }
        }
        chunks.push(&text[start..]);
        chunks
    }

    /// Whether each step works on words alone: known patterns, and a vocabulary that adds nothing at the start.
    fn can_be_cut(&self) -> bool {
        let composes = self.normalizers.iter().all(|step| matches!(step, Normalizer::Nfc));
        let scans = self.splitters.iter().all(|step| {
            matches!(
                step,
                Splitter::Gpt2 | Splitter::Tiktoken { .. } | Splitter::Cased { .. } | Splitter::Digits
            )
        });
        let knows_words = !self.splitters.is_empty() || self.glue.is_some();
        let is_bpe = matches!(self.model, Model::Bpe(_));
        is_bpe && composes && scans && knows_words && self.spaces.prefix == SpacePrefix::Never
    }

    fn cut_after(&self, text: &str, wanted: usize) -> Option<usize> {
        match self.splitters.is_empty() {
            true => find_cut(text, wanted, |before, c| {
                c == ' ' && self.glue.as_ref().is_some_and(|glue| glue.binary_search(&before).is_err())
            }),
            false => cut_between_words(text, wanted),
        }
    }
}

/// A place from `wanted` on where no word of any family's pattern reaches across, behind a letter and in front of a
/// space or a Chinese punctuation mark: there a run of letters ends, whatever follows, and nothing looks back.
pub fn cut_between_words(text: &str, wanted: usize) -> Option<usize> {
    find_cut(text, wanted, |_, c| matches!(c, ' ' | '，' | '。' | '、' | '；' | '：' | '？' | '！'))
}

fn find_cut(text: &str, wanted: usize, ends_word: impl Fn(char, char) -> bool) -> Option<usize> {
    let start = (wanted..text.len()).find(|at| text.is_char_boundary(*at))?;
    let mut before = text[..start].chars().next_back()?;
    for (at, c) in text[start..].char_indices() {
        if ends_word(before, c) && class(before) == LETTER {
            return Some(start + at);
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::vocabulary::{Kind, Vocabulary};
    use crate::{Normalizer, Tokenizer};

    /// All bytes, and merges that reach over spaces, marks and Chinese characters where a pattern lets them.
    fn tokenizer(pre: &str, normalizers: Vec<Normalizer>) -> Tokenizer {
        let alphabet = crate::byte_alphabet::ByteAlphabet::new();
        let mut tokens: Vec<String> = (0..=255_u8).map(|byte| alphabet.spell(&[byte])).collect();
        let pairs =
            [("t", "h"), ("th", "e"), (" ", "the"), (" ", " "), (".", ". "), ("中", "文"), ("，", "中")];
        let spell = |text: &str| alphabet.spell(text.as_bytes());
        let mut merges = Vec::new();
        for (left, right) in pairs {
            for text in [left, right] {
                let parts: Vec<String> = text.bytes().map(|byte| alphabet.spell(&[byte])).collect();
                let mut joined = parts[0].clone();
                for part in &parts[1..] {
                    merges.push((joined.clone(), part.clone()));
                    joined += part;
                    tokens.push(joined.clone());
                }
            }
            merges.push((spell(left), spell(right)));
            tokens.push(spell(&format!("{left}{right}")));
        }
        let mut seen = std::collections::BTreeSet::new();
        tokens.retain(|token| seen.insert(token.clone()));
        let vocabulary =
            Vocabulary { merges, pre: pre.into(), normalizers, ..Vocabulary::new(Kind::ByteBpe, tokens) };
        Tokenizer::from_parts(vocabulary).unwrap()
    }

    #[test]
    fn threads_change_no_id() {
        let piece = "the  then\n\n the kiln's 1240 degrees... a,b;  中文，中文。e\u{301} x\u{301}  \tfoo\r\n";
        let mut text = String::new();
        for index in 0..12_000 {
            text.push_str(&piece[piece.ceil_char_boundary(index % piece.len())..]);
        }
        for (pre, normalizers) in [("smollm", vec![]), ("qwen2", vec![Normalizer::Nfc]), ("gpt-4o", vec![])] {
            let tokenizer = tokenizer(pre, normalizers);
            let expected = tokenizer.encode(&text);
            assert!(expected.len() > 100_000 && expected.len() < text.len(), "{pre}: {}", expected.len());
            for threads in [2, 3, 5] {
                assert!(tokenizer.chunks(&text, threads).len() == threads, "{pre}");
                assert!(tokenizer.encode_on(&text, threads) == expected, "{pre}, {threads} threads");
            }
        }
        let short = tokenizer("smollm", vec![]);
        assert_eq!(short.encode_on("the kiln", 4), short.encode("the kiln"));
    }
}
