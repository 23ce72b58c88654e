//! Gradients of the trained parameters, in the order of their ids.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hearth_kernels::elementwise;

use crate::weight::{Param, ParamId};

/// One dense gradient for each parameter that was reached; frozen ones have no entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gradients {
    by_param: BTreeMap<ParamId, Vec<f32>>,
}

impl Gradients {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, id: ParamId) -> Option<&[f32]> {
        self.by_param.get(&id).map(Vec::as_slice)
    }

    /// In ascending order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &[f32])> {
        self.by_param.iter().map(|(&id, gradient)| (id, gradient.as_slice()))
    }

    pub fn len(&self) -> usize {
        self.by_param.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_param.is_empty()
    }

    /// Adds `gradient` to what is there for `id`: how replicas and micro-batches come together.
    pub fn add(&mut self, id: ParamId, gradient: Vec<f32>) {
        match self.by_param.entry(id) {
            Entry::Vacant(place) => {
                place.insert(gradient);
            }
            Entry::Occupied(place) => elementwise::add_assign(place.into_mut(), &gradient),
        }
    }

    /// The gradient of a trained parameter, zeros at first, to add to.
    pub(crate) fn of(&mut self, param: &Param) -> Option<&mut [f32]> {
        let id = param.id?;
        let gradient = self.by_param.entry(id).or_insert_with(|| vec![0.0; param.data.len()]);
        assert_eq!(gradient.len(), param.data.len(), "two parameters with the id {id:?}");
        Some(gradient)
    }
}
