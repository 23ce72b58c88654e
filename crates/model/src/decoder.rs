//! The one decoder definition: pre-norm attention and gated MLP blocks, written against [`Graph`].
//!
//! Training runs it on a tape, generation eagerly; the family only decides where weights come from.
//! Llama: Touvron et al. 2023; grouped-query attention: Ainslie et al. 2023.

use hearth_kernels::attention::PageLayout;
use hearth_tensor::graph::{AttentionSpec, Graph};
use hearth_tensor::weight::{Linear, Lora, Param};

use crate::config::ModelConfig;

/// The weights of a decoder. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub config: ModelConfig,
    pub embedding: Linear,
    pub layers: Vec<Layer>,
    pub norm: Param,
    /// The output head; the embedding again where the two are tied.
    pub head: Linear,
}

#[derive(Debug, Clone)]
pub struct Layer {
    pub attention_norm: Param,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub mlp_norm: Param,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
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

impl Layer {
    pub fn projection(&self, which: Projection) -> &Linear {
        match which {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &self.gate,
            Projection::Up => &self.up,
            Projection::Down => &self.down,
        }
    }

    pub(crate) fn set_lora(&mut self, which: Projection, lora: Option<Lora>) {
        let linear = match which {
            Projection::Q => &mut self.q,
            Projection::K => &mut self.k,
            Projection::V => &mut self.v,
            Projection::O => &mut self.o,
            Projection::Gate => &mut self.gate,
            Projection::Up => &mut self.up,
            Projection::Down => &mut self.down,
        };
        linear.lora = lora;
    }
}

impl Decoder {
    /// Logits `[wanted, V]` of the wanted rows of a batch of tokens `ids`.
    ///
    /// The head, the largest matrix of a small model, multiplies only the wanted rows.
    pub fn logits<G: Graph>(&self, graph: &mut G, ids: &[u32], wanted: &[usize]) -> G::Var {
        let hidden = self.hidden(graph, ids);
        let rows = graph.take_rows(hidden, wanted);
        let rows = graph.rms_norm(&rows, &self.norm, self.config.rms_norm_eps);
        graph.linear(&rows, &self.head)
    }

    /// The residual stream `[T, C]` after the last layer, before the final norm.
    pub fn hidden<G: Graph>(&self, graph: &mut G, ids: &[u32]) -> G::Var {
        let mut x = graph.embedding(&self.embedding, ids);
        for (layer_index, layer) in self.layers.iter().enumerate() {
            let h = graph.rms_norm(&x, &layer.attention_norm, self.config.rms_norm_eps);
            let q = graph.linear(&h, &layer.q);
            let k = graph.linear(&h, &layer.k);
            let v = graph.linear(&h, &layer.v);
            drop(h);
            let attended = graph.attention(q, k, v, &self.attention_spec(layer_index));
            let attended = graph.linear(&attended, &layer.o);
            x = graph.add(x, attended);
            let h = graph.rms_norm(&x, &layer.mlp_norm, self.config.rms_norm_eps);
            let gate = graph.linear(&h, &layer.gate);
            let up = graph.linear(&h, &layer.up);
            drop(h);
            let gated = graph.silu_mul(gate, up);
            let gated = graph.linear(&gated, &layer.down);
            x = graph.add(x, gated);
        }
        x
    }

    fn attention_spec(&self, layer_index: usize) -> AttentionSpec {
        AttentionSpec {
            layer_index,
            num_heads: self.config.num_heads,
            num_kv_heads: self.config.num_kv_heads,
            head_dim: self.config.head_dim,
            scale: 1.0 / (self.config.head_dim as f32).sqrt(),
            rope: self.config.rope,
        }
    }

    /// How a sequence's keys and values are laid out.
    pub fn page_layout(&self) -> PageLayout {
        PageLayout {
            num_layers: self.config.num_layers,
            num_kv_heads: self.config.num_kv_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// Bytes of all weights in memory, a tied head counted once.
    pub fn weight_bytes(&self) -> usize {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| Projection::ALL.map(|projection| layer.projection(projection).weight.bytes()));
        let is_tied = std::sync::Arc::ptr_eq(&self.head.weight, &self.embedding.weight);
        let head = if is_tied { 0 } else { self.head.weight.bytes() };
        layers.sum::<usize>() + self.embedding.weight.bytes() + head
    }
}
