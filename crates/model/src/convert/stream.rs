//! Weights from one file to another, a few megabytes at a time: decoded, reordered and encoded by all threads.

use std::sync::{Mutex, PoisonError};

use hearth_kernels::quant::{Format, dequantize, quantize};

use super::importance::Importance;
use super::merge::{Matrix, Places};
use super::names::source_row;
use super::plan::{Plan, Planned, Source};
use super::{Stage, Written};
use crate::error::{Error, Result};
use crate::files::TensorView;
use crate::files::gguf::sink::GgufSink;
use crate::files::safetensors::sink::SafetensorsSink;

/// Weights that are worked on at a time: 8 MiB as f32.
const PIECE: usize = 2 << 20;

/// The largest weight that a scale in f16 can stand for, whatever the format.
const LARGEST_F16: f32 = 65504.0;

/// Where the bytes go.
#[derive(Debug)]
pub(super) enum Sink {
    Gguf(GgufSink),
    Folder(SafetensorsSink),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Gguf(sink) => sink.write(bytes),
            Self::Folder(sink) => sink.write(bytes),
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Gguf(sink) => sink.finish(),
            Self::Folder(sink) => sink.finish(),
        }
    }
}

/// Writes all tensors of the plan, in its order.
pub(super) fn write_all(
    source: &Source,
    plan: &Plan,
    importance: Option<&Importance>,
    sink: &mut Sink,
    stage: &mut Stage<'_>,
) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for tensor in &plan.tensors {
        if let Some(bytes) = &tensor.made {
            sink.write(bytes)?;
            let (name, format) = (tensor.entry.name.clone(), tensor.entry.format);
            let num_bytes = bytes.len();
            written.push(Written { name, from: format, to: format, num_bytes, relative_error: 0.0 });
            continue;
        }
        let views = tensor.from.iter().map(|name| source.require(name)).collect::<Result<Vec<_>>>()?;
        let rows = Rows::new(tensor, &views, importance, stage.places)?;
        written.push(write_tensor(tensor, &rows, sink, stage)?);
    }
    Ok(written)
}

/// A tensor as rows that are read in the target's order.
struct Rows<'a> {
    tensor: &'a Planned,
    /// Of equal shapes and formats.
    views: &'a [TensorView<'a>],
    from: Format,
    count: usize,
    /// Rows of each view.
    in_view: usize,
    cols: usize,
    from_bytes: usize,
    to_bytes: usize,
    /// Of all columns, or of those of each expert.
    importance: Option<&'a [f32]>,
    /// What an adapter changes in each view.
    places: Option<(&'a Places<'a>, Vec<&'a [Matrix]>)>,
}

impl<'a> Rows<'a> {
    fn new(
        tensor: &'a Planned,
        views: &'a [TensorView<'a>],
        importance: Option<&'a Importance>,
        places: Option<&'a Places<'a>>,
    ) -> Result<Self> {
        let view = &views[0];
        // A vector whose entries change places is rows of one.
        let cols = match (view.shape.len(), tensor.head_dim) {
            (1, Some(_)) => 1,
            _ => view.shape.last().copied().unwrap_or(1),
        };
        let in_view = view.num_elements() / cols;
        let shape = &tensor.entry.shape;
        let count = shape.iter().product::<usize>() / cols;
        let bytes = |format: Format| {
            format.row_bytes(cols).ok_or_else(|| {
                let what = format!(
                    "tensor `{}`: rows of {cols} aren't whole blocks of {}",
                    tensor.from[0],
                    format.name()
                );
                Error::Unconvertible { what }
            })
        };
        let (from_bytes, to_bytes) = (bytes(view.format)?, bytes(tensor.entry.format)?);
        let importance = importance.and_then(|importance| importance.of(&tensor.gguf_name));
        if let Some(importance) = importance {
            let num_experts = if shape.len() == 3 { shape[0] } else { 1 };
            if importance.len() != cols && importance.len() != cols * num_experts {
                let what = format!(
                    "the importance matrix has {} columns for tensor `{}`, which has {cols}",
                    importance.len(),
                    tensor.gguf_name
                );
                return Err(Error::Unconvertible { what });
            }
        }
        let places = places
            .map(|places| (places, tensor.from.iter().map(|name| places.of(name)).collect::<Vec<_>>()))
            .filter(|(_, matrices)| matrices.iter().any(|matrices| !matrices.is_empty()));
        let from = view.format;
        Ok(Self { tensor, views, from, count, in_view, cols, from_bytes, to_bytes, importance, places })
    }

    /// The view that holds a row of the target, and which row of the view it is.
    fn source(&self, row: usize) -> (usize, usize) {
        let row = match self.tensor.head_dim {
            Some(head_dim) => source_row(row, head_dim, self.tensor.to_gguf),
            None => row,
        };
        let row = row + self.tensor.expert.unwrap_or(0) * self.count;
        (row / self.in_view, row % self.in_view)
    }

    fn importance(&self, row: usize) -> Option<&'a [f32]> {
        let all = self.importance?;
        let num_experts = all.len() / self.cols;
        let expert = row / (self.count / num_experts);
        Some(&all[expert * self.cols..(expert + 1) * self.cols])
    }

    /// Encodes row `row` into `out`; `buffers` are two rows of f32.
    fn encode(&self, row: usize, out: &mut [u8], [x, y]: &mut [Vec<f32>; 2]) -> Measure {
        let (from, to) = (self.from, self.tensor.entry.format);
        let (view, source_row) = self.source(row);
        let bytes = &self.views[view].bytes[source_row * self.from_bytes..(source_row + 1) * self.from_bytes];
        dequantize(from, bytes, x);
        if let Some((places, matrices)) = &self.places {
            places.merge(matrices[view], source_row, x);
        }
        let shift = match (self.tensor.from_one, self.tensor.to_gguf) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => -1.0,
        };
        if shift != 0.0 {
            for x in x.iter_mut() {
                *x += shift;
            }
        }
        let mut measure = Measure::of(x);
        if from == to && shift == 0.0 && self.places.is_none() {
            out.copy_from_slice(bytes);
        } else if measure.largest.is_finite() {
            quantize(to, x, self.cols, self.importance(row), out);
            dequantize(to, out, y);
            measure.error = x.iter().zip(&*y).map(|(x, y)| f64::from(*x - *y).powi(2)).sum();
            if shift < 0.0 {
                // What counts is the norm that a reader of the folder makes of it.
                dequantize(from, bytes, x);
                measure.error = x.iter().zip(y).map(|(x, y)| f64::from(*x - (*y + 1.0)).powi(2)).sum();
            }
        }
        measure
    }

    fn check(&self, measure: &Measure) -> Result<()> {
        let (from, to) = (self.from, self.tensor.entry.format);
        let name = || self.tensor.from.join(", ");
        if !measure.largest.is_finite() {
            return Err(Error::NotFinite { tensor: name() });
        }
        if from != to && !matches!(to, Format::F32 | Format::BF16) && measure.largest > LARGEST_F16 {
            return Err(Error::TooLarge { tensor: name(), value: measure.largest, format: to.name() });
        }
        Ok(())
    }
}

/// Sums over weights; the largest magnitude is infinite where a weight isn't finite.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    largest: f32,
    energy: f64,
    error: f64,
}

impl Measure {
    fn of(x: &[f32]) -> Self {
        let largest = x
            .iter()
            .fold(0.0f32, |largest, x| if x.is_finite() { largest.max(x.abs()) } else { f32::INFINITY });
        let energy = x.iter().map(|x| f64::from(*x).powi(2)).sum();
        Self { largest, energy, error: 0.0 }
    }

    fn add(&mut self, other: &Self) {
        self.largest = self.largest.max(other.largest);
        self.energy += other.energy;
        self.error += other.error;
    }
}

fn write_tensor(
    tensor: &Planned,
    rows: &Rows<'_>,
    sink: &mut Sink,
    stage: &mut Stage<'_>,
) -> Result<Written> {
    let at_once = (PIECE / rows.cols).max(1);
    let mut total = Measure::default();
    let mut out = Vec::new();
    for first in (0..rows.count).step_by(at_once) {
        let count = at_once.min(rows.count - first);
        out.clear();
        out.resize(count * rows.to_bytes, 0);
        let per_task = count.div_ceil(stage.pool.threads() * 4);
        let num_tasks = count.div_ceil(per_task);
        // Each task's sums in a place of its own, added in order: the figures don't depend on the threads.
        let measures: Vec<Mutex<Measure>> = (0..num_tasks).map(|_| Mutex::default()).collect();
        stage.pool.for_each_chunk(&mut out, per_task * rows.to_bytes, |task, out| {
            let mut buffers = [vec![0.0; rows.cols], vec![0.0; rows.cols]];
            let mut sum = Measure::default();
            for (i, out) in out.chunks_exact_mut(rows.to_bytes).enumerate() {
                sum.add(&rows.encode(first + task * per_task + i, out, &mut buffers));
            }
            *measures[task].lock().unwrap_or_else(PoisonError::into_inner) = sum;
        });
        for measure in measures {
            total.add(&measure.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        rows.check(&total)?;
        sink.write(&out)?;
        stage.advance(count * rows.from_bytes)?;
    }
    Ok(Written {
        name: tensor.entry.name.clone(),
        from: rows.from,
        to: tensor.entry.format,
        num_bytes: tensor.entry.num_bytes(),
        relative_error: if total.energy > 0.0 { (total.error / total.energy).sqrt() } else { 0.0 },
    })
}
