//! Which language a text is in: by its script where that says it, else by `whichlang` on several places of the text.
//!
//! The score is the share of letters in the script, or of places that agree; a language whose function words hardly occur
//! counts half, so that text in a language that isn't known is told with little certainty.

use whichlang::{Lang, detect_language};

use crate::units;

/// The languages that are told apart, and `und` for text without letters.
pub(super) const KNOWN: [&str; 24] = [
    "ar", "bn", "de", "el", "en", "es", "fa", "fr", "he", "hi", "it", "ja", "ka", "ko", "nl", "pt", "ru",
    "sv", "th", "tr", "uk", "vi", "zh", "und",
];

/// Places of a text that are looked at, and their size.
const NUM_WINDOWS: usize = 3;
const WINDOW_BYTES: usize = 400;
/// Characters whose scripts are counted.
const SCRIPT_CHARS: usize = 300;
/// Function words are at least this share of a text in a language with a list.
const MIN_STOP_SHARE: f64 = 0.06;

#[derive(Debug, Default)]
struct Scripts {
    latin: usize,
    han: usize,
    kana: usize,
    hangul: usize,
    cyrillic: usize,
    ukrainian: usize,
    arabic: usize,
    persian: usize,
    others: [usize; 6],
}

/// Scripts that are one language's own.
const OTHERS: [(u32, u32, &str); 6] = [
    (0x370, 0x3ff, "el"),
    (0x590, 0x5ff, "he"),
    (0x900, 0x97f, "hi"),
    (0x980, 0x9ff, "bn"),
    (0xe00, 0xe7f, "th"),
    (0x10a0, 0x10ff, "ka"),
];

impl Scripts {
    fn count(&mut self, text: &str) {
        for c in text.chars().take(SCRIPT_CHARS) {
            match u32::from(c) {
                0..=0xbf => self.latin += usize::from(c.is_ascii_alphabetic()),
                0xc0..=0x24f | 0x1e00..=0x1eff => self.latin += 1,
                0x4e00..=0x9fff | 0x3400..=0x4dbf => self.han += 1,
                0x3041..=0x30ff => self.kana += 1,
                0xac00..=0xd7af | 0x1100..=0x11ff => self.hangul += 1,
                0x400..=0x52f => {
                    self.cyrillic += 1;
                    self.ukrainian += usize::from("іїєґІЇЄҐ".contains(c));
                }
                0x600..=0x6ff => {
                    self.arabic += 1;
                    self.persian += usize::from("پچژگی".contains(c));
                }
                code => {
                    if let Some(at) = OTHERS.iter().position(|row| (row.0..=row.1).contains(&code)) {
                        self.others[at] += 1;
                    }
                }
            }
        }
    }

    /// The language a script says, with its share of all letters; `None` for Latin script.
    fn language(&self) -> Option<(&'static str, f64)> {
        // A Chinese character says as much as some Latin letters.
        let east = self.han + self.kana;
        let weights = [
            (self.latin, ""),
            (east * 2, if self.kana * 10 > east { "ja" } else { "zh" }),
            (self.hangul * 2, "ko"),
            (self.cyrillic, if self.ukrainian * 50 > self.cyrillic { "uk" } else { "ru" }),
            (self.arabic, if self.persian * 20 > self.arabic { "fa" } else { "ar" }),
        ];
        let others = self.others.iter().zip(OTHERS).map(|(count, row)| (*count, row.2));
        let all = weights.into_iter().chain(others);
        let total: usize = all.clone().map(|(count, _)| count).sum();
        if total == 0 {
            return Some(("und", 0.0));
        }
        // The first of several that are equal.
        let (count, language) = all.rev().max_by_key(|(count, _)| *count)?;
        (!language.is_empty()).then(|| (language, count as f64 / total as f64))
    }
}

/// The language of a text and how certain that is, from 0 to 1.
pub fn detect(text: &str) -> (&'static str, f64) {
    let windows = windows(text);
    let mut scripts = Scripts::default();
    for window in &windows {
        scripts.count(window);
    }
    if let Some(found) = scripts.language() {
        return found;
    }
    let found: Vec<Option<&'static str>> =
        windows.iter().map(|window| code(detect_language(window))).collect();
    let votes = |language| found.iter().filter(|vote| **vote == language).count();
    let best = found.iter().copied().max_by_key(|language| votes(*language)).flatten();
    let Some(language) = best else {
        return ("und", 0.0);
    };
    let share = votes(Some(language)) as f64 / found.len() as f64;
    let known = stop_share(language, &windows) >= MIN_STOP_SHARE;
    (language, if known { share } else { share / 2.0 })
}

/// Places of a text from its start, middle and end, at borders of characters.
fn windows(text: &str) -> Vec<&str> {
    if text.len() <= WINDOW_BYTES * NUM_WINDOWS {
        return vec![text];
    }
    let step = (text.len() - WINDOW_BYTES) / (NUM_WINDOWS - 1);
    let place = |index: usize| {
        let start = text.floor_char_boundary(index * step);
        &text[start..text.floor_char_boundary(start + WINDOW_BYTES)]
    };
    (0..NUM_WINDOWS).map(place).collect()
}

fn stop_share(language: &str, windows: &[&str]) -> f64 {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    static STOPS: LazyLock<HashMap<&'static str, Vec<u64>>> =
        LazyLock::new(|| KNOWN.iter().map(|language| (*language, units::stop_hashes(language))).collect());
    let Some(stops) = STOPS.get(language).filter(|stops| !stops.is_empty()) else {
        return 1.0;
    };
    let (mut all, mut hits) = (0usize, 0usize);
    let mut found = Vec::new();
    for window in windows {
        units::split(window, &mut found);
        found.retain(|unit| unit.kind == units::UnitKind::Word);
        all += found.len();
        hits += found.iter().filter(|unit| stops.binary_search(&unit.hash).is_ok()).count();
    }
    hits as f64 / all.max(1) as f64
}

/// ISO 639-1; none for a script that can't be Latin.
fn code(language: Lang) -> Option<&'static str> {
    Some(match language {
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fra => "fr",
        Lang::Ita => "it",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Spa => "es",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        let samples = [
            ("zh", "打开外殼之前请拔下电源线，并妥善保管说明书以备日后查阅。"),
            ("en", "Unplug the cord before you open the case, and keep this manual for later."),
            ("ja", "カバーを開ける前に電源を切ってください。説明書はよくお読みください。"),
            ("ko", "덮개를 열기 전에 전원을 끄십시오. 설명서를 읽어 주십시오."),
            (
                "de",
                "Ziehen Sie den Stecker, bevor Sie das Gehäuse öffnen, und bewahren Sie die Anleitung auf.",
            ),
            ("fr", "Débranchez le cordon avant d'ouvrir le boîtier et conservez ce manuel pour plus tard."),
            ("es", "Desenchufe el cable antes de abrir la caja y conserve el manual para más tarde."),
            ("ru", "Отключите питание перед тем, как открыть корпус, и сохраните руководство."),
            ("uk", "Вимкніть живлення перед тим, як відкрити корпус, і збережіть цей посібник."),
            ("pt", "Desligue o cabo antes de abrir a caixa e guarde o manual para não o perder."),
            ("it", "Staccare il cavo prima di aprire la scatola e conservare il manuale per il futuro."),
            ("ar", "افصل السلك قبل فتح العلبة واحتفظ بهذا الدليل للرجوع إليه لاحقا."),
            ("el", "Διαβάστε το εγχειρίδιο πριν από τη χρήση της συσκευής."),
            ("und", "12 + 30 = 42 !!"),
        ];
        for (language, text) in samples {
            assert_eq!(detect(text).0, language, "{text}");
        }
    }
}
