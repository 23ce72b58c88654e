//! Some rows in memory, a list for each part of a row, so that a scan reads no byte it doesn't need.

use hearth_kernels::scan::SCAN_LANES;

use super::Precision;

/// Rows of a segment: 384 KiB of 8-bit rows of 384 values. What is added later moves none of the earlier rows,
/// and a clone that is changed copies one segment.
pub(super) const SEGMENT_ROWS: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    dim: usize,
    precision: Precision,
    pub(super) ids: Vec<u32>,
    /// `[R, D]`, D filled up with zeros to whole lanes; a value is `code · scale`.
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// Length of the difference between the vector and what codes and scale say.
    pub(super) errors: Vec<f32>,
    /// `[R, D]`; empty if 8 bits are all that is kept.
    vectors: Vec<f32>,
}

/// A row on its way to another place.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: u32,
    codes: Vec<i8>,
    scale: f32,
    error: f32,
    vector: Vec<f32>,
}

impl Segment {
    pub(super) fn new(dim: usize, precision: Precision) -> Self {
        Self {
            dim,
            precision,
            ids: Vec::new(),
            codes: Vec::new(),
            scales: Vec::new(),
            errors: Vec::new(),
            vectors: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dim..][..self.dim]
    }

    /// What codes and scale say of a row.
    pub(super) fn rounded(&self, row: usize) -> Vec<f32> {
        let codes = &self.codes[row * self.stride()..][..self.dim];
        codes.iter().map(|&code| f32::from(code) * self.scales[row]).collect()
    }

    fn stride(&self) -> usize {
        self.dim.next_multiple_of(SCAN_LANES)
    }

    /// Adds a vector of length 1 or 0.
    pub(super) fn push(&mut self, id: u32, vector: &[f32]) {
        let largest = vector.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let mut square = 0f64;
        for &value in vector {
            let code = if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
            square += (f64::from(value) - f64::from(code) * f64::from(scale)).powi(2);
            self.codes.push(code);
        }
        self.ids.push(id);
        self.codes.resize(self.ids.len() * self.stride(), 0);
        self.scales.push(scale);
        // Rounding to f32 must not make the error smaller than it is.
        self.errors.push((square.sqrt() * (1.0 + 1e-6)) as f32);
        if self.precision == Precision::Exact {
            self.vectors.extend_from_slice(vector);
        }
    }

    /// Takes out the last row.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn pop(&mut self) -> Row {
        let id = self.ids.pop().expect("a row");
        let rows = self.ids.len();
        Row {
            id,
            codes: self.codes.split_off(rows * self.stride()),
            scale: self.scales.remove(rows),
            error: self.errors.remove(rows),
            vector: self.vectors.split_off(self.vectors.len().min(rows * self.dim)),
        }
    }

    pub(super) fn replace(&mut self, row: usize, by: &Row) {
        self.ids[row] = by.id;
        let stride = self.stride();
        self.codes[row * stride..][..stride].copy_from_slice(&by.codes);
        self.scales[row] = by.scale;
        self.errors[row] = by.error;
        if !by.vector.is_empty() {
            self.vectors[row * self.dim..][..self.dim].copy_from_slice(&by.vector);
        }
    }
}
