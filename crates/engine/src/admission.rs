//! Who gets a place and memory, who gives it back, and what is kept of those that are over.
//!
//! Memory is given as it is needed: a request is admitted when there is room for its prompt, and when an older
//! sequence needs a page that isn't there, what is only kept goes first, then the youngest sequence pauses. It goes on
//! later from the tokens it has; keys and values are computed again, to the same bits. So the budget holds always,
//! the oldest sequence always goes on, and nothing is reserved for answers that end early.

use std::sync::Arc;
use std::time::Instant;

use hearth_kernels::attention::PAGE;
use hearth_model::Decoder;
use hearth_tensor::kv::KvCache;

use crate::keeping::Loaded;
use crate::prefix::{Found, common_len};
use crate::queue::Waiting;
use crate::request::{Error, Event};
use crate::scheduler::{Scheduler, Share};
use crate::sequence::{Job, Sequence};

/// Waiting for a prefix that another sequence is computing pays off from this many tokens on.
const WORTH_WAITING: usize = 64;

/// What becomes of a job that is looked at.
enum Verdict {
    /// It runs, with what is known of its prompt.
    Runs(Found),
    /// What it begins with is on its way; others may pass.
    Held,
    /// There is no place or no memory for it before something ends.
    NoRoom,
}

impl Scheduler {
    /// Frees the places of requests nobody waits for any more or whose time is over, before anything is computed
    /// for them.
    pub(crate) fn drop_ended(&mut self) {
        let now = Instant::now();
        let counters = &self.counters;
        self.queue.retain(|job| {
            let stays = still_wanted(job, now);
            if !stays {
                counters.dequeue(&job.request);
            }
            stays
        });
        for sequence in self.active.iter_mut().chain(&mut self.paused) {
            sequence.drop_cancelled();
            if !sequence.over && sequence.request.deadline.is_some_and(|deadline| deadline <= now) {
                sequence.fail(&Error::DeadlinePassed { generated_tokens: sequence.num_generated() });
            }
        }
        let queue = &mut self.queue;
        self.paused.retain(|sequence| {
            if sequence.over {
                queue.vacate(sequence.client());
            }
            !sequence.over
        });
        self.retire();
    }

    /// Moves paused sequences, then waiting requests into the batch, in their order; one whose prefix is being
    /// computed right now lets others pass.
    pub(crate) fn admit(&mut self) {
        while let Some(mut sequence) = self.paused.pop_front() {
            let limit = sequence.tokens.len() - 1;
            let found = self.prefixes.find(&sequence.tokens, limit, &sequence.decoder);
            if !self.has_room(sequence.tokens.len() + 1, &found) {
                self.paused.push_front(sequence);
                return;
            }
            self.counters.recomputed.add(limit - found.cache.len());
            sequence.resume(found);
            self.active.push(sequence);
        }
        let mut num_held = 0;
        self.queue.begin_round();
        while num_held < self.config.max_batch {
            let Some(mut waiting) = self.queue.pick(self.config.max_batch) else { return };
            match self.look_at(&mut waiting) {
                Verdict::Runs(found) => self.start(waiting, found),
                Verdict::Held => {
                    num_held += 1;
                    self.queue.hold(waiting);
                }
                Verdict::NoRoom => return self.queue.hold(waiting),
            }
        }
    }

    fn look_at(&mut self, waiting: &mut Waiting) -> Verdict {
        let job = &waiting.job;
        let taken: usize = self.active.iter().map(Sequence::num_places).sum();
        if taken + job.outputs.len() > self.config.max_batch {
            return Verdict::NoRoom;
        }
        let decoder = &self.decoder_of(job);
        let tokens = &job.request.prompt;
        // The last prompt token is always computed: its logits choose the first token of the answer.
        let limit = if job.request.reuses_prefix { tokens.len() - 1 } else { 0 };
        let mut found = self.prefixes.find(tokens, limit, decoder);
        match self.load(waiting, decoder, found.num_pages) {
            Loaded::Nothing => {}
            Loaded::All => found = self.prefixes.find(&waiting.job.request.prompt, limit, decoder),
            Loaded::Some => return Verdict::Held,
        }
        let job = &waiting.job;
        let tokens = &job.request.prompt;
        for other in self.active.iter().filter(|other| Arc::ptr_eq(&other.decoder, decoder)) {
            let common = common_len(&other.tokens, tokens).min(limit);
            let ready = common.min(other.cache.len());
            if ready > found.cache.len() {
                found.cache = other.cache.prefix(ready);
            }
            if is_worth_waiting(common, ready, found.cache.len()) {
                return Verdict::Held;
            }
        }
        // Every choice writes a last page of its own.
        let num_positions = tokens.len() + 1 + (job.outputs.len() - 1) * PAGE;
        if self.has_room(num_positions, &found) { Verdict::Runs(found) } else { Verdict::NoRoom }
    }

    fn start(&mut self, waiting: Waiting, found: Found) {
        let job = waiting.job;
        let (cached, computed) = (found.cache.len(), job.request.prompt.len() - found.cache.len());
        self.counters.dequeue(&job.request);
        self.counters.cached.add(cached);
        self.counters.prompt.add(computed);
        let decoder = self.decoder_of(&job);
        let mut sequence = Sequence::start(job, decoder, found, self.model.tokenizer());
        self.num_admitted += 1;
        sequence.order = self.num_admitted;
        for _ in 0..sequence.num_places() {
            self.queue.occupy(sequence.client());
        }
        self.queue.charge(sequence.client(), computed, 0);
        // Nothing is computed for a request that asks for nothing.
        sequence.over = sequence.request.max_tokens == 0;
        self.active.push(sequence);
    }

    fn decoder_of(&self, job: &Job) -> Arc<Decoder> {
        Arc::clone(job.adapted.as_ref().map_or(&self.base, |adapted| &adapted.decoder))
    }

    /// Whether so many positions fit beside what runs, if what is only kept goes.
    fn has_room(&self, num_positions: usize, found: &Found) -> bool {
        if self.active.is_empty() {
            return true;
        }
        let page_bytes = found.cache.page_bytes();
        let needed = (num_positions.div_ceil(PAGE) - found.num_pages) * page_bytes;
        let missing = |sequence: &Sequence| sequence.tokens.len() - sequence.cache.len();
        let growth: usize = self.active.iter().map(|s| s.cache.growth_bytes(missing(s))).sum();
        let idle = self.prefixes.num_idle_pages() * page_bytes;
        (self.used_bytes() - idle).saturating_add(needed).saturating_add(growth) <= self.config.kv_bytes
    }

    /// Bytes of all keys and values; what siblings share counts for each.
    pub(crate) fn used_bytes(&self) -> usize {
        let own: usize = self.active.iter().map(Sequence::own_bytes).sum();
        own + self.prefixes.num_pages() * self.page_bytes()
    }

    pub(crate) fn page_bytes(&self) -> usize {
        KvCache::new(self.base.page_layout()).page_bytes()
    }

    /// Makes room for a step: what is only kept goes, then the youngest sequences pause.
    pub(crate) fn make_room(&mut self, shares: &mut Vec<Share>) {
        loop {
            let growth = |(sequence, share): (&Sequence, &Share)| match share.count {
                0 => 0,
                count => sequence.cache.growth_bytes(count + share.drafts.len()),
            };
            let needed: usize = self.active.iter().zip(shares.iter()).map(growth).sum();
            let mut total = self.used_bytes().saturating_add(needed);
            while total > self.config.kv_bytes && self.prefixes.evict() {
                total -= self.page_bytes();
            }
            if total <= self.config.kv_bytes {
                return;
            }
            let live = self.active.iter().enumerate().filter(|(_, sequence)| !sequence.over);
            let Some((youngest, _)) = live.max_by_key(|(index, sequence)| (sequence.order, *index)) else {
                return;
            };
            if self.active.iter().filter(|sequence| !sequence.over).count() == 1 {
                // It fits alone, as was checked when it came; only guesses may be too many.
                shares[youngest].drafts.clear();
                return;
            }
            shares.remove(youngest);
            let mut sequence = self.active.remove(youngest);
            sequence.pause();
            self.counters.pauses.add(1);
            self.paused.push_front(sequence);
        }
    }

    /// Offers every page that became whole to all sequences to come.
    pub(crate) fn keep_whole_pages(&mut self) {
        for sequence in &mut self.active {
            while (sequence.num_kept + 1) * PAGE <= sequence.cache.len() {
                let index = sequence.num_kept;
                let tokens = &sequence.tokens[index * PAGE..(index + 1) * PAGE];
                let page = &sequence.cache.pages()[index];
                let Some((node, page)) = self.prefixes.insert(sequence.node, tokens, page) else { break };
                sequence.cache.replace_page(index, page);
                sequence.node = node;
                sequence.num_kept += 1;
            }
        }
    }

    /// Takes finished and cancelled sequences out of the batch and keeps their keys and values.
    pub(crate) fn retire(&mut self) {
        if self.active.iter().any(|sequence| sequence.over) {
            self.keep_whole_pages();
        }
        let decoders: Vec<Arc<Decoder>> =
            self.active.iter().filter(|s| s.over).map(|s| Arc::clone(&s.decoder)).collect();
        let (over, active) = self.active.drain(..).partition(|sequence: &Sequence| sequence.over);
        self.active = active;
        for sequence in Vec::from_iter::<Vec<Sequence>>(over) {
            self.queue.vacate(sequence.client());
            let from = sequence.num_kept * PAGE;
            if from < sequence.cache.len() {
                let tokens = &sequence.tokens[from..sequence.cache.len()];
                self.prefixes.insert(sequence.node, tokens, &sequence.cache.pages()[sequence.num_kept]);
            }
        }
        for decoder in decoders {
            self.save_reused(&decoder);
        }
        let mut idle = self.prefixes.num_idle_pages() * self.page_bytes();
        while idle > self.config.prefix_cache_bytes && self.prefixes.evict() {
            idle -= self.page_bytes();
        }
        self.counters.hold(self.active.len(), self.used_bytes());
        self.counters.hold_idle(idle);
    }
}

/// Ends the choices of a waiting job that nobody waits for any more, or all when its time is over.
fn still_wanted(job: &mut Job, now: Instant) -> bool {
    let is_late = job.request.deadline.is_some_and(|deadline| deadline <= now);
    job.outputs.retain(|output| {
        let error = match (output.canceller.is_cancelled(), is_late) {
            (true, _) => Error::Cancelled,
            (_, true) => Error::DeadlinePassed { generated_tokens: 0 },
            _ => return true,
        };
        output.send(Event::Failed(error));
        false
    });
    !job.outputs.is_empty()
}

/// Whether a prompt waits for another that computes the `common` positions both begin with: `ready` of them are there,
/// and `known` of its own positions.
fn is_worth_waiting(common: usize, ready: usize, known: usize) -> bool {
    common > ready && common >= known + WORTH_WAITING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_waits_only_for_more_than_it_has() {
        assert!(is_worth_waiting(500, 100, 100));
        assert!(!is_worth_waiting(500, 500, 500), "all is there");
        assert!(!is_worth_waiting(100 + WORTH_WAITING - 1, 50, 100), "a few are computed faster");
        assert!(!is_worth_waiting(30, 10, 50), "it knows more than they have in common");
    }
}
