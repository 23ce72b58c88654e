//! A decoder small enough for finite differences, written against [`Graph`] as real models are.

use std::sync::Arc;

use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::quant::Format;

use crate::graph::{Activation, AttentionSpec, Graph, KvOptions, KvType, Rope};
use crate::weight::{Linear, Lora, Matrix, Param, ParamId};

/// Values that look random and are the same on every run (`SplitMix64`, Steele et al. 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-size, size).
    pub(super) fn values(&mut self, count: usize, size: f32) -> Vec<f32> {
        let unit = |bits: u64| (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        (0..count).map(|_| unit(self.next()) * size).collect()
    }

    pub(super) fn param(&mut self, rows: usize, cols: usize, id: Option<u32>) -> Param {
        let data = Arc::new(self.values(rows * cols, 0.7));
        Param { data, rows, cols, id: id.map(ParamId) }
    }

    /// A frozen dense matrix `[rows, cols]`.
    pub(super) fn frozen(&mut self, rows: usize, cols: usize) -> Linear {
        let values = self.values(rows * cols, 1.7 / (cols as f32).sqrt());
        let weight = Matrix::packed(PackedMatrix::from_f32(rows, cols, &values));
        Linear { weight, bias: None, lora: None }
    }

    /// A frozen matrix of 8-bit blocks; `cols` must be whole blocks of 32.
    pub(super) fn quantised(&mut self, rows: usize, cols: usize) -> Linear {
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / 32 {
            // 2⁻⁸ as f16, little-endian: weights up to 0.5.
            bytes.extend([0x00, 0x1c]);
            bytes.extend((0..32).map(|_| self.next() as u8));
        }
        let weight = Matrix::packed(PackedMatrix::from_blocks(Format::Q8_0, rows, cols, &bytes));
        Linear { weight, bias: None, lora: None }
    }
}

/// Adds LoRA of rank `a.rows` to a frozen layer.
pub(super) fn adapted(mut layer: Linear, a: &Param, b: &Param) -> Linear {
    layer.lora = Some(Lora { a: a.clone(), b: b.clone(), scale: 0.8, dora: None });
    layer
}

pub(super) fn attention_spec(
    layer_index: usize,
    [num_heads, num_kv_heads, head_dim]: [usize; 3],
    interleaved: bool,
) -> AttentionSpec {
    let rope = Rope::new(100.0, head_dim, interleaved);
    let scale = (head_dim as f32).sqrt().recip();
    let (window, soft_cap) = (None, None);
    // Differences of a forward that rounds keys would be steps.
    let kv = KvOptions { kv_type: KvType::F32, sparse_pages: None };
    AttentionSpec { layer_index, num_heads, num_kv_heads, head_dim, scale, rope, window, soft_cap, kv }
}

pub(super) struct Layer {
    pub(super) attention_norm: Param,
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    pub(super) o: Linear,
    pub(super) mlp_norm: Param,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

pub(super) const VOCAB_SIZE: usize = 29;
pub(super) const HEADS: [usize; 3] = [4, 2, 8];
pub(super) const NUM_LAYERS: usize = 2;

pub(super) struct Decoder {
    pub(super) embedding: Linear,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Param,
    pub(super) kv_type: KvType,
}

impl Decoder {
    /// Two layers of hidden size 32 with biases on q; everything frozen.
    pub(super) fn new(seed: u64, quantised: bool) -> Self {
        let [num_heads, num_kv_heads, head_dim] = HEADS;
        let (hidden_size, intermediate_size) = (32, 64);
        let mut random = Random(seed);
        let layers = (0..NUM_LAYERS)
            .map(|_| {
                let attention_norm = random.param(1, hidden_size, None);
                let mlp_norm = random.param(1, hidden_size, None);
                let mut bias = Some(random.param(1, num_heads * head_dim, None));
                let mut linear = |rows: usize, cols: usize| {
                    let matrix = if quantised { Random::quantised } else { Random::frozen };
                    Linear { bias: bias.take(), ..matrix(&mut random, rows, cols) }
                };
                Layer {
                    attention_norm,
                    q: linear(num_heads * head_dim, hidden_size),
                    k: linear(num_kv_heads * head_dim, hidden_size),
                    v: linear(num_kv_heads * head_dim, hidden_size),
                    o: linear(hidden_size, num_heads * head_dim),
                    mlp_norm,
                    gate: linear(intermediate_size, hidden_size),
                    up: linear(intermediate_size, hidden_size),
                    down: linear(hidden_size, intermediate_size),
                }
            })
            .collect();
        let norm = random.param(1, hidden_size, None);
        Self { embedding: random.frozen(VOCAB_SIZE, hidden_size), layers, norm, kv_type: KvType::F32 }
    }

    /// Adds trained LoRA of rank 3 to every projection of the layers from `first` on.
    pub(super) fn adapt(&mut self, first: usize, seed: u64) {
        let mut random = Random(seed);
        let mut next_id = 0..;
        for layer in self.layers.iter_mut().skip(first) {
            let Layer { q, k, v, o, gate, up, down, .. } = layer;
            for linear in [q, k, v, o, gate, up, down] {
                let a = random.param(3, linear.in_features(), next_id.next());
                let b = random.param(linear.out_features(), 3, next_id.next());
                *linear = adapted(linear.clone(), &a, &b);
            }
        }
    }

    /// Everything that is dense becomes a trained parameter of the same values.
    pub(super) fn thawed(mut self) -> Self {
        let mut next_id = 100..;
        let mut thaw = |linear: &mut Linear| {
            let (rows, cols) = (linear.out_features(), linear.in_features());
            let mut data = vec![0.0; rows * cols];
            data.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| linear.weight.row(row, out));
            let id = next_id.next().map(ParamId);
            linear.weight = Matrix::Dense(Param { data: Arc::new(data), rows, cols, id });
        };
        thaw(&mut self.embedding);
        for Layer { q, k, v, o, gate, up, down, .. } in &mut self.layers {
            [q, k, v, o, gate, up, down].into_iter().for_each(&mut thaw);
        }
        self
    }

    /// The trained parameters, in the order of their ids.
    pub(super) fn trained(&mut self) -> Vec<&mut Param> {
        let mut params = Vec::new();
        for Layer { q, k, v, o, gate, up, down, .. } in &mut self.layers {
            for linear in [q, k, v, o, gate, up, down] {
                if let Some(Lora { a, b, .. }) = &mut linear.lora {
                    params.extend([a, b]);
                }
            }
        }
        params
    }

    /// Logits of `rows`; the embedding is the head too.
    pub(super) fn forward<G: Graph>(&self, graph: &mut G, ids: &[u32], rows: &[usize]) -> G::Var {
        let normed = self.normed(graph, ids, rows);
        graph.linear(&normed, &self.embedding)
    }

    /// What the head multiplies: the final hidden states of `rows`, normed.
    pub(super) fn normed<G: Graph>(&self, graph: &mut G, ids: &[u32], rows: &[usize]) -> G::Var {
        let mut x = graph.embedding(&self.embedding, ids);
        for (layer_index, layer) in self.layers.iter().enumerate() {
            let normed = graph.rms_norm(&x, &layer.attention_norm, 1e-5);
            let q = graph.linear(&normed, &layer.q);
            let k = graph.linear(&normed, &layer.k);
            let v = graph.linear(&normed, &layer.v);
            drop(normed);
            let mut spec = attention_spec(layer_index, HEADS, layer_index == 0);
            spec.kv.kv_type = self.kv_type;
            let attended = graph.attention(q, k, v, &spec);
            let out = graph.linear(&attended, &layer.o);
            drop(attended);
            x = graph.add(x, out);
            let normed = graph.rms_norm(&x, &layer.mlp_norm, 1e-5);
            let gate = graph.linear(&normed, &layer.gate);
            let up = graph.linear(&normed, &layer.up);
            let product = graph.gated(Activation::Silu, gate, up);
            let out = graph.linear(&product, &layer.down);
            x = graph.add(x, out);
        }
        let x = graph.take_rows(&x, rows);
        graph.rms_norm(&x, &self.norm, 1e-5)
    }
}
