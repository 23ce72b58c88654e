//! What holds for any request: company, threads, chunks and caches never change an answer's bits.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_engine::{
        Completion, Engine, EngineConfig, Error, Event, Finish, Request, Sampling, Stream, score,
    };
    use hearth_kernels::loss::log_prob_of;
    use hearth_kernels::pool::Pool;
    use hearth_model::{Adapter, LoraConfig, Model};
    use hearth_tensor::tape::{Keep, Tape};
    use hearth_tensor::tensor::Arena;
    use hearth_testkit::{Family, Scratch, TINY, TinyModel};
    use hearth_tokenizer::TokenId;

    const CONFIG: EngineConfig =
        EngineConfig { max_batch: 8, prefill_chunk: 256, prefix_cache_bytes: 0, ..EngineConfig::new(4096) };

    fn model(shape: &TinyModel) -> Arc<Model> {
        let folder = Scratch::new("laws").unwrap();
        shape.write(&folder).unwrap();
        Arc::new(Model::open(&folder, &Pool::new(1)).unwrap())
    }

    fn engine(model: &Arc<Model>, threads: usize, config: EngineConfig) -> Engine {
        Engine::start(Arc::clone(model), Arc::new(Pool::new(threads)), config)
    }

    /// Printable tokens in an order of the seed's own.
    fn prompt(len: usize, seed: u32) -> Vec<TokenId> {
        (0..len as u32).map(|i| 33 + (i * i + 7 * i * seed + 31 * seed) % 89).collect()
    }

    fn request(prompt: Vec<TokenId>, max_tokens: usize) -> Request {
        Request { logprobs: Some(3), ..Request::greedy(prompt, max_tokens, Vec::new()) }
    }

    /// Different lengths, so that sequences begin and end at different steps.
    fn requests() -> Vec<Request> {
        let lens = [1, 5, 17, 64, 65, 130, 300, 2];
        (1..).zip(lens).map(|(seed, len)| request(prompt(len, seed), 10 + seed as usize)).collect()
    }

    fn sampled(seed: u64) -> Request {
        let sampling = Sampling { temperature: 1.5, seed, ..Sampling::greedy() };
        Request { sampling, ..request(prompt(20, 9), 40) }
    }

    fn submit_all(engine: &Engine, requests: &[Request]) -> Vec<Completion> {
        let streams: Vec<Stream> = requests.iter().map(|r| engine.submit(r.clone()).unwrap()).collect();
        streams.into_iter().map(|stream| stream.collect().unwrap()).collect()
    }

    fn one_by_one(engine: &Engine, requests: &[Request]) -> Vec<Completion> {
        requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect()
    }

    fn ids(completion: &Completion) -> Vec<TokenId> {
        completion.tokens.iter().map(|token| token.id).collect()
    }

    fn bits(completion: &Completion) -> Vec<u32> {
        completion.tokens.iter().map(|token| token.logprob.unwrap().to_bits()).collect()
    }

    /// Equal but for what was reused: tokens, texts, alternatives, every log-probability to the bit.
    fn check_same(what: &str, left: &[Completion], right: &[Completion]) {
        assert_eq!(left.len(), right.len());
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert_eq!(ids(left), ids(right), "{what}: ids of request {index}");
            assert_eq!(bits(left), bits(right), "{what}: log-probabilities of request {index}");
            assert_eq!(left.tokens, right.tokens, "{what}: tokens of request {index}");
            assert_eq!((&left.text, left.finish), (&right.text, right.finish), "{what}: request {index}");
            let computed = |c: &Completion| (c.usage.prompt_tokens, c.usage.completion_tokens);
            assert_eq!(computed(left), computed(right), "{what}: usage of request {index}");
        }
    }

    #[test]
    fn company_threads_and_chunks_change_no_bit() {
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3Moe, Family::Gemma3] {
            let model = model(&TinyModel { family, ..TINY });
            let alone = one_by_one(&engine(&model, 1, CONFIG), &requests());
            assert_eq!(ids(&alone[3]).len(), 14);
            check_same("a batch of 8", &alone, &submit_all(&engine(&model, 1, CONFIG), &requests()));
            check_same("2 threads", &alone, &submit_all(&engine(&model, 2, CONFIG), &requests()));
            let small = EngineConfig { prefill_chunk: 3, ..CONFIG };
            check_same("chunks of 3", &alone, &one_by_one(&engine(&model, 1, small), &requests()));
            let narrow = EngineConfig { prefill_chunk: 3, max_batch: 3, ..CONFIG };
            check_same("a queue", &alone, &submit_all(&engine(&model, 2, narrow), &requests()));
        }
    }

    #[test]
    fn a_reused_prefix_changes_no_bit() {
        for family in [Family::Qwen2, Family::Gemma3] {
            check_reused_prefix(&model(&TinyModel { family, ..TINY }));
        }
    }

    fn check_reused_prefix(model: &Arc<Model>) {
        let long = prompt(300, 4);
        let followed = |tail: u32| request([long.clone(), prompt(20, tail)].concat(), 12);
        let requests = [request(long.clone(), 12), followed(1), followed(2), request(long.clone(), 12)];
        let without = one_by_one(&engine(model, 1, CONFIG), &requests);
        assert!(without.iter().all(|completion| completion.usage.cached_tokens == 0));
        let caching = EngineConfig { prefix_cache_bytes: 1 << 24, ..CONFIG };
        let with = one_by_one(&engine(model, 1, caching), &requests);
        check_same("prefix cache", &without, &with);
        let cached: Vec<usize> = with.iter().map(|completion| completion.usage.cached_tokens).collect();
        assert_eq!(cached, [0, 300, 300, 299], "the last prompt token is always computed");
        check_same("neighbours' prefixes", &without, &submit_all(&engine(model, 1, caching), &requests));
    }

    #[test]
    fn scoring_and_the_tape_give_the_log_probabilities_of_generation() {
        for family in [Family::Qwen2, Family::Qwen3Moe, Family::Gemma3] {
            check_scoring(&model(&TinyModel { family, ..TINY }));
        }
    }

    fn check_scoring(model: &Arc<Model>) {
        let pool = Pool::new(2);
        for request in requests() {
            let answer = engine(model, 1, CONFIG).generate(request.clone()).unwrap();
            let all = [request.prompt.clone(), ids(&answer)].concat();
            let from = request.prompt.len() - 1;
            let scored = score::log_probs(&model.decoder, &pool, &all, from).unwrap();
            let scored: Vec<u32> = scored.iter().map(|value| value.to_bits()).collect();
            assert_eq!(scored, bits(&answer), "score, prompt of {}", request.prompt.len());
            for keep in [Keep::Projections, Keep::Little] {
                let context = &all[..all.len() - 1];
                let mut tape = Tape::new(&pool, &Arena::default(), &[context.len()], keep);
                let wanted: Vec<usize> = (from..context.len()).collect();
                let logits = model.decoder.logits(&mut tape, context, &wanted);
                let taped: Vec<u32> = (0..wanted.len())
                    .map(|row| log_prob_of(logits.value().row(row), all[from + row + 1]).to_bits())
                    .collect();
                assert_eq!(taped, bits(&answer), "tape, prompt of {}", request.prompt.len());
            }
        }
    }

    #[test]
    fn a_seed_decides_what_is_drawn() {
        let model = model(&TINY);
        let requests = [sampled(1), sampled(2), sampled(1), request(prompt(20, 9), 40)];
        let alone = one_by_one(&engine(&model, 1, CONFIG), &requests);
        check_same("drawn in a batch", &alone, &submit_all(&engine(&model, 2, CONFIG), &requests));
        check_same("the same seed", &alone[..1], &alone[2..3]);
        assert_ne!(ids(&alone[0]), ids(&alone[1]));
        assert_ne!(ids(&alone[0]), ids(&alone[3]));
    }

    #[test]
    fn an_answer_ends_before_its_stop() {
        let model = model(&TINY);
        let engine = engine(&model, 1, CONFIG);
        let whole = engine.generate(request(prompt(20, 9), 40)).unwrap();
        assert_eq!((whole.finish, whole.tokens.len()), (Finish::Length, 40));
        assert!(whole.text.is_ascii() && whole.text.len() >= 40);
        for (from, len) in [(0, 1), (7, 1), (20, 5), (30, 9)] {
            let stop = whole.text[from..from + len].to_string();
            let never = "never generated".to_string();
            let expected = &whole.text[..whole.text.find(&stop).unwrap()];
            let stopped =
                Request { stop: vec![never, stop.clone(), String::new()], ..request(prompt(20, 9), 40) };
            let stopped = engine.generate(stopped).unwrap();
            assert_eq!((stopped.text.as_str(), stopped.finish), (expected, Finish::Stop), "{stop:?}");
        }
        let stop_id = whole.tokens[12].id;
        let first = whole.tokens.iter().position(|token| token.id == stop_id).unwrap();
        let stopped = Request { stop_ids: vec![stop_id], ..request(prompt(20, 9), 40) };
        let stopped = engine.generate(stopped).unwrap();
        assert_eq!((stopped.tokens.len(), stopped.finish), (first, Finish::Stop));
        assert_eq!(stopped.usage.completion_tokens, first + 1, "the stop token was computed too");
    }

    /// An adapter that does something: a fresh one has B zero.
    fn adapter(model: &Model) -> Adapter {
        let config = LoraConfig {
            r: 4,
            lora_alpha: 8.0,
            target_modules: vec!["q_proj".into(), "down_proj".into()],
            ..LoraConfig::default()
        };
        let mut adapter = Adapter::new(&model.decoder, config, 5).unwrap();
        for (index, param) in adapter.params_mut().enumerate().filter(|(index, _)| index % 2 == 1) {
            for (at, value) in Arc::make_mut(&mut param.data).iter_mut().enumerate() {
                *value = ((at * 13 + index * 7) % 17) as f32 / 40.0 - 0.2;
            }
        }
        adapter
    }

    #[test]
    fn an_adapter_touches_only_the_requests_that_name_it() {
        let model = model(&TINY);
        // With a prefix cache: keys and values of one decoder must never serve another.
        let engine = engine(&model, 1, EngineConfig { prefix_cache_bytes: 1 << 24, ..CONFIG });
        let adapted = Request { adapter: Some("terse".into()), ..request(prompt(80, 3), 10) };
        let unknown = engine.submit(adapted.clone()).err();
        assert_eq!(unknown, Some(Error::UnknownAdapter { name: "terse".into() }));
        let base = engine.generate(request(prompt(80, 3), 10)).unwrap();
        let adapter = adapter(&model);
        engine.add_adapter("terse", &adapter);
        let mixed: Vec<Request> =
            (0..6).map(|i| if i % 2 == 0 { adapted.clone() } else { request(prompt(80, 3), 10) }).collect();
        let answers = submit_all(&engine, &mixed);
        for (index, answer) in answers.iter().enumerate() {
            let reference = if index % 2 == 0 { &answers[0] } else { &base };
            check_same("mixed", std::slice::from_ref(reference), std::slice::from_ref(answer));
        }
        assert_ne!(bits(&answers[0])[0], bits(&base)[0]);
        let all = [adapted.prompt.clone(), ids(&answers[0])].concat();
        let scored =
            score::log_probs(&adapter.apply(&model.decoder), &Pool::new(1), &all, adapted.prompt.len() - 1);
        let scored: Vec<u32> = scored.unwrap().iter().map(|value| value.to_bits()).collect();
        assert_eq!(scored, bits(&answers[0]), "the adapter's own decoder says the same");
    }

    #[test]
    fn requests_that_cannot_run_are_refused_at_once() {
        let model = model(&TINY);
        let engine = engine(&model, 1, EngineConfig { max_context: 100, ..CONFIG });
        let refused = |request: Request| engine.submit(request).err();
        assert_eq!(refused(request(vec![], 1)), Some(Error::EmptyPrompt));
        let vocab_size = model.config().vocab_size;
        let id = vocab_size as TokenId;
        assert_eq!(refused(request(vec![1, id], 1)), Some(Error::TokenId { id, vocab_size }));
        let too_long = Error::ContextTooLong { prompt_tokens: 100, max_context: 100 };
        assert_eq!(refused(request(prompt(100, 1), 1)), Some(too_long));
        let full = engine.generate(request(prompt(90, 1), 50)).unwrap();
        assert_eq!((full.tokens.len(), full.finish), (10, Finish::Length), "the context ends the answer");
    }

    /// How many of the prompt's tokens the engine has computed and still knows.
    fn num_known(engine: &Engine, prompt: &[TokenId]) -> usize {
        engine.generate(Request::greedy(prompt.to_vec(), 0, Vec::new())).unwrap().usage.cached_tokens
    }

    #[test]
    fn a_stream_dropped_while_its_prompt_is_computed_frees_its_place() {
        // Thousands of steps' worth of prompt, so that the drop surely comes before the end.
        let model = model(&TinyModel { max_seq_len: 1 << 15, ..TINY });
        let config = EngineConfig {
            max_batch: 2,
            prefill_chunk: 8,
            prefix_cache_bytes: 1 << 28,
            ..EngineConfig::new(1 << 15)
        };
        let engine = engine(&model, 1, config);
        let [first, second] = [1, 2].map(|seed| prompt(30_000, seed));
        let running = engine.submit(request(first.clone(), 10)).unwrap();
        // A prompt of one token needs no share of the steps' prompt tokens: each token of it is a step of both.
        engine.generate(request(prompt(1, 7), 6)).unwrap();
        let waiting = engine.submit(request(second.clone(), 10)).unwrap();
        drop(running);
        drop(waiting);
        let short = engine.generate(request(prompt(4, 8), 6)).unwrap();
        assert_eq!(short.tokens.len(), 6);
        let known = num_known(&engine, &first);
        assert!((8..20_000).contains(&known), "{known} tokens of the first prompt were computed");
        assert!(num_known(&engine, &second) < 20_000);
    }

    #[test]
    fn a_cancelled_request_says_so_and_the_others_go_on() {
        let model = model(&TinyModel { max_seq_len: 1 << 20, ..TINY });
        let engine = engine(&model, 1, EngineConfig { max_context: 1 << 20, max_batch: 1, ..CONFIG });
        let endless = engine.submit(request(prompt(5, 1), 1_000_000)).unwrap();
        let behind = engine.submit(request(prompt(5, 2), 4)).unwrap();
        let never = engine.submit(request(prompt(5, 3), 4)).unwrap();
        assert!(matches!(endless.next_event(), Some(Event::Token(_))));
        never.canceller().cancel();
        assert_eq!(never.collect(), Err(Error::Cancelled), "while it waits for a place");
        endless.canceller().cancel();
        assert_eq!(endless.collect(), Err(Error::Cancelled));
        assert_eq!(behind.collect().unwrap().tokens.len(), 4);
    }
}
