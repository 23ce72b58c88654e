//! Rows by the space that is left in them: the least space that holds a piece, in a few steps whatever their number.

/// No row.
const NONE: u32 = u32::MAX;

/// A stack of rows for each space, and bitmaps of the spaces whose stack holds any: a bit of the upper one for each
/// word of the lower one.
#[derive(Debug)]
pub(super) struct Spaces {
    top: Vec<u32>,
    /// The row below each row in its stack.
    below: Vec<u32>,
    lower: Vec<u64>,
    upper: Vec<u64>,
}

impl Spaces {
    pub(super) fn new(seq_len: u32) -> Self {
        let num_spaces = seq_len as usize + 1;
        let lower = vec![0; num_spaces.div_ceil(64)];
        let upper = vec![0; lower.len().div_ceil(64)];
        Self { top: vec![NONE; num_spaces], below: Vec::new(), lower, upper }
    }

    /// Takes out the row with the least space of at least `len`, with its space.
    pub(super) fn take(&mut self, len: u32) -> Option<(u32, u32)> {
        let space = self.next_space(len as usize)?;
        let row = self.top[space];
        self.top[space] = self.below[row as usize];
        if self.top[space] == NONE {
            self.lower[space / 64] &= !(1 << (space % 64));
            if self.lower[space / 64] == 0 {
                self.upper[space / 64 / 64] &= !(1 << (space / 64 % 64));
            }
        }
        Some((row, space as u32))
    }

    /// Puts a row in; one without space is full and never looked at again.
    pub(super) fn give(&mut self, row: u32, space: u32) {
        if self.below.len() <= row as usize {
            self.below.resize(row as usize + 1, NONE);
        }
        let space = space as usize;
        if space > 0 {
            self.below[row as usize] = std::mem::replace(&mut self.top[space], row);
            self.lower[space / 64] |= 1 << (space % 64);
            self.upper[space / 64 / 64] |= 1 << (space / 64 % 64);
        }
    }

    fn next_space(&self, least: usize) -> Option<usize> {
        let word = least / 64;
        let here = self.lower[word] & (u64::MAX << (least % 64));
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let next = next_bit(&self.upper, word + 1)?;
        Some(next * 64 + self.lower[next].trailing_zeros() as usize)
    }
}

/// The first set bit from `from` on.
fn next_bit(words: &[u64], from: usize) -> Option<usize> {
    let mut mask = u64::MAX << (from % 64);
    for (index, word) in words.iter().enumerate().skip(from / 64) {
        let here = word & mask;
        if here != 0 {
            return Some(index * 64 + here.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}
