//! The tiny models of `golden/families.json`, and what transformers computed with them.

use std::path::Path;

use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::graph::{KvOptions, KvType};
use hearth_tensor::kv::KvCache;
use hearth_testkit::{FormulaTensor, formula_model};
use serde::Deserialize;
use serde_json::Value;

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden");
/// Largest difference to an f32 forward that sums in another order.
const LOGIT_TOLERANCE: f32 = 1e-4;

/// What `golden/families.py` and `golden/families_gguf.py` wrote.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) config: Value,
    /// Name, shape, offset and scale.
    #[serde(default)]
    pub(crate) tensors: Vec<(String, Vec<usize>, f32, f32)>,
    pub(crate) sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
pub(crate) struct Sequence {
    pub(crate) ids: Vec<u32>,
    /// The rows whose logits are recorded.
    rows: Vec<usize>,
    logits: Vec<Vec<f32>>,
}

/// The cases of a file in `golden/`.
pub(crate) fn cases_of(file: &str) -> Vec<Case> {
    let text = fs_err::read(format!("{GOLDEN}/{file}")).unwrap();
    serde_json::from_slice::<Golden>(&text).unwrap().cases
}

pub(crate) fn cases() -> Vec<Case> {
    cases_of("families.json")
}

/// The case of this name.
pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    /// Writes the model's configuration and weights.
    pub(crate) fn write(&self, folder: &Path) {
        let tensors = self.tensors.iter().cloned();
        let tensors: Vec<FormulaTensor> = tensors
            .map(|(name, shape, offset, scale)| FormulaTensor { name, shape, offset, scale })
            .collect();
        formula_model(folder, &self.config, &tensors).unwrap();
    }

    /// Holds the recorded rows against a decoder's.
    #[track_caller]
    pub(crate) fn check_logits(&self, decoder: &Decoder) {
        for sequence in &self.sequences {
            let logits = logits(decoder, &sequence.ids);
            for (&row, expected) in sequence.rows.iter().zip(&sequence.logits) {
                for (id, (actual, expected)) in logits[row].iter().zip(expected).enumerate() {
                    assert!(
                        (actual - expected).abs() < LOGIT_TOLERANCE,
                        "{}, row {row} of {}, logit {id}: {actual} vs. {expected}",
                        self.name,
                        sequence.ids.len()
                    );
                }
            }
        }
    }
}

/// Without rounded keys and values: as transformers computes.
pub(crate) fn exact(decoder: Decoder) -> Decoder {
    Decoder { kv: KvOptions { kv_type: KvType::F32, sparse_pages: None }, ..decoder }
}

/// Logits of every row of one sequence.
pub(crate) fn logits(decoder: &Decoder, ids: &[u32]) -> Vec<Vec<f32>> {
    let (pool, mut workspace) = (Pool::new(2), Workspace::default());
    let mut cache = KvCache::new(decoder.page_layout());
    let rows = vec![Rows { cache: &mut cache, count: ids.len() }];
    let mut graph = Eager::new(&pool, &mut workspace, rows);
    let all: Vec<usize> = (0..ids.len()).collect();
    let out = decoder.logits(&mut graph, ids, &all);
    graph.finish();
    all.iter().map(|&row| out.row(row).to_vec()).collect()
}
