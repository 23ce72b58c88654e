//! Keys and values of sequences, in pages that sequences with a common prefix share.
//!
//! A page is written by one sequence at a time; a page that is shared is copied before it is written.

use std::sync::Arc;

use hearth_kernels::attention::{PAGE, PageLayout, Segment};

/// A page that whoever holds it shares with others.
#[derive(Debug, Clone)]
pub struct Page(
    #[expect(
        clippy::rc_buffer,
        reason = "a shared page is copied by `Arc::make_mut`, which needs its own type"
    )]
    Arc<Vec<f32>>,
);

impl Page {
    /// Whether anybody else holds it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// What it holds, as bytes that [`Self::from_bytes`] reads on any machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// `None` if there aren't exactly as many bytes as a page of this layout has.
    pub fn from_bytes(layout: PageLayout, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != layout.page_len() * size_of::<f32>() {
            return None;
        }
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Some(Self(Arc::new(values.collect())))
    }
}

/// The keys and values of one sequence, all layers.
#[derive(Debug, Clone)]
pub struct KvCache {
    layout: PageLayout,
    pages: Vec<Page>,
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

    /// A sequence of these pages, of whose positions the first `len` count.
    ///
    /// # Panics
    /// If the pages don't fit `len`.
    pub fn from_pages(layout: PageLayout, pages: Vec<Page>, len: usize) -> Self {
        assert_eq!(pages.len(), len.div_ceil(PAGE), "pages for {len} positions");
        Self { layout, pages, len }
    }

    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Puts a page of equal content, shared with others, in the place of one of its own.
    pub fn replace_page(&mut self, index: usize, page: Page) {
        self.pages[index] = page;
    }

    pub fn page_bytes(&self) -> usize {
        self.layout.page_len() * size_of::<f32>()
    }

    /// Bytes of its pages, those shared with other sequences included.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.page_bytes()
    }

    /// Bytes of the pages that `rows` more positions need: new ones, and the copy of one that is shared.
    pub fn growth_bytes(&self, rows: usize) -> usize {
        let is_copied =
            rows > 0 && !self.len.is_multiple_of(PAGE) && self.pages.last().is_some_and(Page::is_shared);
        let num_new = (self.len + rows).div_ceil(PAGE) - self.pages.len();
        (num_new + usize::from(is_copied)) * self.page_bytes()
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
            Arc::make_mut(&mut self.pages[self.len / PAGE].0);
        }
        while self.pages.len() < needed {
            self.pages.push(Page(Arc::new(vec![0.0; self.layout.page_len()])));
        }
    }

    /// Writes keys and values `[rows, K·D]` of one layer behind the positions that count already.
    pub(crate) fn write(&mut self, layer: usize, k: &[f32], v: &[f32]) {
        let width = self.layout.num_kv_heads * self.layout.head_dim;
        for (row, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
            let at = self.len + row;
            let page = Arc::get_mut(&mut self.pages[at / PAGE].0).expect("reserve made it unshared");
            self.layout.write(page, layer, at % PAGE, k, v);
        }
    }

    /// Counts `rows` more positions, after every layer has written them.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    /// What the attention kernel reads for the next `rows` positions.
    pub(crate) fn segment(&self, rows: usize) -> Segment<'_> {
        Segment { pages: self.pages.iter().map(|page| page.0.as_slice()).collect(), position: self.len, rows }
    }
}
