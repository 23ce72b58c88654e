//! A matrix of f32 in row-major order, and the arena its buffer comes from and goes back to.
//!
//! Everything a decoder passes between operations is `[rows, cols]`: a row is a token. Fresh memory
//! costs page faults, so buffers are reused within an [`Arena`].

use std::fmt;
use std::sync::{Arc, Mutex};

/// Free buffers, shared by the tensors taken from it.
#[derive(Clone, Default)]
pub struct Arena {
    free: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arena")
    }
}

impl Arena {
    /// A tensor whose content is unspecified (old values or zeros): for outputs written in full.
    pub fn take(&self, rows: usize, cols: usize) -> Tensor {
        let needed = rows * cols;
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The smallest buffer that is large enough, unless it would waste more than it holds.
        let best = (0..free.len())
            .filter(|&i| (needed..=needed.saturating_mul(4).max(1 << 14)).contains(&free[i].capacity()))
            .min_by_key(|&i| free[i].capacity());
        let mut data = best.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        data.resize(needed, 0.0);
        Tensor { data, rows, cols, arena: Some(self.clone()) }
    }

    pub fn zeros(&self, rows: usize, cols: usize) -> Tensor {
        let mut tensor = self.take(rows, cols);
        tensor.data.fill(0.0);
        tensor
    }
}

/// A `[rows, cols]` matrix; its buffer returns to the arena when it is dropped.
pub struct Tensor {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    arena: Option<Arena>,
}

impl Tensor {
    /// A tensor over `data`, which must hold `rows * cols` values.
    pub fn from_vec(data: Vec<f32>, rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "data doesn't fill [{rows}, {cols}]");
        Self { data, rows, cols, arena: None }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.cols..(index + 1) * self.cols]
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor[{}, {}]", self.rows, self.cols)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let Some(arena) = &self.arena {
            let mut free = arena.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // A bound on hoarding: the arena serves a layer's worth of temporaries, not a whole model's.
            if free.len() < 64 {
                free.push(std::mem::take(&mut self.data));
            }
        }
    }
}
