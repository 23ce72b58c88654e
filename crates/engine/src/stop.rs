//! Where the text ends: stop texts that may begin in one token and end in another.
//!
//! The stop text that is complete first ends the answer, of those the longest; so where tokens begin and end changes
//! nothing. What may still become a stop text is held back.

/// Text on its way out.
#[derive(Debug, Clone)]
pub(crate) struct StopText {
    stops: Vec<String>,
    held: String,
}

impl StopText {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Adds text; returns what can be shown and whether a stop text was reached.
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let hits = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = hits.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| self.overlap(stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is held back at the end of the stream.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that are a beginning of `stop`.
    fn overlap(&self, stop: &str) -> usize {
        (1..stop.len())
            .rev()
            .find(|&len| stop.is_char_boundary(len) && self.held.ends_with(&stop[..len]))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was shown, all of it, and whether a stop ended it.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stop = StopText::new(stops.iter().map(|&stop| stop.into()).collect());
        let mut out = String::new();
        for piece in pieces {
            let (text, hit) = stop.push(piece);
            out.push_str(&text);
            if hit {
                return (out, true);
            }
        }
        out.push_str(&stop.finish());
        (out, false)
    }

    #[test]
    fn stops_are_found_wherever_tokens_end() {
        let cases: [(&[&str], &[&str], &str, bool); 9] = [
            (&[], &["a", "b"], "ab", false),
            (&["END"], &["oneEN", "Dtwo"], "one", true),
            (&["END"], &["oneE", "N", "x"], "oneENx", false),
            (&["\n\n", "。"], &["你好", "。再见"], "你好", true),
            (&["ab", "b"], &["xa", "b"], "x", true),
            (&["END"], &["EN"], "EN", false),
            (&["aab"], &["a", "a", "a", "b"], "a", true),
            (&["abcd", "bc"], &["abcd"], "a", true),
            (&["é!", "好的"], &["é", "!"], "", true),
        ];
        for (stops, pieces, expected, hit) in cases {
            assert_eq!(run(stops, pieces), (expected.into(), hit), "{stops:?} {pieces:?}");
        }
    }

    /// The definition, character by character: a stop text that is complete ends the text, the longest first.
    fn reference(stops: &[&str], text: &str) -> (String, bool) {
        for (at, character) in text.char_indices() {
            let so_far = &text[..at + character.len_utf8()];
            if let Some(longest) =
                stops.iter().filter(|stop| so_far.ends_with(**stop)).map(|stop| stop.len()).max()
            {
                return (so_far[..so_far.len() - longest].into(), true);
            }
        }
        (text.into(), false)
    }

    #[test]
    fn where_pieces_begin_and_end_changes_nothing() {
        let all = ["a", "ab", "ba", "aab", "bb", "aé", "é好", "好a", "abab", "b好b"];
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut num_hits = 0;
        for _ in 0..4000 {
            let stops: Vec<&str> = (0..random(4)).map(|_| all[random(all.len())]).collect();
            let characters: Vec<char> = (0..random(14)).map(|_| ['a', 'b', 'é', '好'][random(4)]).collect();
            let text: String = characters.iter().collect();
            let mut pieces = vec![String::new()];
            for character in characters {
                if random(2) == 0 {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(character);
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let expected = reference(&stops, &text);
            num_hits += usize::from(expected.1);
            assert_eq!(run(&stops, &pieces), expected, "{stops:?} {pieces:?}");
        }
        assert!((500..3500).contains(&num_hits));
    }
}
