//! Between the prefix tree in memory and the [`Store`] on disk: what is read for a prompt, and what is written when.
//!
//! Pages that a second request used are written in the background; at the end of the engine everything that fits.
//! Reading goes a few pages at a time, so that streams don't wait for a long prompt's file reads.

use std::sync::Arc;

use hearth_kernels::attention::PAGE;
use hearth_model::Decoder;
use hearth_tokenizer::TokenId;

use crate::queue::Waiting;
use crate::scheduler::Scheduler;
use crate::store::{Chain, Store};

/// Pages read between two steps: some 20 ms for those of a small model.
const PAGES_A_STEP: usize = 8;

/// How far a prompt's pages have come from disk.
pub(crate) enum Loaded {
    Nothing,
    /// More are there.
    Some,
    All,
}

impl Scheduler {
    /// Reads pages that follow the first `num_known` of a waiting prompt.
    pub(crate) fn load(&mut self, waiting: &mut Waiting, decoder: &Arc<Decoder>, num_known: usize) -> Loaded {
        if !waiting.job.request.reuses_prefix {
            return Loaded::Nothing;
        }
        let Some(store) = self.store.take() else { return Loaded::Nothing };
        let loaded = self.load_from(&store, waiting, decoder, num_known);
        self.store = Some(store);
        loaded
    }

    fn load_from(
        &mut self,
        store: &Store,
        waiting: &mut Waiting,
        decoder: &Arc<Decoder>,
        num_known: usize,
    ) -> Loaded {
        let hash = waiting.job.adapted.as_ref().map_or("", |adapted| &adapted.hash);
        let start = self.chain_of(store, decoder, hash);
        let tokens = &waiting.job.request.prompt;
        let num_whole = (tokens.len() - 1) / PAGE;
        // Where memory is too small to keep them, pages aren't read again and again.
        if num_known >= num_whole || waiting.num_loaded >= num_whole {
            return Loaded::Nothing;
        }
        let mut chain = start.end(&tokens[..num_known * PAGE]);
        let found = self.prefixes.find(tokens, num_known * PAGE, decoder);
        let mut node = found.node;
        // Pages that are held can't be the ones that make room for the next.
        let mut held = Vec::new();
        for key in tokens[num_known * PAGE..num_whole * PAGE].chunks_exact(PAGE) {
            chain = chain.next(key);
            if !store.has(&chain) || !self.make_room_for_page() {
                break;
            }
            if held.len() == PAGES_A_STEP {
                return Loaded::Some;
            }
            let Some(page) = store.read(&chain, decoder.page_layout()) else {
                self.counters.refused_pages.add(1);
                break;
            };
            let Some((next, page)) = self.prefixes.insert(node, key, &page) else { break };
            self.prefixes.mark_saved(next);
            self.counters.loaded_pages.add(1);
            node = next;
            held.push(page);
            waiting.num_loaded += 1;
        }
        if held.is_empty() { Loaded::Nothing } else { Loaded::All }
    }

    fn make_room_for_page(&mut self) -> bool {
        while self.used_bytes().saturating_add(self.page_bytes()) > self.config.kv_bytes {
            if !self.prefixes.evict() {
                return false;
            }
        }
        true
    }

    fn chain_of(&mut self, store: &Store, decoder: &Arc<Decoder>, hash: &str) -> Chain {
        self.chains.retain(|(known, _)| known.strong_count() > 0);
        let known = self.chains.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(decoder));
        if let Some((_, chain)) = known {
            return chain.clone();
        }
        // What changes the bits of keys and values beside the weights.
        let inputs: Vec<_> = decoder.layers.first().map_or_else(Vec::new, |layer| {
            layer.modules().map(|module| layer.module(module).weight.input_bits()).collect()
        });
        let chain = store.start(&format!("{hash}|{:?}|{inputs:?}", decoder.kv), decoder.page_layout());
        self.chains.push((Arc::downgrade(decoder), chain.clone()));
        chain
    }

    /// Writes what has been of use to a second request, as far as the writer has room.
    pub(crate) fn save_reused(&mut self, decoder: &Arc<Decoder>) {
        let Some(store) = &self.store else { return };
        let known = self.chains.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(decoder));
        let Some((_, start)) = known else { return };
        for (tokens, page) in self.prefixes.unsaved(decoder, store.room(), false) {
            store.save(start.end(&tokens), page);
        }
    }

    /// Writes everything that fits, what was used last at the end: it is removed last.
    pub(crate) fn save_all(&mut self) {
        let Some(store) = self.store.take() else { return };
        let most = store.max_pages(self.page_bytes());
        let mut pages: Vec<(Chain, Vec<TokenId>, _)> = Vec::new();
        for (decoder, start) in &self.chains {
            let Some(decoder) = decoder.upgrade() else { continue };
            let unsaved = self.prefixes.unsaved(&decoder, most, true);
            pages.extend(unsaved.into_iter().map(|(tokens, page)| (start.clone(), tokens, page)));
        }
        pages.truncate(most);
        for (start, tokens, page) in pages.into_iter().rev() {
            store.save(start.end(&tokens), page);
        }
    }
}
