//! Documents into rows of at most `seq_len` tokens, so that each token is in exactly one row of an epoch.
//!
//! Best fit, longest first ("Fewer Truncations Improve Language Modeling", Ding et al. 2024): a document goes to the
//! row with the least space that still holds it, found by a bitmap of the free spaces that some row has. Only documents
//! longer than a row are cut, into whole rows and a rest. Which documents meet in a row depends on lengths and seed;
//! an epoch is those rows in an order that depends on seed and epoch alone ([`order`]), whatever the number of readers.

use crate::{Error, Result};

mod order;
mod spaces;

use order::{Random, permute};
use spaces::Spaces;

/// A part of a document, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    pub document: u32,
    /// The first token of the piece within its document.
    pub start: u32,
    pub len: u32,
}

impl Piece {
    /// Whether the document began in another row. The token before the piece ([`Self::start`] - 1) is in no input of
    /// this row; a trainer that wants the piece's first token predicted puts it in front.
    pub fn continues(&self) -> bool {
        self.start > 0
    }
}

/// Where a reader stands in the one order of rows: the next row it gives.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    pub epoch: u64,
    pub row: u64,
}

/// All documents packed into rows.
#[derive(Debug)]
pub struct Packing {
    seq_len: u32,
    seed: u64,
    num_tokens: u64,
    /// Row after row.
    pieces: Vec<Piece>,
    /// The first piece of each row, and behind the last one the number of all.
    first_piece: Vec<usize>,
}

impl Packing {
    /// Packs documents of these lengths; empty ones are in no row.
    pub fn new(lengths: &[u32], seq_len: u32, seed: u64) -> Result<Self> {
        if seq_len == 0 || seq_len > MAX_SEQ_LEN {
            let expected = "a row's length from 1 to 2^24";
            return Err(Error::Packing { field: "seq_len", value: seq_len.into(), expected });
        }
        if u32::try_from(lengths.len()).is_err() {
            let expected = "fewer than 2^32 documents";
            return Err(Error::Packing { field: "num_documents", value: lengths.len() as u64, expected });
        }
        let pieces = longest_first(cut(lengths, seq_len, seed), seq_len);
        let (row_of, num_rows) = best_fit(&pieces, seq_len);
        let (pieces, first_piece) = by_row(&pieces, &row_of, num_rows);
        let num_tokens = lengths.iter().map(|len| u64::from(*len)).sum();
        Ok(Self { seq_len, seed, num_tokens, pieces, first_piece })
    }

    pub fn num_rows(&self) -> u64 {
        self.first_piece.len() as u64 - 1
    }

    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    pub fn seq_len(&self) -> u32 {
        self.seq_len
    }

    /// The share of all places in rows that hold a token; 1 where there are no rows.
    pub fn fill(&self) -> f64 {
        let places = self.num_rows() * u64::from(self.seq_len);
        if places == 0 { 1.0 } else { self.num_tokens as f64 / places as f64 }
    }

    /// The row at place `index` of an epoch's order.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn row(&self, epoch: u64, index: u64) -> &[Piece] {
        let num_rows = self.num_rows();
        assert!(index < num_rows, "row {index} of {num_rows}");
        let row = permute(index, num_rows, self.seed, epoch) as usize;
        &self.pieces[self.first_piece[row]..self.first_piece[row + 1]]
    }

    /// The rows from `start` on, without end, that reader `rank` of `num_ranks` has: every `num_ranks`-th of the one
    /// order. Ends at once where there are no rows.
    ///
    /// # Panics
    /// If `rank` isn't below `num_ranks`.
    pub fn deal(&self, start: Position, rank: u64, num_ranks: u64) -> Deal<'_> {
        assert!(rank < num_ranks, "rank {rank} of {num_ranks}");
        let num_rows = self.num_rows().max(1);
        let from = start.epoch * num_rows + start.row;
        // Ranks count from the beginning of the order, so that a resumed reader keeps its own rows.
        let next = from + (rank + num_ranks - from % num_ranks) % num_ranks;
        Deal { packing: self, next, num_ranks }
    }

    /// The position `num_rows` behind another: where all readers together go on.
    pub fn advance(&self, from: Position, num_rows: u64) -> Position {
        let all = self.num_rows().max(1);
        let at = from.epoch * all + from.row + num_rows;
        Position { epoch: at / all, row: at % all }
    }
}

/// See [`Packing::deal`].
#[derive(Clone, Debug)]
pub struct Deal<'a> {
    packing: &'a Packing,
    next: u64,
    num_ranks: u64,
}

impl<'a> Iterator for Deal<'a> {
    type Item = (Position, &'a [Piece]);

    fn next(&mut self) -> Option<Self::Item> {
        let num_rows = self.packing.num_rows();
        if num_rows == 0 {
            return None;
        }
        let position = Position { epoch: self.next / num_rows, row: self.next % num_rows };
        self.next += self.num_ranks;
        Some((position, self.packing.row(position.epoch, position.row)))
    }
}

/// A table of this many lengths is 128 MiB; no model reads rows as long.
const MAX_SEQ_LEN: u32 = 1 << 24;

/// Cuts documents that are longer than a row, and mixes the pieces: equal lengths must not meet in file order.
fn cut(lengths: &[u32], seq_len: u32, seed: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(lengths.len());
    for (document, &len) in (0_u32..).zip(lengths) {
        let mut start = 0;
        while start < len {
            let piece = Piece { document, start, len: seq_len.min(len - start) };
            pieces.push(piece);
            start += piece.len;
        }
    }
    let mut random = Random::new(seed);
    for last in (1..pieces.len()).rev() {
        pieces.swap(last, random.below(last as u64 + 1) as usize);
    }
    pieces
}

/// Sorts by length, pieces of equal length in their order: a counting sort.
fn longest_first(pieces: Vec<Piece>, seq_len: u32) -> Vec<Piece> {
    let mut next = vec![0_usize; seq_len as usize + 1];
    for piece in &pieces {
        next[piece.len as usize] += 1;
    }
    let mut at = 0;
    for count in next.iter_mut().rev() {
        at += std::mem::replace(count, at);
    }
    let mut sorted = pieces.clone();
    for piece in pieces {
        let place = &mut next[piece.len as usize];
        sorted[*place] = piece;
        *place += 1;
    }
    sorted
}

/// The row of each piece, and the number of rows.
fn best_fit(pieces: &[Piece], seq_len: u32) -> (Vec<u32>, usize) {
    let mut spaces = Spaces::new(seq_len);
    let mut num_rows = 0;
    let row_of = pieces.iter().map(|piece| {
        let (row, space) = spaces.take(piece.len).unwrap_or_else(|| {
            num_rows += 1;
            (num_rows - 1, seq_len)
        });
        spaces.give(row, space - piece.len);
        row
    });
    let row_of = row_of.collect();
    (row_of, num_rows as usize)
}

fn by_row(pieces: &[Piece], row_of: &[u32], num_rows: usize) -> (Vec<Piece>, Vec<usize>) {
    let mut first_piece = vec![0_usize; num_rows + 1];
    for row in row_of {
        first_piece[*row as usize + 1] += 1;
    }
    for row in 0..num_rows {
        first_piece[row + 1] += first_piece[row];
    }
    let mut next = first_piece.clone();
    let mut grouped = pieces.to_vec();
    for (piece, row) in pieces.iter().zip(row_of) {
        let place = &mut next[*row as usize];
        grouped[*place] = *piece;
        *place += 1;
    }
    (grouped, first_piece)
}

#[cfg(test)]
mod tests;
