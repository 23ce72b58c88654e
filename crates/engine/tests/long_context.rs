//! However keys and values are kept, and however few of them are looked at: company, threads, chunks, caches and
//! guesses change no bit of an answer.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_engine::{Completion, Engine, EngineConfig, Request, Speculation, Stream, score};
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_tensor::graph::{KvOptions, KvType};
    use hearth_testkit::{Scratch, TINY, TinyModel};
    use hearth_tokenizer::TokenId;

    const CONFIG: EngineConfig =
        EngineConfig { max_batch: 8, prefill_chunk: 256, prefix_cache_bytes: 0, ..EngineConfig::new(4096) };

    fn model(kv: KvOptions) -> Arc<Model> {
        let folder = Scratch::new("long-context").unwrap();
        // Three query heads on a key head: a group that doesn't fill four lanes.
        let shape = TinyModel { num_heads: 6, num_kv_heads: 2, hidden_size: 96, ..TINY };
        shape.write(&folder).unwrap();
        let mut model = Model::open(&folder, &Pool::new(1)).unwrap();
        model.decoder.kv = kv;
        Arc::new(model)
    }

    /// Every type whole, and every type with three pages at most where there are ten.
    fn all_options() -> impl Iterator<Item = KvOptions> {
        let options = |kv_type| [None, Some(3)].map(|sparse_pages| KvOptions { kv_type, sparse_pages });
        KvType::ALL.into_iter().flat_map(options)
    }

    fn prompt(len: usize, seed: u32) -> Vec<TokenId> {
        (0..len as u32).map(|i| 33 + (i * i + 7 * i * seed + 31 * seed) % 89).collect()
    }

    /// The last one repeats itself, so that guesses are made; with some rejected, pages are written twice.
    fn requests() -> Vec<Request> {
        let repeated = prompt(40, 5).repeat(8);
        let prompts = [prompt(600, 1), prompt(630, 2), prompt(1, 3), prompt(257, 4), repeated];
        let one = |prompt| Request { logprobs: Some(2), ..Request::greedy(prompt, 40, Vec::new()) };
        prompts.map(one).into()
    }

    fn engine(model: &Arc<Model>, threads: usize, config: EngineConfig) -> Engine {
        Engine::start(Arc::clone(model), Arc::new(Pool::new(threads)), config)
    }

    fn alone(engine: &Engine) -> Vec<Completion> {
        requests().into_iter().map(|request| engine.generate(request).unwrap()).collect()
    }

    fn together(engine: &Engine) -> Vec<Completion> {
        let streams: Vec<Stream> = requests().into_iter().map(|r| engine.submit(r).unwrap()).collect();
        streams.into_iter().map(|stream| stream.collect().unwrap()).collect()
    }

    fn check_same(what: &str, kv: KvOptions, left: &[Completion], right: &[Completion]) {
        assert_eq!(left.len(), right.len());
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert_eq!(left.tokens, right.tokens, "{what}, {kv:?}: request {index}");
        }
    }

    #[test]
    fn no_way_of_keeping_keys_breaks_the_laws() {
        for kv in all_options() {
            let model = model(kv);
            let expected = alone(&engine(&model, 1, CONFIG));
            check_same("together", kv, &expected, &together(&engine(&model, 2, CONFIG)));
            let small = EngineConfig { prefill_chunk: 37, ..CONFIG };
            check_same("chunks of 37, two threads", kv, &expected, &alone(&engine(&model, 2, small)));
            let caching = engine(&model, 2, EngineConfig { prefix_cache_bytes: 1 << 26, ..CONFIG });
            alone(&caching);
            let again = alone(&caching);
            assert!(again[0].usage.cached_tokens > 500, "{kv:?}: a prefix is reused");
            check_same("prefixes", kv, &expected, &again);
            let speculation = Speculation::PromptLookup { max_draft: 8 };
            let guessing =
                Engine::start_with(Arc::clone(&model), Arc::new(Pool::new(1)), CONFIG, speculation);
            let guessing = guessing.unwrap();
            check_same("guesses", kv, &expected, &alone(&guessing));
            assert!(guessing.computed().drafted_tokens > 0, "{kv:?}: nothing was guessed");
        }
    }

    #[test]
    fn enough_pages_give_the_bits_of_all_and_few_do_not() {
        let ids = prompt(700, 6);
        for kv_type in KvType::ALL {
            let scored = |sparse_pages| {
                let model = model(KvOptions { kv_type, sparse_pages });
                score::log_probs(&model.decoder, &Pool::new(2), &ids, 0).unwrap()
            };
            let dense = scored(None);
            assert_eq!(dense, scored(Some(11)), "{kv_type:?}");
            let few = scored(Some(3));
            // Rows up to the third page's end see three pages at most.
            assert_eq!(dense[..192], few[..192], "{kv_type:?}");
            assert_ne!(dense, few, "{kv_type:?}");
        }
    }
}
