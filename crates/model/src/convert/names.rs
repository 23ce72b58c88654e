//! What each tensor is called on the other side: `config::names` of GGUF files beside those of folders.
//!
//! There is no table here: a family's tensors are those that its two readers ask for. Where one side holds the
//! experts of a layer in one tensor and the other each in its own, the name leads to all of them.

use crate::config::names::Names;
use crate::config::{Family, ModelConfig};
use crate::decoder::Projection;

/// What becomes of a tensor's values on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Same,
    /// Heads of q or k, whose halves rotate together in a folder: interleaved where the family's files are.
    Query,
    Key,
    /// A norm, which folders may hold as its difference to 1.
    Norm,
    /// A matrix of every expert.
    Experts,
}

/// A tensor's other name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renamed {
    /// For [`Role::Experts`] on the way to a folder `{}` stands for the expert.
    pub(super) name: String,
    pub(super) role: Role,
    /// Which expert the tensor belongs to, on the way from a folder.
    pub(super) expert: Option<usize>,
}

/// One kind of tensor in the spellings of both sides; those of layers without the layer's prefix.
#[derive(Debug)]
struct Part {
    gguf: String,
    folder: String,
    role: Role,
}

/// Both sides of a family.
#[derive(Debug)]
pub(super) struct Table {
    gguf_layer: &'static str,
    folder_layer: &'static str,
    outside: Vec<Part>,
    in_layer: Vec<Part>,
}

impl Table {
    pub(super) fn of(family: Family) -> Self {
        let (gguf, folder) = (family.gguf_names(), family.hugging_face_names());
        let part =
            |gguf: &str, folder: &str, role| Part { gguf: gguf.to_owned(), folder: folder.to_owned(), role };
        Self {
            gguf_layer: gguf.layer,
            folder_layer: folder.layer,
            outside: vec![
                part(gguf.embedding, folder.embedding, Role::Same),
                part(gguf.norm, folder.norm, Role::Norm),
                part(gguf.head, folder.head, Role::Same),
            ],
            in_layer: norms(gguf, folder)
                .chain(projections(gguf, folder))
                .chain(experts(gguf, folder))
                .collect(),
        }
    }

    /// A folder's name of a GGUF file's tensor.
    pub(super) fn to_folder(&self, gguf: &str) -> Option<Renamed> {
        let renamed = |name, part: &Part| Renamed { name, role: part.role, expert: None };
        if let Some(part) = self.outside.iter().find(|part| part.gguf == gguf) {
            return Some(renamed(part.folder.clone(), part));
        }
        let (layer, rest) = split_number(gguf, self.gguf_layer)?;
        let part = self.in_layer.iter().find(|part| part.gguf == rest)?;
        Some(renamed(format!("{}{}", put_number(self.folder_layer, layer), part.folder), part))
    }

    /// A GGUF file's name of a folder's tensor.
    pub(super) fn to_gguf(&self, folder: &str) -> Option<Renamed> {
        if let Some(part) = self.outside.iter().find(|part| part.folder == folder) {
            return Some(Renamed { name: part.gguf.clone(), role: part.role, expert: None });
        }
        let (layer, rest) = split_number(folder, self.folder_layer)?;
        self.in_layer.iter().find_map(|part| {
            let expert = match part.role {
                Role::Experts => {
                    Some(split_number(rest, &part.folder).filter(|(_, rest)| rest.is_empty())?.0)
                }
                _ if part.folder == rest => None,
                _ => return None,
            };
            let name = format!("{}{}", put_number(self.gguf_layer, layer), part.gguf);
            Some(Renamed { name, role: part.role, expert })
        })
    }
}

fn norms(gguf: &Names, folder: &Names) -> impl Iterator<Item = Part> {
    let qk = gguf.qk_norms.zip(folder.qk_norms);
    let pairs = [
        Some((gguf.attention_norm, folder.attention_norm)),
        gguf.post_attention_norm.zip(folder.post_attention_norm),
        Some((gguf.mlp_norm, folder.mlp_norm)),
        gguf.post_mlp_norm.zip(folder.post_mlp_norm),
        qk.map(|(gguf, folder)| (gguf[0], folder[0])),
        qk.map(|(gguf, folder)| (gguf[1], folder[1])),
    ];
    let part =
        |(gguf, folder): (&str, &str)| Part { gguf: gguf.into(), folder: folder.into(), role: Role::Norm };
    pairs.into_iter().flatten().map(part)
}

/// Weights and biases; matrices that share a tensor share it on both sides, in the same order.
fn projections(gguf: &Names, folder: &Names) -> impl Iterator<Item = Part> {
    let parts = Projection::ALL.into_iter().flat_map(|projection| {
        let (gguf, folder) = (gguf.place(projection), folder.place(projection));
        assert_eq!(gguf.fused, folder.fused, "{projection:?} shares its tensor with the same matrices");
        let role = match projection {
            Projection::Q if gguf.fused.is_empty() => Role::Query,
            Projection::K if gguf.fused.is_empty() => Role::Key,
            _ => Role::Same,
        };
        ["weight", "bias"].map(|kind| Part {
            gguf: format!("{}.{kind}", gguf.tensor),
            folder: format!("{}.{kind}", folder.tensor),
            role,
        })
    });
    parts.collect::<Vec<_>>().into_iter()
}

fn experts(gguf: &Names, folder: &Names) -> impl Iterator<Item = Part> {
    let pairs = gguf.experts.zip(folder.experts).into_iter().flat_map(|(gguf, folder)| {
        [
            (gguf.router, folder.router, Role::Same),
            (gguf.gate, folder.gate, Role::Experts),
            (gguf.up, folder.up, Role::Experts),
            (gguf.down, folder.down, Role::Experts),
        ]
    });
    pairs.map(|(gguf, folder, role)| Part { gguf: gguf.into(), folder: folder.into(), role })
}

/// The number at `{}` of a pattern that the name begins like, and what follows.
fn split_number<'a>(name: &'a str, pattern: &str) -> Option<(usize, &'a str)> {
    let (before, after) = pattern.split_once("{}")?;
    let rest = name.strip_prefix(before)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    // Numbers are spelt without zeros in front, so that the way back leads to the same name.
    let number = number.parse::<usize>().ok().filter(|value| value.to_string() == number)?;
    Some((number, rest.strip_prefix(after)?))
}

pub(super) fn put_number(pattern: &str, number: usize) -> String {
    pattern.replacen("{}", &number.to_string(), 1)
}

/// What a GGUF file becomes as a folder: files of Mistral and Mixtral call themselves Llama.
pub(super) fn family_in_folder(config: &ModelConfig) -> Family {
    match config.family {
        Family::Llama if config.experts.is_some() => Family::Mixtral,
        Family::Llama if config.layers.iter().any(|layer| layer.window.is_some()) => Family::Mistral,
        family => family,
    }
}

/// The row of the other file that becomes row `row` here. Folders rotate row i of a head with row i + half of it,
/// interleaved files row 2i with row 2i + 1.
pub(crate) fn source_row(row: usize, head_dim: usize, to_gguf: bool) -> usize {
    let (head, at, half) = (row / head_dim * head_dim, row % head_dim, head_dim / 2);
    match to_gguf {
        true => head + at % 2 * half + at / 2,
        false => head + at % half * 2 + at / half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for family in Family::ALL {
            let table = Table::of(family);
            for part in &table.in_layer {
                let (gguf, folder) =
                    (format!("blk.12.{}", part.gguf), format!("model.layers.12.{}", part.folder));
                let there = table.to_folder(&gguf).unwrap();
                assert_eq!(
                    there,
                    Renamed { name: folder.clone(), role: part.role, expert: None },
                    "{family:?}"
                );
                let expert = (part.role == Role::Experts).then_some(7);
                let back =
                    table.to_gguf(&expert.map_or(folder.clone(), |expert| put_number(&folder, expert)));
                assert_eq!(back, Some(Renamed { name: gguf, role: part.role, expert }), "{family:?}");
            }
            assert_eq!(table.to_folder("blk.x.attn_q.weight"), None);
            assert_eq!(table.to_gguf("model.layers..mlp.up_proj.weight"), None);
            assert_eq!(table.to_gguf("model.layers.007.input_layernorm.weight"), None);
        }
    }

    #[test]
    fn rows_go_to_pairs_and_back() {
        // By hand: heads of 4, whose rows 0 and 2 rotate together in a folder and stand side by side in the file.
        let to_gguf: Vec<_> = (0..8).map(|row| source_row(row, 4, true)).collect();
        assert_eq!(to_gguf, [0, 2, 1, 3, 4, 6, 5, 7]);
        for row in 0..128 {
            assert_eq!(source_row(source_row(row, 64, true), 64, false), row);
        }
    }
}
