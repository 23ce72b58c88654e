//! Several models in one process: loaded when they are first asked for, unloaded when memory is needed.
//!
//! A model weighs its weights and the keys and values it may hold. What nobody holds goes first where it was asked
//! for longest ago; what is in use is never unloaded. Loading goes on beside everything else: only requests for that
//! very model wait, and if it fails they alone hear of it, and the next one tries again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::engine::Engine;

/// Makes engines by name; what may block for long happens here, outside of any lock.
pub trait Loader: Send + Sync {
    /// Names that [`Self::load`] knows, in the order to be shown.
    fn names(&self) -> Vec<String>;

    /// Bytes that the model will weigh, as far as it can be told before it is loaded.
    fn estimate(&self, name: &str) -> Result<usize, String>;

    fn load(&self, name: &str) -> Result<Engine, String>;
}

impl fmt::Debug for dyn Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dyn Loader")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    #[error("no model is called `{name}`")]
    Unknown { name: String },
    #[error("`{name}` can't be loaded: {reason}")]
    Load { name: String, reason: String },
    #[error(
        "`{name}` needs {needed_bytes} bytes; of the budget of {budget_bytes} models in use hold {used_bytes}: try \
         again when they are idle, or give more memory"
    )]
    Memory { name: String, needed_bytes: usize, used_bytes: usize, budget_bytes: usize },
}

/// What a registry holds of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelState {
    pub name: String,
    pub is_loaded: bool,
    /// Bytes of its weights and of keys and values it may hold; 0 while it isn't loaded.
    pub bytes: usize,
    /// Those who hold it right now.
    pub num_users: usize,
}

#[derive(Debug)]
enum Slot {
    /// Somebody is loading it; it will weigh so much.
    Loading {
        bytes: usize,
    },
    Ready {
        engine: Arc<Engine>,
        bytes: usize,
        last_used: u64,
    },
}

#[derive(Debug, Default)]
struct Slots {
    models: BTreeMap<String, Slot>,
    /// How the last attempt to load went wrong, and which attempt that was.
    failures: BTreeMap<String, (u64, RegistryError)>,
    clock: u64,
}

/// Engines by name, within a budget of bytes.
#[derive(Debug)]
pub struct Registry {
    loader: Box<dyn Loader>,
    budget_bytes: usize,
    slots: Mutex<Slots>,
    changed: Condvar,
}

impl Registry {
    pub fn new(loader: Box<dyn Loader>, budget_bytes: usize) -> Self {
        Self { loader, budget_bytes, slots: Mutex::default(), changed: Condvar::new() }
    }

    pub fn names(&self) -> Vec<String> {
        self.loader.names()
    }

    /// The engine of that name, loaded if need be. It stays as long as the caller holds it.
    pub fn engine(&self, name: &str) -> Result<Arc<Engine>, RegistryError> {
        if !self.loader.names().iter().any(|known| known == name) {
            return Err(RegistryError::Unknown { name: name.into() });
        }
        let mut slots = self.lock();
        let arrived = slots.clock;
        loop {
            slots.clock += 1;
            let now = slots.clock;
            match slots.models.get_mut(name) {
                Some(Slot::Ready { engine, last_used, .. }) => {
                    *last_used = now;
                    return Ok(Arc::clone(engine));
                }
                Some(Slot::Loading { .. }) => {
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                    // An attempt that began before this request came speaks for it, too.
                    let failure = slots.failures.get(name).filter(|(at, _)| *at > arrived);
                    if let Some((_, error)) = failure {
                        return Err(error.clone());
                    }
                }
                None => break,
            }
        }
        self.load(name, slots)
    }

    fn load(&self, name: &str, mut slots: MutexGuard<'_, Slots>) -> Result<Arc<Engine>, RegistryError> {
        let failed = |reason| RegistryError::Load { name: name.into(), reason };
        // Others find it being loaded from here on.
        slots.models.insert(name.into(), Slot::Loading { bytes: 0 });
        drop(slots);
        let guard = Attempt { registry: self, name };
        let estimate = self.loader.estimate(name).map_err(failed).and_then(|bytes| {
            let unloaded = self.make_room(name, bytes)?;
            // Their threads end and what they keep is written before the next model is read.
            drop(unloaded);
            Ok(bytes)
        });
        let loaded = estimate.and_then(|_| self.loader.load(name).map_err(failed));
        let result = loaded.and_then(|engine| {
            let bytes = engine.bytes();
            let engine = Arc::new(engine);
            drop(self.make_room(name, bytes)?);
            let mut slots = self.lock();
            slots.clock += 1;
            let ready = Slot::Ready { engine: Arc::clone(&engine), bytes, last_used: slots.clock };
            slots.models.insert(name.into(), ready);
            slots.failures.remove(name);
            Ok(engine)
        });
        if let Err(error) = &result {
            let mut slots = self.lock();
            slots.clock += 1;
            let now = slots.clock;
            slots.failures.insert(name.into(), (now, error.clone()));
        }
        drop(guard);
        result
    }

    /// Takes out what nobody uses until so many bytes fit, and notes that this model will take them.
    fn make_room(&self, name: &str, needed_bytes: usize) -> Result<Vec<Arc<Engine>>, RegistryError> {
        let mut slots = self.lock();
        let mut unloaded = Vec::new();
        loop {
            let others = slots.models.iter().filter(|(other, _)| *other != name);
            let used_bytes: usize = others.map(|(_, slot)| slot.bytes()).sum();
            if used_bytes.saturating_add(needed_bytes) <= self.budget_bytes {
                slots.models.insert(name.into(), Slot::Loading { bytes: needed_bytes });
                return Ok(unloaded);
            }
            let idle = slots.models.iter().filter_map(|(other, slot)| match slot {
                Slot::Ready { engine, last_used, .. } if Arc::strong_count(engine) == 1 => {
                    Some((*last_used, other.clone()))
                }
                _ => None,
            });
            let Some((_, oldest)) = idle.min() else {
                let budget_bytes = self.budget_bytes;
                return Err(RegistryError::Memory {
                    name: name.into(),
                    needed_bytes,
                    used_bytes,
                    budget_bytes,
                });
            };
            if let Some(Slot::Ready { engine, .. }) = slots.models.remove(&oldest) {
                unloaded.push(engine);
            }
        }
    }

    /// Every model in the loader's order.
    pub fn states(&self) -> Vec<ModelState> {
        let slots = self.lock();
        let state = |name: String| match slots.models.get(&name) {
            Some(Slot::Ready { engine, bytes, .. }) => {
                let num_users = Arc::strong_count(engine) - 1;
                ModelState { name, is_loaded: true, bytes: *bytes, num_users }
            }
            _ => ModelState { name, is_loaded: false, bytes: 0, num_users: 0 },
        };
        self.loader.names().into_iter().map(state).collect()
    }

    /// The engine of that name if it is loaded. Looking isn't asking: its turn to go stays the same.
    pub fn loaded_engine(&self, name: &str) -> Option<Arc<Engine>> {
        match self.lock().models.get(name) {
            Some(Slot::Ready { engine, .. }) => Some(Arc::clone(engine)),
            _ => None,
        }
    }

    /// Every engine that is loaded, for sums over all of them.
    pub fn loaded(&self) -> Vec<(String, Arc<Engine>)> {
        let slots = self.lock();
        let ready = slots.models.iter().filter_map(|(name, slot)| match slot {
            Slot::Ready { engine, .. } => Some((name.clone(), Arc::clone(engine))),
            Slot::Loading { .. } => None,
        });
        ready.collect()
    }

    /// Stops every engine; what is worth keeping is on disk afterwards.
    pub fn stop(&self) {
        for (_, engine) in self.loaded() {
            engine.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Loading { bytes } | Self::Ready { bytes, .. } => *bytes,
        }
    }
}

/// Wakes those who wait for an attempt, however it ends: a loader that panics holds nobody up.
struct Attempt<'a> {
    registry: &'a Registry,
    name: &'a str,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut slots = self.registry.lock();
        if matches!(slots.models.get(self.name), Some(Slot::Loading { .. })) {
            slots.models.remove(self.name);
        }
        drop(slots);
        self.registry.changed.notify_all();
    }
}
