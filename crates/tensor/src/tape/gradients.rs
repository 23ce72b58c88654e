//! Gradients of the trained parameters, in the order of their ids.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hearth_kernels::elementwise;

use crate::weight::{Param, ParamId};

/// One dense gradient for each parameter that was reached; frozen ones have no entry.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_param: BTreeMap<ParamId, Vec<f32>>,
    /// Buffers of earlier steps: fresh memory costs page faults.
    spare: BTreeMap<ParamId, Vec<f32>>,
}

impl PartialEq for Gradients {
    fn eq(&self, other: &Self) -> bool {
        self.by_param == other.by_param
    }
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

    /// Forgets the gradients; their memory is used again.
    pub fn clear(&mut self) {
        self.spare.append(&mut self.by_param);
    }

    /// Takes the gradients of some parameters out.
    pub fn take(&mut self, wanted: impl Fn(ParamId) -> bool) -> Self {
        let ids: Vec<ParamId> = self.by_param.keys().copied().filter(|&id| wanted(id)).collect();
        let taken = ids.into_iter().filter_map(|id| self.by_param.remove_entry(&id)).collect();
        Self { by_param: taken, spare: BTreeMap::new() }
    }

    /// Puts back what [`Self::take`] took.
    pub fn put_back(&mut self, mut taken: Self) {
        self.by_param.append(&mut taken.by_param);
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
        let spare = &mut self.spare;
        let gradient = self.by_param.entry(id).or_insert_with(|| match spare.remove(&id) {
            Some(mut buffer) => {
                buffer.fill(0.0);
                buffer
            }
            None => vec![0.0; param.data.len()],
        });
        assert_eq!(gradient.len(), param.data.len(), "two parameters with the id {id:?}");
        Some(gradient)
    }
}
