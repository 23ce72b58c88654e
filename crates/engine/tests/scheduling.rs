//! What holds when many ask at once: turns, deadlines, a queue with an end, a memory budget that is never exceeded.

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use hearth_engine::{
        Completion, Engine, EngineConfig, Error, Event, Request, Sampling, Speculation, Stream,
    };
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_tensor::kv::KvCache;
    use hearth_testkit::{Scratch, TINY, TinyModel};
    use hearth_tokenizer::TokenId;

    fn model(max_seq_len: usize) -> Arc<Model> {
        let folder = Scratch::new("scheduling").unwrap();
        TinyModel { max_seq_len, ..TINY }.write(&folder).unwrap();
        Arc::new(Model::open(&folder, &Pool::new(1)).unwrap())
    }

    fn engine(model: &Arc<Model>, threads: usize, config: EngineConfig) -> Engine {
        Engine::start(Arc::clone(model), Arc::new(Pool::new(threads)), config)
    }

    fn page_bytes(model: &Model) -> usize {
        KvCache::new(model.decoder.page_layout()).page_bytes()
    }

    fn prompt(len: usize, seed: usize) -> Vec<TokenId> {
        (0..len).map(|i| (33 + (i * i + 7 * i * seed + 31 * seed) % 89) as TokenId).collect()
    }

    fn request(len: usize, seed: usize, max_tokens: usize) -> Request {
        let sampling = Sampling { temperature: 1.2, seed: seed as u64, ..Sampling::greedy() };
        Request { sampling, logprobs: Some(1), ..Request::greedy(prompt(len, seed), max_tokens, Vec::new()) }
    }

    fn of_client(client: &str, request: Request) -> Request {
        Request { client: Some(client.into()), ..request }
    }

    /// Lengths around the ends of pages; a third of them begin alike.
    fn mixed_load(count: usize) -> Vec<Request> {
        let load = |seed: usize| {
            let tail = request([3, 63, 64, 65, 130, 200][seed % 6], seed, 5 + seed * 7 % 60);
            match seed % 3 {
                0 => Request { prompt: [prompt(150, 1), tail.prompt.clone()].concat(), ..tail },
                _ => tail,
            }
        };
        (1..=count).map(load).collect()
    }

    fn one_by_one(engine: &Engine, requests: &[Request]) -> Vec<Completion> {
        requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect()
    }

    fn submit_all(engine: &Engine, requests: &[Request]) -> Vec<Stream> {
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect()
    }

    fn collect(streams: Vec<Stream>) -> Vec<Completion> {
        streams.into_iter().map(|stream| stream.collect().unwrap()).collect()
    }

    fn check_same(what: &str, left: &[Completion], right: &[Completion]) {
        assert_eq!(left.len(), right.len());
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert_eq!(left.tokens, right.tokens, "{what}: request {index}");
            assert_eq!((&left.text, left.finish), (&right.text, right.finish), "{what}: request {index}");
        }
    }

    #[test]
    fn a_small_budget_is_never_exceeded_and_pauses_change_no_bit() {
        let model = model(1024);
        let requests = mixed_load(24);
        let alone = one_by_one(&engine(&model, 1, EngineConfig::new(1024)), &requests);
        let page = page_bytes(&model);
        // The longest request may need 410 positions: 7 pages, and one that is copied.
        for (num_pages, guesses) in [(8, false), (11, true), (20, false)] {
            let speculation = match guesses {
                true => Speculation::PromptLookup { max_draft: 6 },
                false => Speculation::Off,
            };
            let config = EngineConfig {
                max_batch: 6,
                prefill_chunk: 48,
                prefix_cache_bytes: 1 << 30,
                kv_bytes: num_pages * page,
                ..EngineConfig::new(1024)
            };
            let engine =
                Engine::start_with(Arc::clone(&model), Arc::new(Pool::new(2)), config, speculation).unwrap();
            let together = collect(submit_all(&engine, &requests));
            check_same(&format!("{num_pages} pages"), &alone, &together);
            let (load, computed) = (engine.load(), engine.computed());
            assert!(load.peak_kv_bytes <= config.kv_bytes, "{load:?} of {num_pages} pages of {page} bytes");
            assert!(num_pages > 11 || computed.pauses > 0, "{num_pages} pages: {computed:?}");
            assert!(load.peak_kv_bytes + 2 * page > config.kv_bytes, "memory lay idle: {load:?}");
        }
    }

    #[test]
    fn what_can_never_fit_is_refused_with_numbers() {
        let model = model(1024);
        let page = page_bytes(&model);
        let engine = engine(&model, 1, EngineConfig { kv_bytes: 4 * page, ..EngineConfig::new(1024) });
        let refused = engine.submit(request(100, 1, 93)).err();
        let expected = Error::MemoryBudget { tokens: 193, needed_bytes: 5 * page, budget_bytes: 4 * page };
        assert_eq!(refused, Some(expected));
        assert_eq!(engine.generate(request(100, 1, 92)).unwrap().tokens.len(), 92);
        assert!(engine.load().peak_kv_bytes <= 4 * page);
    }

    #[test]
    fn many_threads_get_what_each_would_get_alone() {
        let model = model(1024);
        let requests = mixed_load(18);
        let alone = one_by_one(&engine(&model, 1, EngineConfig::new(1024)), &requests);
        let config = EngineConfig {
            prefix_cache_bytes: 12 * page_bytes(&model),
            kv_bytes: 30 * page_bytes(&model),
            ..EngineConfig::new(1024)
        };
        let engine = engine(&model, 2, config);
        let together: Vec<Completion> = std::thread::scope(|scope| {
            let ask = |request: &Request| {
                let request = request.clone();
                scope.spawn(|| engine.generate(request).unwrap())
            };
            let threads: Vec<_> = requests.iter().map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        check_same("threads", &alone, &together);
    }

    #[test]
    fn what_begins_alike_and_arrives_together_is_computed_once() {
        let model = model(1024);
        let common = prompt(400, 2);
        let requests: Vec<Request> = (0..6)
            .map(|seed| {
                let own = request(20, 10 + seed, 1);
                Request { prompt: [common.clone(), own.prompt.clone()].concat(), ..own }
            })
            .collect();
        let engine =
            engine(&model, 1, EngineConfig { prefix_cache_bytes: 1 << 24, ..EngineConfig::new(1024) });
        let answers = collect(submit_all(&engine, &requests));
        assert_eq!(answers.len(), 6);
        let computed = engine.computed();
        assert_eq!(computed.prompt_tokens, 420 + 5 * 20, "{computed:?}");
        assert_eq!(computed.tokens, computed.prompt_tokens, "one token each needs no further row");
        assert_eq!(computed.cached_tokens, 5 * 400);
    }

    #[test]
    fn a_flood_of_one_client_keeps_no_other_waiting() {
        let model = model(1024);
        let engine = engine(&model, 1, EngineConfig { max_batch: 2, ..EngineConfig::new(1024) });
        let flood: Vec<Request> = (0..40).map(|seed| of_client("flood", request(30, seed, 30))).collect();
        let flood = submit_all(&engine, &flood);
        for seed in 0..4 {
            engine.generate(of_client("other", request(30, 100 + seed, 30))).unwrap();
        }
        // Four turns of the other, each beside one or two of the flood.
        let waiting = engine.load().waiting_requests;
        assert!(waiting >= 20, "{waiting} of the flood still wait");
        assert_eq!(collect(flood).len(), 40, "nobody starves");
        assert_eq!(engine.load().waiting_requests, 0);
    }

    #[test]
    fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
        let model = model(1 << 16);
        let config = EngineConfig { max_batch: 1, max_queue_requests: 2, ..EngineConfig::new(1 << 16) };
        let engine = engine(&model, 1, config);
        let endless = engine.submit(request(5, 1, 60_000)).unwrap();
        assert!(matches!(endless.next_event(), Some(Event::Token(_))), "it runs, so it doesn't wait");
        let waiting = submit_all(&engine, &[request(5, 2, 3), request(5, 3, 3)]);
        let Some(Error::QueueFull { waiting_requests: 2, waiting_tokens: 10, retry_after_s }) =
            engine.submit(request(5, 4, 3)).err()
        else {
            panic!("a third request must not wait");
        };
        assert!((1..=600).contains(&retry_after_s));
        endless.canceller().cancel();
        assert_eq!(collect(waiting).len(), 2);
        assert!(engine.generate(request(5, 4, 3)).is_ok());
    }

    #[test]
    fn a_deadline_ends_a_request_that_waits_and_one_that_runs() {
        let model = model(1 << 16);
        let engine = engine(&model, 1, EngineConfig { max_batch: 1, ..EngineConfig::new(1 << 16) });
        let soon = || Some(Instant::now() + Duration::from_millis(150));
        let passed = Request { deadline: Some(Instant::now()), ..request(5, 1, 3) };
        assert_eq!(engine.submit(passed).err(), Some(Error::DeadlinePassed { generated_tokens: 0 }));
        let running = engine.submit(Request { deadline: soon(), ..request(5, 1, 60_000) }).unwrap();
        let waiting = engine.submit(Request { deadline: soon(), ..request(5, 2, 60_000) }).unwrap();
        let behind = engine.submit(request(5, 3, 4)).unwrap();
        let mut num_tokens = 0;
        let end = loop {
            match running.next_event().unwrap() {
                Event::Token(_) => num_tokens += 1,
                end => break end,
            }
        };
        assert_eq!(end, Event::Failed(Error::DeadlinePassed { generated_tokens: num_tokens }));
        assert!(num_tokens > 0);
        assert!(matches!(waiting.collect(), Err(Error::DeadlinePassed { .. })));
        assert_eq!(behind.collect().unwrap().tokens.len(), 4, "the others go on");
    }

    #[test]
    fn stopping_ends_every_stream_at_once() {
        let model = model(1 << 16);
        let engine = engine(&model, 1, EngineConfig { max_batch: 1, ..EngineConfig::new(1 << 16) });
        let streams = submit_all(&engine, &[request(5, 1, 60_000), request(5, 2, 60_000)]);
        engine.stop();
        for stream in streams {
            assert_eq!(stream.collect(), Err(Error::Stopped));
        }
        assert_eq!(engine.submit(request(5, 1, 3)).err(), Some(Error::Stopped));
    }

    #[test]
    fn a_request_that_wants_nothing_reused_is_computed_whole_to_the_same_bits() {
        let config = EngineConfig { prefix_cache_bytes: 1 << 24, ..EngineConfig::new(512) };
        let engine = engine(&model(512), 1, config);
        let first = engine.generate(request(200, 2, 9)).unwrap();
        let fresh = Request { reuses_prefix: false, ..request(200, 2, 9) };
        let fresh = engine.generate(fresh).unwrap();
        let known = engine.generate(request(200, 2, 9)).unwrap();
        assert_eq!((fresh.usage.cached_tokens, known.usage.cached_tokens), (0, 199));
        assert_eq!((&fresh.tokens, &known.tokens), (&first.tokens, &first.tokens));
    }

    #[test]
    fn an_echo_counts_and_refuses_like_an_engine_and_computes_nothing() {
        let model = model(256);
        let config = EngineConfig::new(256);
        let echo = Engine::start_echo(Arc::clone(&model), Arc::new(Pool::new(1)), config);
        let answer = echo.generate(request(5, 3, 12)).unwrap();
        let ids: Vec<TokenId> = answer.tokens.iter().map(|token| token.id).collect();
        let asked = prompt(5, 3);
        let expected: Vec<TokenId> = asked.iter().cycle().take(12).copied().collect();
        assert_eq!(ids, expected);
        assert_eq!(answer.text, model.tokenizer().decode(&expected));
        assert_eq!((answer.usage.prompt_tokens, answer.usage.completion_tokens), (5, 12));
        let computed = echo.computed();
        assert_eq!((computed.tokens, computed.prompt_tokens, computed.generated_tokens), (0, 5, 12));
        assert_eq!(echo.load().waiting_requests, 0);
        assert!(matches!(echo.generate(request(256, 3, 1)), Err(Error::ContextTooLong { .. })));
        echo.stop();
        assert_eq!(echo.generate(request(5, 3, 12)), Err(Error::Stopped));
    }
}
