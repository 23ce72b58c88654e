//! Computes an importance matrix: runs a model over text and adds up the squares of what meets each matrix.
//!
//! As llama.cpp's `llama-imatrix` defines and writes it: for column j of a matrix the sum of `x[j]²` over all rows x
//! that it multiplied, and how many rows that were; experts count by themselves. Embedding and head are left out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::Format;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::graph::{Activation, AttentionSpec, Graph, Part, Routing};
use hearth_tensor::kv::KvCache;
use hearth_tensor::tensor::Tensor;
use hearth_tensor::weight::{Linear, Matrix, Param};

use crate::config::names::ExpertNames;
use crate::decoder::{Decoder, Layer, Mlp, Module, Projection};
use crate::error::{Error, Result};
use crate::files::gguf::sink::{Entry, GgufSink, Metadata};

/// Squares of what met the matrices of a decoder, added up over windows of text.
#[derive(Debug)]
pub struct Collector<'a> {
    decoder: &'a Decoder,
    /// The tensor a matrix lies in and its expert there, by the matrix's address: the decoder holds it, so it stays.
    places: HashMap<*const PackedMatrix, (String, usize)>,
    sums: BTreeMap<String, Sums>,
    workspace: Workspace,
    num_windows: usize,
}

#[derive(Debug)]
struct Sums {
    num_cols: usize,
    /// One for each expert, or one.
    counts: Vec<u64>,
    /// Row-major `[experts, num_cols]`.
    squares: Vec<f64>,
}

/// What a file of importances says about its making.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The text's name.
    pub dataset: &'a str,
    /// Tokens of a window.
    pub window: usize,
}

impl<'a> Collector<'a> {
    pub fn new(decoder: &'a Decoder) -> Self {
        let mut places = HashMap::new();
        let mut sums = BTreeMap::new();
        for (index, layer) in decoder.layers.iter().enumerate() {
            add_places(decoder, index, layer, &mut places, &mut sums);
        }
        Self { decoder, places, sums, workspace: Workspace::default(), num_windows: 0 }
    }

    /// Runs a window of tokens from an empty context.
    ///
    /// # Errors
    /// A token beyond the vocabulary, or a tensor that met values that aren't finite.
    pub fn add(&mut self, pool: &Pool, ids: &[u32]) -> Result<()> {
        let vocab_size = self.decoder.config.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let mut cache = KvCache::new(self.decoder.page_layout());
        let rows = vec![Rows { cache: &mut cache, count: ids.len() }];
        let eager = Eager::new(pool, &mut self.workspace, rows);
        let mut watch = Watch { eager, places: &self.places, sums: &mut self.sums };
        self.decoder.hidden(&mut watch, ids);
        watch.eager.finish();
        if let Some((tensor, _)) =
            self.sums.iter().find(|(_, sums)| !sums.squares.iter().all(|sum| sum.is_finite()))
        {
            return Err(Error::NotFinite { tensor: tensor.clone() });
        }
        self.num_windows += 1;
        Ok(())
    }

    /// Windows that were run.
    pub fn num_windows(&self) -> usize {
        self.num_windows
    }

    /// Number of tensors there are sums for.
    pub fn num_tensors(&self) -> usize {
        self.sums.len()
    }

    /// Writes the sums as `llama-imatrix` does: `NAME.in_sum2` `[experts, columns]` and
    /// `NAME.counts` `[experts, 1]`, or `[columns]` and `[1]`.
    pub fn write(&self, path: &Path, origin: Origin<'_>) -> Result<()> {
        let mut metadata = Metadata::default();
        metadata.string("general.type", "imatrix");
        metadata.strings("imatrix.datasets", &[origin.dataset]);
        metadata.u32("imatrix.chunk_count", self.num_windows as u32);
        metadata.u32("imatrix.chunk_size", origin.window as u32);
        let entries: Vec<Entry> = self
            .sums
            .iter()
            .flat_map(|(name, sums)| {
                // A single expert has no dimension of its own, as in files of ggml.
                let entry = |what: &str, cols: usize| Entry {
                    name: format!("{name}.{what}"),
                    shape: [sums.counts.len(), cols][usize::from(sums.counts.len() == 1)..].to_vec(),
                    format: Format::F32,
                };
                [entry("in_sum2", sums.num_cols), entry("counts", 1)]
            })
            .collect();
        let mut sink = GgufSink::create(path, &metadata, &entries)?;
        for sums in self.sums.values() {
            let squares: Vec<u8> = sums.squares.iter().flat_map(|&sum| (sum as f32).to_le_bytes()).collect();
            let counts: Vec<u8> =
                sums.counts.iter().flat_map(|&count| (count as f32).to_le_bytes()).collect();
            sink.write(&squares)?;
            sink.write(&counts)?;
        }
        sink.finish()
    }
}

/// Where the matrices of a layer lie, and room for their sums.
fn add_places(
    decoder: &Decoder,
    index: usize,
    layer: &Layer,
    places: &mut HashMap<*const PackedMatrix, (String, usize)>,
    sums: &mut BTreeMap<String, Sums>,
) {
    let names = decoder.config.family.gguf_names();
    let mut place = |linear: &Linear, name: String, expert: usize, num_experts: usize| {
        let num_cols = linear.weight.cols();
        if let Matrix::Packed(packed) = &linear.weight {
            places.insert(&raw const **packed, (name.clone(), expert));
        }
        sums.entry(name).or_insert_with(|| Sums {
            num_cols,
            counts: vec![0; num_experts],
            squares: vec![0.0; num_experts * num_cols],
        });
    };
    for module in layer.modules() {
        let linear = layer.module(module);
        match (module.expert, names.experts) {
            (Some(expert), Some(experts)) => {
                let name = names.in_layer(index, of_experts(&experts, module));
                place(linear, name, expert, layer.mlp.parts().len());
            }
            _ => {
                let tensor = names.place(module.projection);
                // Matrices that share a tensor share their input: it counts once.
                if tensor.fused.first().is_none_or(|&first| first == module.projection) {
                    place(linear, names.in_layer(index, &format!("{}.weight", tensor.tensor)), 0, 1);
                }
            }
        }
    }
    if let (Mlp::Experts(mixture), Some(experts)) = (&layer.mlp, names.experts) {
        place(&mixture.router, names.in_layer(index, experts.router), 0, 1);
    }
}

fn of_experts(names: &ExpertNames, module: Module) -> &'static str {
    match module.projection {
        Projection::Gate => names.gate,
        Projection::Up => names.up,
        _ => names.down,
    }
}

/// Computes, and adds up what goes into matrices.
struct Watch<'a> {
    eager: Eager<'a>,
    places: &'a HashMap<*const PackedMatrix, (String, usize)>,
    sums: &'a mut BTreeMap<String, Sums>,
}

impl Watch<'_> {
    fn see(&mut self, x: &Tensor, layer: &Linear) {
        let Matrix::Packed(packed) = &layer.weight else { return };
        let Some((name, expert)) = self.places.get(&(&raw const **packed)) else { return };
        let Some(sums) = self.sums.get_mut(name) else { return };
        sums.counts[*expert] += x.rows() as u64;
        let squares = &mut sums.squares[expert * sums.num_cols..][..sums.num_cols];
        for row in x.data().chunks_exact(sums.num_cols) {
            for (sum, value) in squares.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    }
}

impl Graph for Watch<'_> {
    type Var = Tensor;

    fn embedding(&mut self, table: &Linear, ids: &[u32]) -> Tensor {
        self.eager.embedding(table, ids)
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Param, eps: f32) -> Tensor {
        self.eager.rms_norm(x, weight, eps)
    }

    fn linear(&mut self, x: &Tensor, layer: &Linear) -> Tensor {
        self.see(x, layer);
        self.eager.linear(x, layer)
    }

    fn attention(&mut self, q: Tensor, k: Tensor, v: Tensor, spec: &AttentionSpec) -> Tensor {
        self.eager.attention(q, k, v, spec)
    }

    fn gated(&mut self, activation: Activation, gate: Tensor, up: Tensor) -> Tensor {
        self.eager.gated(activation, gate, up)
    }

    fn scale(&mut self, x: Tensor, factor: f32) -> Tensor {
        self.eager.scale(x, factor)
    }

    fn soft_cap(&mut self, x: Tensor, cap: f32) -> Tensor {
        self.eager.soft_cap(x, cap)
    }

    fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.eager.add(a, b)
    }

    fn take_rows(&mut self, x: &Tensor, rows: &[usize]) -> Tensor {
        self.eager.take_rows(x, rows)
    }

    fn route(&mut self, logits: Tensor, routing: Routing) -> (Tensor, Vec<Vec<usize>>) {
        self.eager.route(logits, routing)
    }

    fn combine(&mut self, weights: &Tensor, parts: Vec<Part<Tensor>>) -> Tensor {
        self.eager.combine(weights, parts)
    }
}
