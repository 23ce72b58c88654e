//! Where the rows of an adapter's matrices lie in the source, so that a merge is a conversion with other rows.

use std::collections::BTreeMap;
use std::ops::Range;

use super::plan::{Plan, Source};
use crate::config::ModelConfig;
use crate::decoder::Module;
use crate::error::{Error, Result};
use crate::load::module_shape;
use crate::lora::Merged;

/// An adapter by the names of the tensors it changes.
#[derive(Debug)]
pub(super) struct Places<'a> {
    merged: &'a Merged<'a>,
    by_tensor: BTreeMap<String, Vec<Matrix>>,
}

/// Rows of a tensor that are one adapted matrix.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    rows: Range<usize>,
    entry: usize,
}

impl<'a> Places<'a> {
    pub(super) fn new(merged: &'a Merged<'a>, source: &Source, plan: &Plan) -> Result<Self> {
        let (config, names) = match source {
            Source::Gguf(file) => {
                let config = ModelConfig::from_gguf(file)?;
                let names = config.family.gguf_names();
                (config, names)
            }
            Source::Folder(folder) => {
                let config = ModelConfig::from_folder(folder)?;
                let names = config.family.hugging_face_names();
                (config, names)
            }
        };
        let rows = |projection| module_shape(&config, Module { projection, expert: None })[0];
        let mut by_tensor: BTreeMap<String, Vec<Matrix>> = BTreeMap::new();
        for (entry, (layer, module)) in merged.places().enumerate() {
            if let Some(expert) = module.expert {
                let what = format!("layer {layer}, expert {expert}: adapters of experts can't be merged yet");
                return Err(Error::Unconvertible { what });
            }
            let place = names.place(module.projection);
            let before = place.fused.iter().take_while(|&&projection| projection != module.projection);
            let start: usize = before.map(|&projection| rows(projection)).sum();
            let name = format!("{}.weight", names.in_layer(layer, place.tensor));
            if !plan.tensors.iter().any(|tensor| tensor.from.contains(&name)) {
                return Err(Error::Unconvertible {
                    what: format!("tensor `{name}`, which the adapter changes, isn't there"),
                });
            }
            let rows = start..start + rows(module.projection);
            by_tensor.entry(name).or_default().push(Matrix { rows, entry });
        }
        Ok(Self { merged, by_tensor })
    }

    /// The adapted matrices in a tensor.
    pub(super) fn of(&self, tensor: &str) -> &[Matrix] {
        self.by_tensor.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// Makes row `row` of the tensor that of the merged matrix, if it has one.
    pub(super) fn merge(&self, matrices: &[Matrix], row: usize, values: &mut [f32]) {
        if let Some(matrix) = matrices.iter().find(|matrix| matrix.rows.contains(&row)) {
            self.merged.merge_row(matrix.entry, row - matrix.rows.start, values);
        }
    }
}
