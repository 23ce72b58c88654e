//! Several models within one budget: who is loaded, who goes, who waits for whom.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex};

    use hearth_engine::{Engine, EngineConfig, Loader, Registry, RegistryError, Request};
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Scratch, TINY};

    const KV_BYTES: usize = 1 << 20;

    /// Loads tiny models named `a`, `b`, `c`; `broken` fails, `slow` waits until it is let go.
    struct Tiny {
        model: Arc<Model>,
        num_loads: Mutex<BTreeMap<String, usize>>,
        slow: Barrier,
        fails: AtomicUsize,
    }

    impl Tiny {
        fn new() -> Arc<Self> {
            let folder = Scratch::new("registry").unwrap();
            TINY.write(&folder).unwrap();
            let model = Arc::new(Model::open(&folder, &Pool::new(1)).unwrap());
            let fails = AtomicUsize::new(1);
            Arc::new(Self { model, num_loads: Mutex::default(), slow: Barrier::new(2), fails })
        }

        fn bytes(&self) -> usize {
            self.model.decoder.weight_bytes() + KV_BYTES
        }

        fn num_loads(&self, name: &str) -> usize {
            self.num_loads.lock().unwrap().get(name).copied().unwrap_or(0)
        }
    }

    struct Shared(Arc<Tiny>);

    impl Loader for Shared {
        fn names(&self) -> Vec<String> {
            ["a", "b", "c", "broken", "slow"].map(Into::into).to_vec()
        }

        fn estimate(&self, _name: &str) -> Result<usize, String> {
            Ok(self.0.bytes())
        }

        fn load(&self, name: &str) -> Result<Engine, String> {
            *self.0.num_loads.lock().unwrap().entry(name.into()).or_default() += 1;
            if name == "slow" {
                self.0.slow.wait();
                self.0.slow.wait();
            }
            if name == "broken" && self.0.fails.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Err("its file is cut".into());
            }
            let config = EngineConfig { kv_bytes: KV_BYTES, ..EngineConfig::new(256) };
            Ok(Engine::start(Arc::clone(&self.0.model), Arc::new(Pool::new(1)), config))
        }
    }

    fn loaded(registry: &Registry) -> Vec<String> {
        registry.states().into_iter().filter(|state| state.is_loaded).map(|state| state.name).collect()
    }

    fn ask(engine: &Engine) -> usize {
        engine.generate(Request::greedy(vec![40, 41], 5, Vec::new())).unwrap().tokens.len()
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_and_what_is_in_use_stays() {
        let tiny = Tiny::new();
        let registry = Registry::new(Box::new(Shared(Arc::clone(&tiny))), 2 * tiny.bytes());
        let held = registry.engine("a").unwrap();
        assert_eq!(ask(&registry.engine("b").unwrap()), 5);
        assert_eq!(loaded(&registry), ["a", "b"]);
        // `a` is older, but somebody holds it.
        assert_eq!(ask(&registry.engine("c").unwrap()), 5);
        assert_eq!(loaded(&registry), ["a", "c"]);
        let second = registry.engine("c").unwrap();
        let refused = registry.engine("b").err();
        let (needed_bytes, used_bytes) = (tiny.bytes(), 2 * tiny.bytes());
        let expected =
            RegistryError::Memory { name: "b".into(), needed_bytes, used_bytes, budget_bytes: used_bytes };
        assert_eq!(refused, Some(expected));
        assert_eq!(ask(&held) + ask(&second), 10, "they run on");
        drop((held, second));
        registry.engine("a").unwrap();
        registry.engine("b").unwrap();
        assert_eq!(loaded(&registry), ["a", "b"], "`c` was asked for before `a`");
        assert_eq!((tiny.num_loads("a"), tiny.num_loads("b"), tiny.num_loads("c")), (1, 2, 1));
        assert_eq!(registry.engine("d").err(), Some(RegistryError::Unknown { name: "d".into() }));
    }

    #[test]
    fn many_who_ask_at_once_load_once_and_a_slow_model_holds_nobody_else_up() {
        let tiny = Tiny::new();
        let registry = Registry::new(Box::new(Shared(Arc::clone(&tiny))), usize::MAX);
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..4).map(|_| scope.spawn(|| ask(&registry.engine("slow").unwrap()))).collect();
            tiny.slow.wait();
            // It is being loaded now, and stays so until the barrier is passed once more.
            assert_eq!(ask(&registry.engine("a").unwrap()), 5);
            assert_eq!(loaded(&registry), ["a"]);
            tiny.slow.wait();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 5));
        });
        assert_eq!(tiny.num_loads("slow"), 1);
    }

    #[test]
    fn a_model_that_fails_to_load_is_an_error_for_its_requests_and_tried_again() {
        let tiny = Tiny::new();
        let registry = Registry::new(Box::new(Shared(Arc::clone(&tiny))), usize::MAX);
        let reason = "its file is cut".to_string();
        assert_eq!(
            registry.engine("broken").err(),
            Some(RegistryError::Load { name: "broken".into(), reason })
        );
        assert_eq!(ask(&registry.engine("a").unwrap()), 5);
        assert_eq!(ask(&registry.engine("broken").unwrap()), 5, "it could be loaded this time");
        assert_eq!(tiny.num_loads("broken"), 2);
    }
}
