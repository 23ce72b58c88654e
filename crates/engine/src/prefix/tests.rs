//! The tree against a list of all sequences it was given.

use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_testkit::{Scratch, TINY};

use super::*;

fn decoder() -> Arc<Decoder> {
    let folder = Scratch::new("prefix").unwrap();
    TINY.write(&folder).unwrap();
    Arc::new(Model::open(&folder, &Pool::new(1)).unwrap().decoder)
}

/// A page that says which tokens it holds keys and values of: the whole path up to its end.
fn page(decoder: &Decoder, path: &[TokenId]) -> Page {
    let layout = decoder.page_layout();
    let mut bytes = vec![0; KvCache::new(layout).page_bytes()];
    for (slot, id) in bytes.chunks_exact_mut(4).zip(path.iter().rev()) {
        slot.copy_from_slice(&(*id as f32).to_le_bytes());
    }
    Page::from_bytes(layout, &bytes).unwrap()
}

/// Keeps a whole sequence.
fn put(tree: &mut PrefixTree, decoder: &Arc<Decoder>, tokens: &[TokenId]) {
    let mut node = tree.root(decoder);
    // As a running sequence does, it holds its pages until it is over.
    let mut held = Vec::new();
    for (index, key) in tokens.chunks(PAGE).enumerate() {
        let end = index * PAGE + key.len();
        let Some((id, page)) = tree.insert(node, key, &page(decoder, &tokens[..end])) else { return };
        node = id;
        held.push(page);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    /// Few tokens and few turns, so that beginnings are often equal.
    fn tokens(&mut self) -> Vec<TokenId> {
        let len = 1 + self.below(5 * PAGE);
        let (turn, other) = (self.below(5) * 50, self.below(3) as TokenId);
        (0..len).map(|at| if at < turn { 7 } else { other }).collect()
    }
}

#[test]
fn the_longest_common_beginning_of_all_that_was_kept_is_found() {
    let decoder = decoder();
    let mut random = Random(3);
    let (mut tree, mut kept) = (PrefixTree::default(), Vec::<Vec<TokenId>>::new());
    for _ in 0..300 {
        let tokens = random.tokens();
        let limit = random.below(tokens.len() + 1);
        let found = tree.find(&tokens, limit, &decoder);
        let expected = kept.iter().map(|old| common_len(old, &tokens).min(limit)).max().unwrap_or(0);
        assert_eq!(found.cache.len(), expected, "{tokens:?} up to {limit}");
        for (index, page) in found.cache.pages().iter().enumerate().take(found.num_pages) {
            let path = &tokens[..(index + 1) * PAGE];
            assert_eq!(page.to_bytes(), super::tests::page(&decoder, path).to_bytes(), "page {index}");
        }
        put(&mut tree, &decoder, &tokens);
        kept.push(tokens);
    }
    assert_eq!(tree.num_idle_pages(), tree.num_pages(), "nobody runs");
    // Pages are shared: far fewer than those of all sequences.
    let separate: usize = kept.iter().map(|tokens| tokens.len().div_ceil(PAGE)).sum();
    assert!(tree.num_pages() < separate / 4, "{} of {separate}", tree.num_pages());
}

#[test]
fn what_was_used_longest_ago_goes_first_and_what_runs_stays() {
    let decoder = decoder();
    let mut tree = PrefixTree::default();
    let sequence = |id: TokenId| [vec![7; PAGE], vec![id; PAGE + 10]].concat();
    for id in [1, 2, 3] {
        put(&mut tree, &decoder, &sequence(id));
    }
    assert_eq!(tree.num_pages(), 7);
    let running = tree.find(&sequence(1), 2 * PAGE, &decoder);
    drop(tree.find(&sequence(2), 2 * PAGE + 10, &decoder));
    let known = |tree: &mut PrefixTree| {
        [1, 2, 3].map(|id| {
            let tokens = sequence(id);
            // Looking changes the order, so a copy of the clock would too: ask for the path only.
            let mut node = tree.root(&decoder);
            let mut len = 0;
            while let Some(next) = tree.whole_child(node, &tokens[len..]) {
                (node, len) = (next, len + PAGE);
            }
            len + tree.nearest_child(node, &tokens[len..]).map_or(0, |(_, common)| common)
        })
    };
    let (whole, partial) = (2 * PAGE, 2 * PAGE + 10);
    assert_eq!(known(&mut tree), [partial, partial, partial]);
    for expected in [
        // The tail of 1 is older than anything of 3, as its sequence runs on the two pages before it.
        [whole, partial, partial],
        [whole, partial, whole],
        [whole, partial, PAGE],
        [whole, whole, PAGE],
        [whole, PAGE, PAGE],
    ] {
        assert!(tree.evict());
        assert_eq!(known(&mut tree), expected);
    }
    assert!(!tree.evict(), "the rest is in use");
    drop(running);
    assert!(tree.evict() && tree.evict() && !tree.evict());
    assert_eq!((tree.num_pages(), tree.leaves.len()), (0, 0));
}

#[test]
fn a_decoder_that_is_gone_takes_its_pages_along() {
    let (mut tree, base, adapted) = (PrefixTree::default(), decoder(), decoder());
    put(&mut tree, &base, &[5; 100]);
    put(&mut tree, &adapted, &[5; 200]);
    assert_eq!(tree.find(&[5; 300], 300, &base).cache.len(), 100, "keys of one decoder never serve another");
    assert_eq!(tree.num_pages(), 2 + 4);
    drop(adapted);
    assert_eq!(tree.find(&[5; 300], 300, &decoder()).cache.len(), 0);
    assert_eq!(tree.num_pages(), 2);
}
