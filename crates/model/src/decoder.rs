//! The one decoder definition: pre-norm attention and gated MLP blocks, written against [`Graph`].
//!
//! Training runs it on a tape, generation eagerly; the family only decides where weights come from and which of
//! the optional parts are there. Llama: Touvron et al. 2023; grouped-query attention: Ainslie et al. 2023; norms of
//! q and k: Dehghani et al. 2023; experts: Shazeer et al. 2017.

use std::sync::Arc;

use hearth_kernels::attention::PageLayout;
use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::pool::Pool;
use hearth_tensor::graph::{AttentionSpec, Graph, KvOptions, Part};
use hearth_tensor::weight::{Linear, Param};

use crate::config::{LayerConfig, ModelConfig};

/// The weights of a decoder. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub config: ModelConfig,
    pub embedding: Linear,
    pub layers: Vec<Layer>,
    pub norm: Param,
    /// The output head; the embedding again where the two are tied.
    pub head: Linear,
    /// How sequences keep their keys and values.
    pub kv: KvOptions,
}

#[derive(Debug, Clone)]
pub struct Layer {
    pub attention_norm: Param,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Norms of each head of q and of k, before they rotate.
    pub qk_norms: Option<[Param; 2]>,
    pub post_attention_norm: Option<Param>,
    pub mlp_norm: Param,
    pub mlp: Mlp,
    pub post_mlp_norm: Option<Param>,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a layer, and the large one is the usual one")]
pub enum Mlp {
    Dense(GatedMlp),
    Experts(Experts),
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug, Clone)]
pub struct GatedMlp {
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// A mixture: each row goes to the few experts that the router gives the most weight.
#[derive(Debug, Clone)]
pub struct Experts {
    pub router: Linear,
    pub experts: Vec<GatedMlp>,
}

impl Mlp {
    /// The MLPs it is made of: one, or one an expert.
    pub fn parts(&self) -> &[GatedMlp] {
        match self {
            Self::Dense(mlp) => std::slice::from_ref(mlp),
            Self::Experts(mixture) => &mixture.experts,
        }
    }

    pub fn parts_mut(&mut self) -> &mut [GatedMlp] {
        match self {
            Self::Dense(mlp) => std::slice::from_mut(mlp),
            Self::Experts(mixture) => &mut mixture.experts,
        }
    }
}

/// A linear layer that LoRA can be put on, by its name in `config.json` terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// As Hugging Face and PEFT call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The module it lies in.
    pub fn module(self) -> &'static str {
        match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }
}

/// A linear layer by its name, and by the expert it belongs to if there are several of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    pub projection: Projection,
    pub expert: Option<usize>,
}

impl Layer {
    /// Every linear layer but the router, attention first.
    pub fn modules(&self) -> impl Iterator<Item = Module> + '_ {
        let num_experts = match &self.mlp {
            Mlp::Dense(_) => None,
            Mlp::Experts(mixture) => Some(mixture.experts.len()),
        };
        Projection::ALL.into_iter().flat_map(move |projection| {
            let experts = num_experts.filter(|_| projection.module() == "mlp");
            (0..experts.unwrap_or(1))
                .map(move |expert| Module { projection, expert: experts.map(|_| expert) })
        })
    }

    pub fn module(&self, module: Module) -> &Linear {
        let mlp = &self.mlp.parts()[module.expert.unwrap_or(0)];
        match module.projection {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &mlp.gate,
            Projection::Up => &mlp.up,
            Projection::Down => &mlp.down,
        }
    }

    pub fn module_mut(&mut self, module: Module) -> &mut Linear {
        let mlp = &mut self.mlp.parts_mut()[module.expert.unwrap_or(0)];
        match module.projection {
            Projection::Q => &mut self.q,
            Projection::K => &mut self.k,
            Projection::V => &mut self.v,
            Projection::O => &mut self.o,
            Projection::Gate => &mut mlp.gate,
            Projection::Up => &mut mlp.up,
            Projection::Down => &mut mlp.down,
        }
    }
}

impl Decoder {
    /// Logits `[wanted, V]` of the wanted rows of a batch of tokens `ids`.
    ///
    /// The head, the largest matrix of a small model, multiplies only the wanted rows.
    pub fn logits<G: Graph>(&self, graph: &mut G, ids: &[u32], wanted: &[usize]) -> G::Var {
        let hidden = self.hidden(graph, ids);
        let rows = graph.take_rows(&hidden, wanted);
        drop(hidden);
        let rows = graph.rms_norm(&rows, &self.norm, self.config.rms_norm_eps);
        let logits = graph.linear(&rows, &self.head);
        match self.config.final_soft_cap {
            Some(cap) => graph.soft_cap(logits, cap),
            None => logits,
        }
    }

    /// The residual stream `[T, C]` after the last layer, before the final norm.
    pub fn hidden<G: Graph>(&self, graph: &mut G, ids: &[u32]) -> G::Var {
        let eps = self.config.rms_norm_eps;
        let mut x = graph.embedding(&self.embedding, ids);
        if let Some(factor) = self.config.embedding_scale {
            x = graph.scale(x, factor);
        }
        for (layer_index, layer) in self.layers.iter().enumerate() {
            let h = graph.rms_norm(&x, &layer.attention_norm, eps);
            let attended = self.attention(graph, h, layer_index);
            let attended = normed(graph, attended, layer.post_attention_norm.as_ref(), eps);
            x = graph.add(x, attended);
            let h = graph.rms_norm(&x, &layer.mlp_norm, eps);
            let out = match &layer.mlp {
                Mlp::Dense(mlp) => self.gated_mlp(graph, h, mlp),
                Mlp::Experts(experts) => self.experts(graph, &h, experts),
            };
            let out = normed(graph, out, layer.post_mlp_norm.as_ref(), eps);
            x = graph.add(x, out);
        }
        x
    }

    fn attention<G: Graph>(&self, graph: &mut G, h: G::Var, layer_index: usize) -> G::Var {
        let layer = &self.layers[layer_index];
        let eps = self.config.rms_norm_eps;
        let [q, k, v] = graph.linears(&h, [&layer.q, &layer.k, &layer.v]);
        drop(h);
        let [q_norm, k_norm] = layer.qk_norms.as_ref().map_or([None, None], |[q, k]| [Some(q), Some(k)]);
        let (q, k) = (normed(graph, q, q_norm, eps), normed(graph, k, k_norm, eps));
        let attended = graph.attention(q, k, v, &self.attention_spec(layer_index));
        graph.linear(&attended, &layer.o)
    }

    fn gated_mlp<G: Graph>(&self, graph: &mut G, h: G::Var, mlp: &GatedMlp) -> G::Var {
        let [gate, up] = graph.linears(&h, [&mlp.gate, &mlp.up]);
        drop(h);
        let product = graph.gated(self.config.activation, gate, up);
        graph.linear(&product, &mlp.down)
    }

    fn experts<G: Graph>(&self, graph: &mut G, h: &G::Var, mixture: &Experts) -> G::Var {
        let config = self.config.experts.as_ref().expect("a layer with experts was loaded by their config");
        let logits = graph.linear(h, &mixture.router);
        let (weights, rows) = graph.route(logits, config.routing);
        let mut parts = Vec::new();
        for (expert, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let of_expert = graph.take_rows(h, &rows);
            let value = self.gated_mlp(graph, of_expert, &mixture.experts[expert]);
            parts.push(Part { expert, rows, value });
        }
        graph.combine(&weights, parts)
    }

    fn attention_spec(&self, layer_index: usize) -> AttentionSpec {
        let LayerConfig { rope, window, .. } = &self.config.layers[layer_index];
        AttentionSpec {
            layer_index,
            num_heads: self.config.num_heads,
            num_kv_heads: self.config.num_kv_heads,
            head_dim: self.config.head_dim,
            scale: self.config.attention_scale,
            rope: rope.clone(),
            window: *window,
            soft_cap: self.config.attention_soft_cap,
            kv: self.kv,
        }
    }

    /// Whether products round their input: some matrix is of fewer bits.
    pub fn is_quantised(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.modules().any(|module| layer.module(module).weight.is_quantised()))
    }

    /// The same decoder with all matrices in f32.
    pub fn dequantised(&self, pool: &Pool) -> Self {
        let dense = |linear: &mut Linear| {
            let [rows, cols] = [linear.out_features(), linear.in_features()];
            let mut values = vec![0.0; rows * cols];
            pool.for_each_chunk(&mut values, cols, |row, out| linear.weight.row(row, out));
            linear.weight = Arc::new(PackedMatrix::from_f32(rows, cols, &values));
        };
        let mut decoder = self.clone();
        for layer in &mut decoder.layers {
            for module in layer.modules().collect::<Vec<_>>() {
                dense(layer.module_mut(module));
            }
        }
        dense(&mut decoder.embedding);
        if Arc::ptr_eq(&self.head.weight, &self.embedding.weight) {
            decoder.head.weight = Arc::clone(&decoder.embedding.weight);
        } else {
            dense(&mut decoder.head);
        }
        decoder
    }

    /// How a sequence's keys and values are laid out.
    pub fn page_layout(&self) -> PageLayout {
        self.config.page_layout(self.kv)
    }

    /// Bytes of all weights in memory, a tied head counted once.
    pub fn weight_bytes(&self) -> usize {
        let of_layer = |layer: &Layer| -> usize {
            let router = match &layer.mlp {
                Mlp::Dense(_) => 0,
                Mlp::Experts(mixture) => mixture.router.weight.bytes(),
            };
            router + layer.modules().map(|module| layer.module(module).weight.bytes()).sum::<usize>()
        };
        let is_tied = Arc::ptr_eq(&self.head.weight, &self.embedding.weight);
        let head = if is_tied { 0 } else { self.head.weight.bytes() };
        self.layers.iter().map(of_layer).sum::<usize>() + self.embedding.weight.bytes() + head
    }
}

/// `x` through a norm, if there is one.
fn normed<G: Graph>(graph: &mut G, x: G::Var, norm: Option<&Param>, eps: f32) -> G::Var {
    match norm {
        Some(weight) => graph.rms_norm(&x, weight, eps),
        None => x,
    }
}
