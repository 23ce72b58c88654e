//! Which format each tensor of a quantised model gets.
//!
//! The rules are those of llama.cpp's `llama-quantize` for dense decoders, so that a file of a given name is of the
//! size and kind its users expect: the output head in 6 bits, some layers' v and down projections in more bits than
//! the rest, and blocks of 32 where a row isn't whole blocks of 256.

use hearth_kernels::quant::Format;

/// A quantised model's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    Q4_0,
    Q5_0,
    Q8_0,
    Q4KM,
    Q5KM,
    Q6K,
}

/// What a rule may ask about a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor<'a> {
    /// In GGUF's spelling.
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    pub(super) num_layers: usize,
    /// The embedding is the output head too.
    pub(super) tied: bool,
    pub(super) has_importance: bool,
}

impl Mix {
    pub const ALL: [Self; 6] = [Self::Q4_0, Self::Q5_0, Self::Q8_0, Self::Q4KM, Self::Q5KM, Self::Q6K];

    /// As the command line and the names of files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q5_0 => "q5_0",
            Self::Q8_0 => "q8_0",
            Self::Q4KM => "q4_k_m",
            Self::Q5KM => "q5_k_m",
            Self::Q6K => "q6_k",
        }
    }

    /// `general.file_type`, as llama.cpp numbers it.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q4KM => 15,
            Self::Q5KM => 17,
            Self::Q6K => 18,
        }
    }

    /// What most of the tensors get.
    fn main(self) -> Format {
        match self {
            Self::Q4_0 => Format::Q4_0,
            Self::Q5_0 => Format::Q5_0,
            Self::Q8_0 => Format::Q8_0,
            Self::Q4KM => Format::Q4K,
            Self::Q5KM => Format::Q5K,
            Self::Q6K => Format::Q6K,
        }
    }

    /// The tensor's format; `None` where it stays as it is.
    pub(super) fn format(self, tensor: Tensor<'_>) -> Option<Format> {
        let is_matrix = tensor.shape.len() >= 2 && tensor.name.ends_with(".weight");
        // A router of experts is small, and its errors would send tokens elsewhere.
        let is_small = tensor.name.contains("_norm.") || tensor.name.contains("ffn_gate_inp.");
        if !is_matrix || is_small {
            return None;
        }
        let cols = *tensor.shape.last()?;
        Some(fallback(self.wanted(tensor, cols), cols))
    }

    fn wanted(self, tensor: Tensor<'_>, cols: usize) -> Format {
        let is_head = tensor.name == "output.weight";
        if is_head || (tensor.tied && tensor.name == "token_embd.weight") {
            let fits = cols.is_multiple_of(self.main().block_len());
            return if fits && self != Self::Q8_0 { Format::Q6K } else { Format::Q8_0 };
        }
        let is_v = tensor.name.ends_with("attn_v.weight") || tensor.name.ends_with("attn_qkv.weight");
        let is_down = tensor.name.contains("ffn_down");
        let layer = layer_of(tensor.name).unwrap_or(0);
        match self {
            Self::Q4KM | Self::Q5KM if (is_v || is_down) && counts_more(layer, tensor.num_layers) => {
                Format::Q6K
            }
            // With weighted columns the first layers' down projections go astray without a minimum.
            Self::Q4_0 if is_down && tensor.has_importance && layer < tensor.num_layers / 8 => Format::Q4_1,
            Self::Q5_0 if is_down && tensor.has_importance && layer < tensor.num_layers / 8 => Format::Q5_1,
            _ => self.main(),
        }
    }
}

/// The first and the last eighth of the layers, and every third between.
fn counts_more(layer: usize, num_layers: usize) -> bool {
    let eighth = num_layers / 8;
    layer < eighth || layer >= 7 * num_layers / 8 || (layer - eighth) % 3 == 2
}

/// The format for rows that aren't whole blocks of it.
fn fallback(wanted: Format, cols: usize) -> Format {
    let fits = |format: Format| cols.is_multiple_of(format.block_len());
    let smaller = match wanted {
        _ if fits(wanted) => return wanted,
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        Format::Q6K => Format::Q8_0,
        _ => Format::F16,
    };
    if fits(smaller) { smaller } else { Format::F16 }
}

/// The 7 of `blk.7.attn_v.weight`.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mix: Mix, name: &str, shape: &[usize], expected: Option<Format>) {
        let tensor = Tensor { name, shape, num_layers: 30, tied: true, has_importance: false };
        assert_eq!(mix.format(tensor), expected, "{mix:?} {name} {shape:?}");
    }

    #[test]
    fn tensors_get_what_llama_quantize_gives_them() {
        // SmolLM2-135M: rows of 576 aren't blocks of 256, those of 1536 are.
        check(Mix::Q4KM, "token_embd.weight", &[49152, 576], Some(Format::Q8_0));
        check(Mix::Q4KM, "token_embd.weight", &[49152, 512], Some(Format::Q6K));
        check(Mix::Q4KM, "blk.0.attn_q.weight", &[576, 576], Some(Format::Q5_0));
        check(Mix::Q4KM, "blk.0.attn_v.weight", &[192, 576], Some(Format::Q8_0));
        check(Mix::Q4KM, "blk.3.attn_v.weight", &[192, 576], Some(Format::Q5_0));
        check(Mix::Q4KM, "blk.0.ffn_down.weight", &[576, 1536], Some(Format::Q6K));
        check(Mix::Q4KM, "blk.3.ffn_down.weight", &[576, 1536], Some(Format::Q4K));
        check(Mix::Q4KM, "blk.5.ffn_down.weight", &[576, 1536], Some(Format::Q6K));
        check(Mix::Q4KM, "blk.0.attn_norm.weight", &[576], None);
        check(Mix::Q4KM, "blk.0.attn_q.bias", &[576], None);
        check(Mix::Q4_0, "token_embd.weight", &[49152, 576], Some(Format::Q8_0));
        check(Mix::Q4_0, "token_embd.weight", &[49152, 512], Some(Format::Q6K));
        check(Mix::Q4_0, "blk.0.ffn_down.weight", &[576, 1536], Some(Format::Q4_0));
        check(Mix::Q8_0, "token_embd.weight", &[49152, 512], Some(Format::Q8_0));
        check(Mix::Q6K, "blk.9.ffn_up.weight", &[64, 40], Some(Format::F16));
    }
}
