//! Sequences that are over, kept because the next request may begin in the same way.
//!
//! Keys and values depend on the tokens before them and on the weights alone, so any common prefix can be
//! reused exactly. Pages are shared, not copied; the least recently used sequence goes first.

use std::collections::BTreeSet;
use std::sync::Arc;

use hearth_model::Decoder;
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::TokenId;

#[derive(Debug)]
struct Entry {
    tokens: Vec<TokenId>,
    cache: KvCache,
    decoder: Arc<Decoder>,
}

/// Least recently used first.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    entries: Vec<Entry>,
    max_bytes: usize,
}

/// How many leading tokens two sequences have in common.
pub(crate) fn common_len(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { entries: Vec::new(), max_bytes }
    }

    /// The longest cached beginning of `tokens`, at most `limit` of them.
    pub(crate) fn take(
        &mut self,
        tokens: &[TokenId],
        limit: usize,
        decoder: &Arc<Decoder>,
    ) -> Option<KvCache> {
        let (len, index) = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| Arc::ptr_eq(&entry.decoder, decoder))
            .map(|(index, entry)| (common_len(&entry.tokens, tokens).min(limit), index))
            .max()?;
        if len == 0 {
            return None;
        }
        let entry = self.entries.remove(index);
        let cache = entry.cache.prefix(len);
        self.entries.push(entry);
        Some(cache)
    }

    /// Keeps a sequence whose keys and values cover `tokens`.
    pub(crate) fn put(&mut self, tokens: Vec<TokenId>, cache: KvCache, decoder: Arc<Decoder>) {
        debug_assert_eq!(tokens.len(), cache.len(), "tokens vs. positions");
        self.entries.retain(|old| !(Arc::ptr_eq(&old.decoder, &decoder) && tokens.starts_with(&old.tokens)));
        self.entries.push(Entry { tokens, cache, decoder });
        while self.bytes() > self.max_bytes && !self.entries.is_empty() {
            self.entries.remove(0);
        }
    }

    /// Bytes of all pages, each counted once however many sequences share it.
    fn bytes(&self) -> usize {
        let pages: BTreeSet<usize> =
            self.entries.iter().flat_map(|entry| entry.cache.page_addresses()).collect();
        let page_bytes =
            self.entries.first().map_or(0, |entry| entry.cache.layout().page_len() * size_of::<f32>());
        pages.len() * page_bytes
    }
}
