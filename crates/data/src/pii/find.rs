//! One pass over a text: stretches without a digit, `@` or `:` are stepped over by sixteens, and known words (beginnings
//! of keys, titles, labels) are found by one automaton. What is found goes to the rule that knows it.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};

use super::{Config, Kind, numbers, people, secrets};

/// Something that was found, as bytes of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Found {
    pub(super) fn new(kind: Kind, start: usize, end: usize) -> Self {
        Self { kind, start, end }
    }
}

/// Which rule a known word belongs to.
#[derive(Debug, Clone, Copy)]
enum Word {
    Secret(usize),
    Person(usize),
}

/// Finds; made once, used by all threads.
#[derive(Debug)]
pub struct Finder {
    automaton: Option<AhoCorasick>,
    words: Vec<Word>,
    wanted: [bool; Kind::ALL.len()],
    private_ips: bool,
}

impl Finder {
    pub fn new(config: &Config) -> Self {
        let mut wanted = [false; Kind::ALL.len()];
        config.kinds.iter().for_each(|kind| wanted[*kind as usize] = true);
        let mut words = Vec::new();
        let mut patterns: Vec<&str> = Vec::new();
        if wanted[Kind::Secret as usize] {
            for (at, rule) in secrets::RULES.iter().enumerate() {
                patterns.push(rule.prefix);
                words.push(Word::Secret(at));
            }
        }
        for (at, rule) in people::RULES.iter().enumerate() {
            if wanted[rule.kind as usize] {
                patterns.push(rule.word);
                words.push(Word::Person(at));
            }
        }
        let automaton = (!patterns.is_empty())
            .then(|| {
                AhoCorasickBuilder::new()
                    .match_kind(MatchKind::LeftmostLongest)
                    .kind(Some(AhoCorasickKind::DFA))
                    .build(&patterns)
                    .ok()
            })
            .flatten();
        Self { automaton, words, wanted, private_ips: config.private_ips }
    }

    /// What a text holds, in order and without overlaps.
    pub fn find(&self, text: &str, found: &mut Vec<Found>) {
        found.clear();
        self.by_bytes(text, found);
        if let Some(automaton) = &self.automaton {
            for hit in automaton.find_iter(text) {
                let more = match self.words[hit.pattern().as_usize()] {
                    Word::Secret(rule) => secrets::at(text, hit.start(), hit.end(), &secrets::RULES[rule]),
                    Word::Person(rule) => people::at(text, hit.start(), hit.end(), &people::RULES[rule]),
                };
                found.extend(more);
            }
        }
        found.retain(|item| self.wanted[item.kind as usize]);
        if found.len() > 1 {
            without_overlaps(found);
        }
    }

    fn by_bytes(&self, text: &str, found: &mut Vec<Found>) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if let Some(chunk) = bytes.get(at..at + 16)
                && !chunk.iter().fold(false, |any, &byte| any | is_trigger(byte))
            {
                at += 16;
                continue;
            }
            let byte = bytes[at];
            if !is_trigger(byte) {
                at += 1;
                continue;
            }
            let (item, next) = match byte {
                b'@' => (numbers::email(bytes, at), at + 1),
                b':' => (numbers::ipv6(text, at, self.private_ips), at + 1),
                b'+' => (numbers::international(bytes, at), at + 1),
                b'(' => (numbers::in_brackets(bytes, at), at + 1),
                _ => {
                    let end = numbers::end_of_digits(bytes, at);
                    (numbers::at(text, at, end, self.private_ips), end)
                }
            };
            // What was found isn't looked into again, where it lies ahead.
            at = item.filter(|item| item.start >= at).map_or(next, |item| item.end.max(next));
            found.extend(item);
        }
    }
}

#[inline]
fn is_trigger(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'@' || byte == b':' || byte == b'+' || byte == b'('
}

/// Of two that overlap the one of higher precedence stays, then the longer one.
fn without_overlaps(found: &mut Vec<Found>) {
    found.sort_by_key(|item| (item.kind, std::cmp::Reverse(item.end - item.start), item.start));
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    for item in found.iter() {
        // `kept` is in the order of places: only neighbours can overlap.
        let at = kept.partition_point(|other| other.start < item.start);
        let before = at.checked_sub(1).is_none_or(|before| kept[before].end <= item.start);
        let after = kept.get(at).is_none_or(|after| after.start >= item.end);
        if before && after {
            kept.insert(at, *item);
        }
    }
    *found = kept;
}
