//! Keys and values that the next request may begin with: a tree whose edges are pages of tokens.
//!
//! Keys and values depend on the tokens before them and on the weights alone, so any common prefix can be
//! reused exactly. A node is a page of 64 positions and is shared, not copied, by every sequence that passes it;
//! only the last page of a finished sequence may hold fewer. Each decoder (a base, a base with an adapter) has a tree
//! of its own. What nobody runs on goes first where it was used longest ago, leaves before what they stand on:
//! `RadixAttention` (Zheng et al. 2024) with edges of one length.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use hearth_kernels::attention::PAGE;
use hearth_model::Decoder;
use hearth_tensor::kv::{KvCache, Page};
use hearth_tokenizer::TokenId;

/// A place in the tree. It stays good as long as somebody holds its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(usize);

type Children = BTreeMap<Box<[TokenId]>, NodeId>;
type Child<'a> = Option<(&'a [TokenId], &'a NodeId)>;

/// The children before and from `tokens` on, in the order of keys.
fn neighbours<'a>(children: &'a Children, tokens: &[TokenId]) -> (Child<'a>, Child<'a>) {
    let before = children.range::<[TokenId], _>((Bound::Unbounded, Bound::Excluded(tokens))).next_back();
    let behind = children.range::<[TokenId], _>((Bound::Included(tokens), Bound::Unbounded)).next();
    (before.map(|(key, id)| (&**key, id)), behind.map(|(key, id)| (&**key, id)))
}

#[derive(Debug)]
struct Node {
    /// Tokens of the page; none at a root.
    key: Box<[TokenId]>,
    /// `None` at a root.
    page: Option<Page>,
    parent: Option<NodeId>,
    /// No key is a beginning of another.
    children: Children,
    last_used: u64,
    /// Whether a second sequence came by.
    is_reused: bool,
    is_saved: bool,
}

#[derive(Debug, Default)]
pub(crate) struct PrefixTree {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    roots: Vec<(Weak<Decoder>, NodeId)>,
    /// Nodes without children, least recently used first.
    leaves: BTreeSet<(u64, NodeId)>,
    clock: u64,
    num_pages: usize,
}

/// What is known of a prompt.
#[derive(Debug)]
pub(crate) struct Found {
    /// Ready to go on behind the common prefix.
    pub(crate) cache: KvCache,
    /// The last whole page, or the root, and how many whole pages lead there.
    pub(crate) node: NodeId,
    pub(crate) num_pages: usize,
}

/// How many leading tokens two sequences have in common.
pub(crate) fn common_len(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixTree {
    /// Pages it holds, in use or not.
    pub(crate) fn num_pages(&self) -> usize {
        self.num_pages
    }

    /// Pages that no running sequence uses.
    pub(crate) fn num_idle_pages(&self) -> usize {
        self.nodes.iter().flatten().filter(|node| !node.is_in_use()).count()
    }

    /// The longest known beginning of `tokens`, at most `limit` of them.
    pub(crate) fn find(&mut self, tokens: &[TokenId], limit: usize, decoder: &Arc<Decoder>) -> Found {
        self.clock += 1;
        let mut node = self.root(decoder);
        let mut pages = Vec::new();
        let mut len = 0;
        while let Some(next) = self.whole_child(node, &tokens[len..limit]) {
            node = next;
            len += PAGE;
            pages.extend(self.visit(node));
        }
        let num_pages = pages.len();
        if let Some((child, common)) = self.nearest_child(node, &tokens[len..limit]) {
            len += common;
            pages.extend(self.visit(child));
        }
        Found { cache: KvCache::from_pages(decoder.page_layout(), pages, len), node, num_pages }
    }

    fn whole_child(&self, node: NodeId, rest: &[TokenId]) -> Option<NodeId> {
        self.node(node).children.get(rest.get(..PAGE)?).copied()
    }

    /// The child with the longest common beginning; in the order of keys it stands beside `rest`.
    fn nearest_child(&self, node: NodeId, rest: &[TokenId]) -> Option<(NodeId, usize)> {
        let (before, behind) = neighbours(&self.node(node).children, rest);
        let common = |(key, &child): (&[TokenId], &NodeId)| (common_len(key, rest), child);
        let (len, child) = before.map(common).max(behind.map(common))?;
        (len > 0).then_some((child, len))
    }

    /// Takes the page of a node for a sequence.
    fn visit(&mut self, id: NodeId) -> Option<Page> {
        self.touch(id);
        let node = self.node_mut(id);
        node.is_reused = true;
        node.page.clone()
    }

    fn touch(&mut self, id: NodeId) {
        let now = self.clock;
        let node = self.node_mut(id);
        let before = std::mem::replace(&mut node.last_used, now);
        if self.leaves.remove(&(before, id)) {
            self.leaves.insert((now, id));
        }
    }

    /// Keeps a page behind `parent`; of two pages for the same tokens the older stays and is given back.
    ///
    /// `None` if a page is there that begins with these tokens and has more.
    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        tokens: &[TokenId],
        page: &Page,
    ) -> Option<(NodeId, Page)> {
        debug_assert!((1..=PAGE).contains(&tokens.len()), "{} tokens in a page", tokens.len());
        self.clock += 1;
        let (before, behind) = neighbours(&self.node(parent).children, tokens);
        let shorter = before.filter(|(key, _)| tokens.starts_with(key)).map(|(_, &child)| child);
        if let Some((key, &child)) = behind.filter(|(key, _)| key.starts_with(tokens)) {
            let is_same = key.len() == tokens.len();
            self.touch(child);
            let page = self.node(child).page.clone();
            return page.filter(|_| is_same).map(|page| (child, page));
        }
        if let Some(shorter) = shorter {
            self.remove(shorter);
        }
        let id = self.add(Node {
            key: tokens.into(),
            page: Some(page.clone()),
            parent: Some(parent),
            children: BTreeMap::new(),
            last_used: self.clock,
            is_reused: false,
            is_saved: false,
        });
        if let Some(place) = self.leaf_place(parent) {
            self.leaves.remove(&place);
        }
        self.node_mut(parent).children.insert(tokens.into(), id);
        self.leaves.insert((self.clock, id));
        self.num_pages += 1;
        Some((id, page.clone()))
    }

    /// Drops the page that was used longest ago; false if all are in use.
    pub(crate) fn evict(&mut self) -> bool {
        let oldest = self.leaves.iter().find(|(_, id)| !self.node(*id).is_in_use());
        match oldest.map(|&(_, id)| id) {
            Some(id) => {
                self.remove(id);
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, id: NodeId) {
        let Some(node) = self.nodes[id.0].take() else { return };
        debug_assert!(node.children.is_empty(), "leaves go first");
        self.leaves.remove(&(node.last_used, id));
        self.free.push(id);
        self.num_pages -= usize::from(node.page.is_some());
        if let Some(parent) = node.parent {
            self.node_mut(parent).children.remove(&node.key);
            if let Some(place) = self.leaf_place(parent) {
                self.leaves.insert(place);
            }
        }
    }

    /// Where the node stands among the leaves, if it is one.
    fn leaf_place(&self, id: NodeId) -> Option<(u64, NodeId)> {
        let node = self.node(id);
        (node.children.is_empty() && node.parent.is_some()).then_some((node.last_used, id))
    }

    /// The tree of a decoder. Trees of decoders that are gone go with them.
    pub(crate) fn root(&mut self, decoder: &Arc<Decoder>) -> NodeId {
        // A `Weak` keeps its address taken, so equal addresses are one decoder.
        if let Some((_, id)) = self.roots.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(decoder)) {
            return *id;
        }
        let (gone, roots) = std::mem::take(&mut self.roots)
            .into_iter()
            .partition::<Vec<_>, _>(|(known, _)| known.strong_count() == 0);
        self.roots = roots;
        for (_, id) in gone {
            self.remove_tree(id);
        }
        let root = self.add(Node {
            key: [].into(),
            page: None,
            parent: None,
            children: BTreeMap::new(),
            last_used: 0,
            is_reused: false,
            is_saved: true,
        });
        self.roots.push((Arc::downgrade(decoder), root));
        root
    }

    fn remove_tree(&mut self, root: NodeId) {
        let mut order = vec![root];
        let mut at = 0;
        while let Some(&id) = order.get(at) {
            order.extend(self.node(id).children.values());
            at += 1;
        }
        for id in order.into_iter().rev() {
            self.remove(id);
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        match self.free.pop() {
            Some(id) => {
                self.nodes[id.0] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() - 1)
            }
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.0].as_ref().expect("a node stays while its page is held")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0].as_mut().expect("a node stays while its page is held")
    }

    /// Whole pages not saved yet with the tokens up to their end, at most so many, most recently used first and none
    /// before its parent: those that a second sequence used, or all. They count as saved from now on.
    pub(crate) fn unsaved(
        &mut self,
        decoder: &Arc<Decoder>,
        most: usize,
        all: bool,
    ) -> Vec<(Vec<TokenId>, Page)> {
        let root = self.root(decoder);
        let mut open = BTreeSet::from([(u64::MAX, root)]);
        let mut found = Vec::new();
        while let Some((_, id)) = open.pop_last() {
            if found.len() == most {
                break;
            }
            let node = self.node(id);
            open.extend(node.children.values().map(|&child| (self.node(child).last_used, child)));
            if !node.is_saved && node.key.len() == PAGE && (all || node.is_reused) {
                found.push((self.path(id), self.node(id).page.clone()));
                self.node_mut(id).is_saved = true;
            }
        }
        found.into_iter().filter_map(|(tokens, page)| Some((tokens, page?))).collect()
    }

    /// A page that came from disk needn't go there.
    pub(crate) fn mark_saved(&mut self, id: NodeId) {
        self.node_mut(id).is_saved = true;
    }

    fn path(&self, id: NodeId) -> Vec<TokenId> {
        let mut keys = Vec::new();
        let mut at = Some(id);
        while let Some(id) = at {
            let node = self.node(id);
            keys.push(&node.key);
            at = node.parent;
        }
        keys.into_iter().rev().flat_map(|key| key.iter().copied()).collect()
    }
}

impl Node {
    /// Roots are always in use.
    fn is_in_use(&self) -> bool {
        self.page.as_ref().is_none_or(Page::is_shared)
    }
}

#[cfg(test)]
mod tests;
