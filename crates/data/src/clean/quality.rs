//! Gopher's rules for quality (Rae et al., 2021, section A1.1) and `FineWeb`'s own (Penedo et al., 2024), with the published
//! thresholds and datatrove's names for the reasons.
//!
//! For Chinese a word is [`units::CHARS_PER_WORD`] characters, a line's length counts a character as
//! [`CHARS_PER_HAN`] Latin ones, function words are characters, and sentences end with `。！？；`. The mean length of words
//! is judged only where spaces part them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Profile;
use super::repetition::{Seen, duplicates};
use crate::units::{self, UnitKind};

/// Latin characters that say as much as a Chinese one.
pub(super) const CHARS_PER_HAN: usize = 3;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quality {
    pub enabled: bool,
    pub min_doc_words: f64,
    pub max_doc_words: f64,
    pub min_avg_word_length: f64,
    pub max_avg_word_length: f64,
    pub max_symbol_word_ratio: f64,
    pub max_bullet_lines_ratio: f64,
    pub max_ellipsis_lines_ratio: f64,
    /// Words with a letter, as a share of all; datatrove's `max_non_alpha_words_ratio`.
    pub min_alpha_words_ratio: f64,
    /// Different function words of the text's language; not asked of languages without a list.
    pub min_stop_words: usize,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            enabled: true,
            min_doc_words: 50.0,
            max_doc_words: 100_000.0,
            min_avg_word_length: 3.0,
            max_avg_word_length: 10.0,
            max_symbol_word_ratio: 0.1,
            max_bullet_lines_ratio: 0.9,
            max_ellipsis_lines_ratio: 0.3,
            min_alpha_words_ratio: 0.8,
            min_stop_words: 2,
        }
    }
}

/// Function words of each language, made when they are first asked for.
#[derive(Debug, Default)]
pub(super) struct StopWords(HashMap<String, Vec<u64>>);

impl StopWords {
    /// Are there `min` different ones of the language?
    fn enough(&mut self, profile: &Profile<'_>, min: usize) -> bool {
        if !units::has_stop_words(profile.language) {
            return true;
        }
        if !self.0.contains_key(profile.language) {
            self.0.insert(profile.language.into(), units::stop_hashes(profile.language));
        }
        let stops = &self.0[profile.language];
        let mut found = Vec::with_capacity(min);
        for unit in profile.units {
            if found.len() >= min {
                break;
            }
            if stops.binary_search(&unit.hash).is_ok() && !found.contains(&unit.hash) {
                found.push(unit.hash);
            }
        }
        found.len() >= min
    }
}

/// What lines begin and end with.
#[derive(Debug, Default)]
struct Lines {
    all: usize,
    bullets: usize,
    ellipses: usize,
}

impl Quality {
    pub(super) fn judge(&self, profile: &Profile<'_>, stops: &mut StopWords) -> Option<&'static str> {
        if !self.enabled {
            return None;
        }
        if profile.num_words < self.min_doc_words {
            return Some("gopher_short_doc");
        }
        if profile.num_words > self.max_doc_words {
            return Some("gopher_long_doc");
        }
        let text = profile.text;
        let is_ascii = text.is_ascii();
        let (mut words, mut length, mut alpha, mut marks, mut wide) =
            (0usize, 0usize, 0usize, 0usize, 0usize);
        for unit in profile.units {
            match unit.kind {
                UnitKind::Word | UnitKind::Number => {
                    words += 1;
                    alpha += usize::from(unit.kind == UnitKind::Word);
                    length += match is_ascii {
                        true => unit.num_bytes(),
                        false => units::num_chars(&text[unit.start as usize..unit.end as usize]),
                    };
                }
                UnitKind::Character => wide += 1,
                UnitKind::Mark => marks += 1,
            }
        }
        let average = length as f64 / words.max(1) as f64;
        if !profile.unspaced && average < self.min_avg_word_length {
            return Some("gopher_below_avg_threshold");
        }
        if !profile.unspaced && average > self.max_avg_word_length {
            return Some("gopher_above_avg_threshold");
        }
        let num_tokens = profile.num_words + marks as f64;
        let hashes = memchr::memchr_iter(b'#', text.as_bytes()).count();
        if hashes as f64 / num_tokens > self.max_symbol_word_ratio {
            return Some("gopher_too_many_hashes");
        }
        if ellipses(text) as f64 / num_tokens > self.max_symbol_word_ratio {
            return Some("gopher_too_many_ellipsis");
        }
        let lines = look_at_lines(text);
        if lines.bullets as f64 / lines.all as f64 > self.max_bullet_lines_ratio {
            return Some("gopher_too_many_bullets");
        }
        if lines.ellipses as f64 / lines.all as f64 > self.max_ellipsis_lines_ratio {
            return Some("gopher_too_many_end_ellipsis");
        }
        // Of all tokens, marks too, as datatrove counts; Chinese has no mark that a character doesn't outweigh.
        let alpha = alpha as f64 + wide as f64 / units::CHARS_PER_WORD;
        if alpha / num_tokens < self.min_alpha_words_ratio
            && alpha / profile.num_words < self.min_alpha_words_ratio
        {
            return Some("gopher_below_alpha_threshold");
        }
        (!stops.enough(profile, self.min_stop_words)).then_some("gopher_enough_stop_words")
    }
}

/// `...` and `…`, each run of dots once for three.
fn ellipses(text: &str) -> usize {
    let bytes = text.as_bytes();
    let dots = memchr::memmem::find_iter(bytes, "...").count();
    let is_ascii = text.is_ascii();
    dots + if is_ascii { 0 } else { memchr::memmem::find_iter(bytes, "…").count() }
}

fn look_at_lines(text: &str) -> Lines {
    let mut lines = Lines::default();
    for line in text.lines() {
        let line = line.trim();
        lines.all += 1;
        lines.bullets += usize::from(line.starts_with(['•', '-', '·', '●', '*']));
        lines.ellipses += usize::from(line.ends_with("...") || line.ends_with('…'));
    }
    lines.all = lines.all.max(1);
    lines
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineWeb {
    pub enabled: bool,
    /// Lines that end with a mark, as a share of all, at least.
    pub line_punct_ratio: f64,
    pub short_line_ratio: f64,
    pub short_line_length: usize,
    /// Characters in lines that came before, at most.
    pub char_dup_ratio: f64,
    /// Line ends for each word, at most.
    pub new_line_ratio: f64,
}

impl Default for FineWeb {
    fn default() -> Self {
        Self {
            enabled: true,
            line_punct_ratio: 0.12,
            short_line_ratio: 0.67,
            short_line_length: 30,
            char_dup_ratio: 0.01,
            new_line_ratio: 0.3,
        }
    }
}

const TERMINAL: &[char] =
    &['.', '?', '!', '。', '？', '！', '；', '．', '｡', '…', '؟', '۔', '।', '՞', '։', '።'];

impl FineWeb {
    pub(super) fn judge(&self, profile: &Profile<'_>, seen: &mut Seen) -> Option<&'static str> {
        if !self.enabled {
            return None;
        }
        let text = profile.text;
        let lines = || text.split('\n').filter(|line| !line.trim().is_empty());
        let (mut all, mut ended, mut short) = (0usize, 0usize, 0usize);
        for line in lines() {
            all += 1;
            // Quotes and brackets may stand behind the mark.
            let line = line.trim_end_matches(['"', '”', '」', '』', '’', '\'', ')', '）', ' ', '\t']);
            ended += usize::from(line.ends_with(TERMINAL));
            short += usize::from(is_short(line, self.short_line_length));
        }
        if all == 0 {
            return Some("empty");
        }
        if (ended as f64 / all as f64) < self.line_punct_ratio {
            return Some("line_punct_ratio");
        }
        if short as f64 / all as f64 > self.short_line_ratio {
            return Some("short_line_ratio");
        }
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let found = duplicates(lines(), seen);
        if found.bytes as f64 / (text.len() - newlines).max(1) as f64 > self.char_dup_ratio {
            return Some("char_dup_ratio");
        }
        (newlines as f64 / profile.num_words.max(1.0) > self.new_line_ratio).then_some("list_ratio")
    }
}

fn is_short(line: &str, max: usize) -> bool {
    // No character takes more than four bytes, and none less than one.
    if line.len() > max * 4 {
        return false;
    }
    units::num_chars(line) + units::num_han(line) * (CHARS_PER_HAN - 1) <= max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, language: &str, expected: Option<&str>) {
        let mut found = Vec::new();
        units::split(text, &mut found);
        let profile = Profile::new(text, &found, language);
        let judged = Quality::default().judge(&profile, &mut StopWords::default());
        let judged = judged.or_else(|| FineWeb::default().judge(&profile, &mut Seen::default()));
        assert_eq!(judged, expected, "{text}");
    }

    #[test]
    fn reasons_have_datatroves_names() {
        let sentence = "The cord of the lamp is to be kept away from the water that is in the basin. ";
        let varied: String =
            (0..12).map(|at| ["In house ", &at.to_string(), " ", sentence, "\n"].concat()).collect();
        check(&varied, "en", None);
        check("Too short.", "en", Some("gopher_short_doc"));
        check(&"a b c d e f g h ".repeat(20), "en", Some("gopher_below_avg_threshold"));
        check(&"incomprehensibilities ".repeat(60), "en", Some("gopher_above_avg_threshold"));
        check(&format!("{varied}{}", "# ".repeat(60)), "en", Some("gopher_too_many_hashes"));
        check(&"- item with the point of it that have\n".repeat(60), "en", Some("gopher_too_many_bullets"));
        check(&"number 1234 5678 9012 ".repeat(30), "en", Some("gopher_below_alpha_threshold"));
        check(&"house garden water window ".repeat(30), "en", Some("gopher_enough_stop_words"));
        check(&"the house that stands there and waits for you\n".repeat(20), "en", Some("line_punct_ratio"));
        let chinese: String = (0..12)
            .map(|at: u32| {
                [
                    "第",
                    &at.to_string(),
                    "盏灯的电源线要远离水，在打开外壳之前请先拔下插头，然后再等待五分钟。\n",
                ]
                .concat()
            })
            .collect();
        check(&chinese, "zh", None);
        check("太短。", "zh", Some("gopher_short_doc"));
    }
}
