//! Keys and values of sequences, in pages that sequences with a common prefix share.
//!
//! A page is written by one sequence at a time; a page that is shared is copied before it is written.

use std::sync::Arc;

use hearth_kernels::attention::{PAGE, PageLayout, Segment};

/// The keys and values of one sequence, all layers.
#[derive(Debug, Clone)]
pub struct KvCache {
    layout: PageLayout,
    #[expect(
        clippy::rc_buffer,
        reason = "a shared page is copied by `Arc::make_mut`, which needs its own type"
    )]
    pages: Vec<Arc<Vec<f32>>>,
    len: usize,
}

impl KvCache {
    pub fn new(layout: PageLayout) -> Self {
        Self { layout, pages: Vec::new(), len: 0 }
    }

    /// Positions that hold keys and values.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn layout(&self) -> PageLayout {
        self.layout
    }

    /// Bytes of its pages, those shared with other sequences included.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.layout.page_len() * size_of::<f32>()
    }

    /// Where its pages lie: sequences that share a page name the same address.
    pub fn page_addresses(&self) -> impl Iterator<Item = usize> {
        self.pages.iter().map(|page| Arc::as_ptr(page).addr())
    }

    /// A sequence that starts with the first `len` positions of this one, without copying them.
    ///
    /// # Panics
    /// If this sequence is shorter.
    pub fn prefix(&self, len: usize) -> Self {
        assert!(len <= self.len, "a prefix of {len} from {} positions", self.len);
        let pages = self.pages[..len.div_ceil(PAGE)].to_vec();
        Self { layout: self.layout, pages, len }
    }

    /// Forgets the positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Makes room for `rows` more positions, each page owned by this sequence alone where it will be written.
    pub(crate) fn reserve(&mut self, rows: usize) {
        let needed = (self.len + rows).div_ceil(PAGE);
        if !self.len.is_multiple_of(PAGE) && rows > 0 {
            Arc::make_mut(&mut self.pages[self.len / PAGE]);
        }
        while self.pages.len() < needed {
            self.pages.push(Arc::new(vec![0.0; self.layout.page_len()]));
        }
    }

    /// Writes keys and values `[rows, K·D]` of one layer behind the positions that count already.
    pub(crate) fn write(&mut self, layer: usize, k: &[f32], v: &[f32]) {
        let width = self.layout.num_kv_heads * self.layout.head_dim;
        for (row, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
            let at = self.len + row;
            let page = Arc::get_mut(&mut self.pages[at / PAGE]).expect("reserve made it unshared");
            self.layout.write(page, layer, at % PAGE, k, v);
        }
    }

    /// Counts `rows` more positions, after every layer has written them.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    /// What the attention kernel reads for the next `rows` positions.
    pub(crate) fn segment(&self, rows: usize) -> Segment<'_> {
        Segment { pages: self.pages.iter().map(|page| page.as_slice()).collect(), position: self.len, rows }
    }
}
