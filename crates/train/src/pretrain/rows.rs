//! Rows of a packing to what a step computes: inputs, targets, and which documents they come from.

use hearth_artifacts::shards::TokenShards;
use hearth_artifacts::shards::packing::Piece;

use crate::error::Result;

/// Pieces of documents laid one after the other. A piece is a sequence of its own: attention crosses none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<u32>,
    /// Of the sequences.
    pub(crate) lens: Vec<usize>,
    /// Rows whose next token counts, and that token.
    pub(crate) wanted: Vec<usize>,
    pub(crate) targets: Vec<u32>,
    /// In ascending order, each once.
    pub(crate) documents: Vec<u32>,
}

impl Batch {
    /// Each token of each piece is predicted from those before it in its document as far as they are in the piece; the
    /// first of a continued piece from the token before it.
    pub(crate) fn read<'a>(
        shards: &TokenShards,
        rows: impl IntoIterator<Item = &'a [Piece]>,
    ) -> Result<Self> {
        let mut batch = Self::default();
        let mut learned = Vec::new();
        for piece in rows.into_iter().flatten() {
            let document = shards.document(piece.document.into())?;
            let (start, end) = (piece.start.saturating_sub(1), piece.start + piece.len);
            if end - start < 2 {
                // One token alone predicts nothing.
                continue;
            }
            let first = batch.ids.len();
            document.ids_of(start..end, &mut batch.ids)?;
            learned.clear();
            document.mask_of(start..end, &mut learned);
            for (index, &is_learned) in learned.iter().enumerate().skip(1) {
                if is_learned {
                    batch.wanted.push(first + index - 1);
                    batch.targets.push(batch.ids[first + index]);
                }
            }
            // The last token is a target alone.
            batch.ids.pop();
            batch.lens.push(batch.ids.len() - first);
            batch.documents.push(piece.document);
        }
        batch.documents.sort_unstable();
        batch.documents.dedup();
        Ok(batch)
    }
}
