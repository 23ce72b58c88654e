//! How many prompt tokens a step may hold while others wait for their next token.
//!
//! What a step costs is measured as it goes: the time of decoding n sequences alone, and the time that a prompt token
//! adds. The chunk is what keeps a step near 1 + [`STRETCH`] times the undisturbed one, or within [`FAST_ENOUGH_MS`];
//! where more wait for their first token than for their next, the step may be longer, up to [`SLOW_MS`].
//! Chunked prefill beside decoding is that of Sarathi-Serve (Agrawal et al. 2024). Chunks change no result.

/// A prompt adds so many times what a step takes without it.
const STRETCH: f32 = 1.2;
/// Steps this short (40 tokens a second for each stream) needn't be shorter: small chunks waste the weights they read.
const FAST_ENOUGH_MS: f32 = 25.0;
/// How much more a second prompt for each decoding sequence may add: who waits for a first token waits longest.
const CROWD: f32 = 16.0;
/// Steps are never made longer than this, however many prompts wait.
const SLOW_MS: f32 = 250.0;
/// A prompt always goes on, by so many tokens at least.
const MIN_CHUNK: usize = 8;
/// Steps with a prompt in a row after which one goes without, to measure again.
const STEPS_BETWEEN_PROBES: usize = 64;

#[derive(Debug)]
pub(crate) struct Pace {
    /// Milliseconds of a step that decodes `index + 1` sequences and nothing else; 0 isn't known.
    decode_ms: Vec<f32>,
    /// Milliseconds that a prompt token adds to a step; 0 isn't known.
    prompt_ms: f32,
    steps_with_prompt: usize,
}

impl Pace {
    pub(crate) fn new(max_batch: usize) -> Self {
        Self { decode_ms: vec![0.0; max_batch.max(1)], prompt_ms: 0.0, steps_with_prompt: 0 }
    }

    /// Tokens of `num_prompts` prompts for the next step beside `num_decoding` sequences, at most `most`.
    pub(crate) fn chunk(&self, num_decoding: usize, num_prompts: usize, most: usize) -> usize {
        if num_decoding == 0 {
            return most;
        }
        let decode_ms = self.undisturbed_ms(num_decoding);
        if decode_ms == 0.0 || self.steps_with_prompt >= STEPS_BETWEEN_PROBES {
            return 0;
        }
        if self.prompt_ms == 0.0 {
            return MIN_CHUNK.min(most);
        }
        let num_others = num_prompts.saturating_sub(1);
        let crowd = (CROWD * num_others as f32 / num_decoding as f32).max(1.0);
        let usual = (STRETCH * decode_ms).max(FAST_ENOUGH_MS - decode_ms);
        let added_ms = (STRETCH * crowd * decode_ms).min(SLOW_MS - decode_ms).max(usual);
        let chunk = (added_ms / self.prompt_ms) as usize;
        chunk.max(MIN_CHUNK).min(most)
    }

    /// A step of `num_decoding` rows and `num_prompt` prompt tokens took so long.
    pub(crate) fn learn(&mut self, num_decoding: usize, num_prompt: usize, ms: f32) {
        if num_prompt == 0 {
            self.steps_with_prompt = 0;
            if num_decoding > 0 {
                let index = num_decoding.min(self.decode_ms.len()) - 1;
                self.decode_ms[index] = mean(self.decode_ms[index], ms);
            }
            return;
        }
        if num_decoding > 0 {
            self.steps_with_prompt += 1;
        }
        // Few tokens say little about one.
        if num_prompt >= MIN_CHUNK {
            let added = (ms - self.undisturbed_ms(num_decoding)).max(0.1 * ms);
            self.prompt_ms = mean(self.prompt_ms, added / num_prompt as f32);
        }
    }

    /// Measured, or that of the nearest number that was measured.
    fn undisturbed_ms(&self, num_decoding: usize) -> f32 {
        if num_decoding == 0 {
            return 0.0;
        }
        let wanted = num_decoding.min(self.decode_ms.len()) - 1;
        let known = self.decode_ms.iter().enumerate().filter(|(_, ms)| **ms > 0.0);
        known.min_by_key(|(index, _)| index.abs_diff(wanted)).map_or(0.0, |(_, ms)| *ms)
    }
}

fn mean(before: f32, now: f32) -> f32 {
    if before == 0.0 { now } else { 0.8 * before + 0.2 * now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine: so many ms for the weights, a sequence, a prompt token.
    fn check(fixed_ms: f32, decode_ms: f32, prompt_ms: f32, num_decoding: usize) {
        let mut pace = Pace::new(32);
        let alone = fixed_ms + decode_ms * num_decoding as f32;
        let mut done = 0;
        let mut steps = Vec::new();
        while done < 4000 {
            let chunk = pace.chunk(num_decoding, 1, 256);
            let ms = alone + prompt_ms * chunk as f32;
            pace.learn(num_decoding, chunk, ms);
            steps.push(ms);
            done += chunk;
            assert!(steps.len() < 1000, "4000 tokens take no end: {done} so far");
        }
        steps.sort_by(f32::total_cmp);
        let allowed = (2.3 * alone).max(30.0).max(alone + prompt_ms * MIN_CHUNK as f32);
        let worst = steps[steps.len() - 1];
        assert!(worst <= allowed, "{worst} ms beside {num_decoding} sequences, alone {alone} ms");
    }

    #[test]
    fn a_long_prompt_stretches_no_step_too_far_on_any_machine() {
        for fixed_ms in [0.5, 4.0, 60.0] {
            for prompt_ms in [0.05, 1.0, 12.0] {
                for num_decoding in [1, 8, 32] {
                    check(fixed_ms, 0.8 * prompt_ms + 0.2, prompt_ms, num_decoding);
                }
            }
        }
        assert_eq!(Pace::new(8).chunk(0, 3, 256), 256, "nobody decodes");
    }

    #[test]
    fn many_first_tokens_come_before_few_next_ones_within_a_limit() {
        let mut pace = Pace::new(16);
        pace.learn(4, 0, 10.0);
        pace.learn(4, 100, 110.0);
        let chunks = [1, 2, 4, 12].map(|num_prompts| pace.chunk(4, num_prompts, 1000));
        assert!(chunks[0] == 15 && chunks.is_sorted() && chunks[2] > 2 * chunks[1], "{chunks:?}");
        assert_eq!(chunks[3], 240, "10 ms and a ms for each token, up to 250");
    }
}
