//! Where the text ends: stop texts that may begin in one token and end in another.

/// Text on its way out, with whatever may still become a stop text held back.
#[derive(Debug)]
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
        let hit = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = hit {
            self.held.truncate(at);
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
        let cases: [(&[&str], &[&str], &str, bool); 6] = [
            (&[], &["a", "b"], "ab", false),
            (&["END"], &["oneEN", "Dtwo"], "one", true),
            (&["END"], &["oneE", "N", "x"], "oneENx", false),
            (&["\n\n", "。"], &["你好", "。再见"], "你好", true),
            (&["ab", "b"], &["xa", "b"], "x", true),
            (&["END"], &["EN"], "EN", false),
        ];
        for (stops, pieces, expected, hit) in cases {
            assert_eq!(run(stops, pieces), (expected.into(), hit), "{stops:?} {pieces:?}");
        }
    }
}
