//! Keys and values that outlive the engine: the same answers, computed from what was kept, or from the start.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    use hearth_artifacts::progress::{Event, Progress};
    use hearth_engine::{Completion, Computed, Engine, EngineConfig, Request, Speculation, StoreConfig};
    use hearth_kernels::pool::Pool;
    use hearth_model::{Adapter, LoraConfig, Model};
    use hearth_tensor::kv::KvCache;
    use hearth_testkit::{Scratch, TINY};
    use hearth_tokenizer::TokenId;

    /// Remembers what was said.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Progress for Notes {
        fn event(&self, event: Event<'_>) {
            if let Event::Note { text, .. } = event {
                self.0.lock().unwrap().push(text.into());
            }
        }
    }

    struct Place {
        model: Arc<Model>,
        folder: Scratch,
        notes: Arc<Notes>,
    }

    impl Place {
        fn new() -> Self {
            let weights = Scratch::new("restart-model").unwrap();
            TINY.write(&weights).unwrap();
            let model = Arc::new(Model::open(&weights, &Pool::new(1)).unwrap());
            Self { model, folder: Scratch::new("restart").unwrap(), notes: Arc::default() }
        }

        fn page_bytes(&self) -> usize {
            KvCache::new(self.model.decoder.page_layout()).page_bytes()
        }

        /// An engine that lives for one set of requests; each client is the name of an adapter.
        fn ask(&self, model_hash: &str, max_bytes: u64, requests: &[Request]) -> (Vec<Completion>, Computed) {
            let config = EngineConfig { prefix_cache_bytes: 1 << 26, ..EngineConfig::new(2048) };
            let store = StoreConfig {
                folder: self.folder.join("pages"),
                model: model_hash.into(),
                max_bytes,
                progress: Arc::clone(&self.notes) as Arc<dyn Progress>,
            };
            let (model, pool) = (Arc::clone(&self.model), Arc::new(Pool::new(1)));
            let engine = Engine::start_with_store(model, pool, config, Speculation::Off, store).unwrap();
            engine.add_adapter("terse", &self.adapter());
            let answers = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
            (answers, engine.computed())
        }

        fn adapter(&self) -> Adapter {
            let target_modules = vec!["k_proj".into(), "v_proj".into()];
            let config = LoraConfig { r: 2, lora_alpha: 4.0, target_modules, ..LoraConfig::default() };
            let mut adapter = Adapter::new(&self.model.decoder, config, 5).unwrap();
            for param in adapter.params_mut() {
                for (at, value) in Arc::make_mut(&mut param.data).iter_mut().enumerate() {
                    *value = (at * 13 % 17) as f32 / 40.0 - 0.2;
                }
            }
            adapter
        }

        fn files(&self) -> Vec<PathBuf> {
            let mut files: Vec<PathBuf> = fs_err::read_dir(self.folder.join("pages"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            files
        }

        fn bytes(&self) -> u64 {
            self.files().iter().map(|path| path.metadata().unwrap().len()).sum()
        }
    }

    fn request(len: usize, seed: usize, adapter: Option<&str>) -> Request {
        let prompt = (0..len).map(|i| (33 + (i * i + 7 * i * seed + 31 * seed) % 89) as TokenId).collect();
        let adapter = adapter.map(Into::into);
        Request { adapter, logprobs: Some(2), ..Request::greedy(prompt, 12, Vec::new()) }
    }

    fn check_same(what: &str, left: &[Completion], right: &[Completion]) {
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert_eq!(left.tokens, right.tokens, "{what}: request {index}");
        }
    }

    fn cached(completions: &[Completion]) -> Vec<usize> {
        completions.iter().map(|completion| completion.usage.cached_tokens).collect()
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs_err::read(path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 4;
        fs_err::write(path, bytes).unwrap();
    }

    #[test]
    fn after_a_restart_the_answers_are_the_same_and_their_prompts_known() {
        let place = Place::new();
        let requests = [request(300, 1, None), request(900, 2, None), request(300, 1, Some("terse"))];
        let (first, computed) = place.ask("model", 1 << 30, &requests);
        assert_eq!(cached(&first), [0, 0, 0]);
        assert_eq!(computed.loaded_pages, 0);
        let (second, computed) = place.ask("model", 1 << 30, &requests);
        check_same("after a restart", &first, &second);
        assert_eq!(cached(&second), [256, 896, 256], "whole pages are kept, the adapter's apart");
        assert_eq!(computed.loaded_pages, 4 + 14 + 4);
        let (foreign, _) = place.ask("another model", 1 << 30, &requests);
        check_same("another model's", &first, &foreign);
        assert_eq!(cached(&foreign), [0, 0, 0]);
        assert!(place.notes.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_is_said_and_computed_again() {
        let place = Place::new();
        let requests = [request(600, 1, None)];
        let (first, _) = place.ask("model", 1 << 30, &requests);
        let files = place.files();
        assert_eq!(files.len(), 9, "612 tokens");
        for (round, damage) in [0, 20, 100, 150, 5_000].into_iter().enumerate() {
            for path in &files {
                flip(path, damage);
            }
            let (again, computed) = place.ask("model", 1 << 30, &requests);
            check_same("damaged", &first, &again);
            assert_eq!((computed.refused_pages, cached(&again)), (1, vec![0]), "damage at {damage}");
            let notes = place.notes.0.lock().unwrap().clone();
            assert!(notes.len() == round + 1 && notes[round].contains(".page"), "{notes:?}");
            // What comes behind a damaged page was never looked at, and is replaced only when it is needed.
            for path in place.files() {
                fs_err::remove_file(path).unwrap();
            }
            place.ask("model", 1 << 30, &requests);
        }
        let path = &place.files()[0];
        let bytes = fs_err::read(path).unwrap();
        fs_err::write(path, &bytes[..bytes.len() / 2]).unwrap();
        fs_err::write(place.folder.join("pages/notes.txt"), "not a page").unwrap();
        check_same("cut", &first, &place.ask("model", 1 << 30, &requests).0);
        assert!(place.folder.join("pages/notes.txt").exists(), "what isn't ours stays");
    }

    #[test]
    fn the_folder_keeps_to_its_budget_and_what_was_used_last() {
        let place = Place::new();
        let budget = 10 * (place.page_bytes() as u64 + 136);
        for seed in 1..6 {
            place.ask("model", budget, &[request(500, seed, None)]);
            assert!(place.bytes() <= budget, "{} of {budget}", place.bytes());
        }
        let (answers, _) = place.ask("model", budget, &[request(500, 5, None), request(500, 1, None)]);
        assert_eq!(cached(&answers), [448, 0]);
    }

    #[test]
    fn what_two_requests_used_is_kept_before_the_end() {
        let place = Place::new();
        let requests = [request(200, 1, None), request(200, 1, None), request(200, 2, None)];
        let config = EngineConfig { prefix_cache_bytes: 1 << 26, ..EngineConfig::new(2048) };
        let store = StoreConfig {
            folder: place.folder.join("pages"),
            model: "model".into(),
            max_bytes: 1 << 30,
            progress: Arc::clone(&place.notes) as Arc<dyn Progress>,
        };
        let (model, pool) = (Arc::clone(&place.model), Arc::new(Pool::new(1)));
        let engine = Engine::start_with_store(model, pool, config, Speculation::Off, store).unwrap();
        for request in requests {
            engine.generate(request).unwrap();
        }
        let started = std::time::Instant::now();
        while place.files().iter().filter(|path| path.extension().unwrap() == "page").count() < 3 {
            assert!(started.elapsed().as_secs() < 20, "three pages were used twice: {:?}", place.files());
            std::thread::yield_now();
        }
        assert_eq!(engine.generate(request(200, 1, None)).unwrap().usage.cached_tokens, 199);
        assert_eq!(place.files().len(), 3, "those used once wait for the end");
        drop(engine);
        assert!(place.files().len() > 3);
    }
}
