//! Guessing ahead changes the speed and not one bit of any answer.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_engine::{
        Completion, Constraint, Dry, Engine, EngineConfig, Error, Mirostat, Request, Sampling, Speculation,
    };
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Scratch, TINY, TinyModel};
    use hearth_tokenizer::TokenId;

    const CONFIG: EngineConfig = EngineConfig {
        max_batch: 8,
        prefill_chunk: 32,
        prefix_cache_bytes: 1 << 22,
        ..EngineConfig::new(300)
    };

    fn model(seed: u64) -> Arc<Model> {
        let folder = Scratch::new("speculation").unwrap();
        TinyModel { seed, ..TINY }.write(&folder).unwrap();
        Arc::new(Model::open(&folder, &Pool::new(1)).unwrap())
    }

    /// A prompt whose end repeats its beginning.
    fn prompt(seed: u32) -> Vec<TokenId> {
        let line: Vec<TokenId> = (0..17).map(|i| 33 + (i * i + 3 * seed) % 40).collect();
        [line.clone(), vec![33 + seed; 3], line.clone(), line[..9].to_vec()].concat()
    }

    /// Greedy, drawn with every kind of state, under a constraint, ended by stops and by the context's end.
    fn requests(model: &Arc<Model>) -> Vec<Request> {
        let drawn = |temperature, seed| Sampling { temperature, seed, ..Sampling::greedy() };
        let samplings = [
            Sampling::greedy(),
            // Hardly ever anything but the best token, so that guesses are right.
            drawn(0.05, 4),
            drawn(1.5, 5),
            Sampling { repetition_penalty: 1.1, ..Sampling::greedy() },
            Sampling { frequency_penalty: 0.2, ..drawn(0.3, 6) },
            Sampling { dry: Some(Dry::with_multiplier(1.0)), ..Sampling::greedy() },
            Sampling { mirostat: Some(Mirostat { tau: 1.0, eta: 0.3 }), ..drawn(0.7, 7) },
        ];
        let one = |(seed, sampling): (u32, &Sampling)| Request {
            sampling: sampling.clone(),
            logprobs: Some(2),
            ..Request::greedy(prompt(seed), 120, Vec::new())
        };
        let mut requests: Vec<Request> = (1..).zip(&samplings).map(one).collect();
        requests.push(Request { max_tokens: 1000, ..requests[0].clone() });
        requests.push(Request { max_tokens: 1, ..requests[0].clone() });
        requests
            .push(Request { constraint: Some(Constraint::Regex("(ab|cd)*".into())), ..requests[1].clone() });
        let engine = Engine::start(Arc::clone(model), Arc::new(Pool::new(1)), CONFIG);
        let whole = engine.generate(requests[0].clone()).unwrap();
        requests.push(Request { stop: vec![whole.text[60..64].into()], ..requests[0].clone() });
        requests.push(Request { stop_ids: vec![whole.tokens[70].id], ..requests[0].clone() });
        requests
    }

    fn one_by_one(engine: &Engine, requests: &[Request]) -> Vec<Completion> {
        requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect()
    }

    fn submit_all(engine: &Engine, requests: &[Request]) -> Vec<Completion> {
        let streams: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).unwrap()).collect();
        streams.into_iter().map(|stream| stream.collect().unwrap()).collect()
    }

    fn check_same(what: &str, left: &[Completion], right: &[Completion]) {
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert_eq!(left.tokens, right.tokens, "{what}: request {index}");
            assert_eq!((&left.text, left.finish), (&right.text, right.finish), "{what}: request {index}");
            assert_eq!(left.usage.completion_tokens, right.usage.completion_tokens);
        }
    }

    #[test]
    fn no_guess_changes_a_bit() {
        let target = model(1);
        let requests = requests(&target);
        let start = |speculation| {
            Engine::start_with(Arc::clone(&target), Arc::new(Pool::new(2)), CONFIG, speculation).unwrap()
        };
        let plain = one_by_one(&start(Speculation::Off), &requests);
        assert!(plain.iter().map(|c| c.tokens.len()).sum::<usize>() > 600);
        let ways = [
            ("prompt lookup", Speculation::PromptLookup { max_draft: 8 }),
            ("one guess", Speculation::PromptLookup { max_draft: 1 }),
            ("another model's guesses", Speculation::Draft { model: model(2), max_draft: 5 }),
            ("its own guesses", Speculation::Draft { model: Arc::clone(&target), max_draft: 6 }),
        ];
        for (what, speculation) in ways {
            let engine = start(speculation.clone());
            check_same(what, &plain, &one_by_one(&engine, &requests));
            let computed = engine.computed();
            assert!(computed.drafted_tokens > 20, "{what}: {computed:?}");
            if what == "its own guesses" {
                assert!(computed.accepted_tokens * 10 > computed.drafted_tokens * 3, "{what}: {computed:?}");
            }
            assert!(computed.accepted_tokens < computed.drafted_tokens, "{what}: some are wrong");
            check_same(what, &plain, &submit_all(&start(speculation), &requests));
        }
    }

    #[test]
    fn what_is_kept_of_a_guessed_sequence_serves_the_next() {
        let target = model(1);
        let speculation = Speculation::Draft { model: Arc::clone(&target), max_draft: 6 };
        let engine =
            Engine::start_with(Arc::clone(&target), Arc::new(Pool::new(1)), CONFIG, speculation).unwrap();
        let first = engine.generate(Request::greedy(prompt(1), 50, Vec::new())).unwrap();
        let ids: Vec<TokenId> = first.tokens.iter().map(|token| token.id).collect();
        let all = [prompt(1), ids].concat();
        let request = Request { logprobs: Some(0), ..Request::greedy(all, 50, Vec::new()) };
        let next = engine.generate(request.clone()).unwrap();
        assert!(next.usage.cached_tokens >= request.prompt.len() - 2, "{:?}", next.usage);
        let fresh = Engine::start(Arc::clone(&target), Arc::new(Pool::new(1)), CONFIG);
        assert_eq!(fresh.generate(request).unwrap().tokens, next.tokens);
    }

    #[test]
    fn choices_may_be_guessed_too() {
        let target = model(1);
        let sampling = Sampling { temperature: 0.2, seed: 9, ..Sampling::greedy() };
        let request = Request { sampling, ..Request::greedy(prompt(2), 60, Vec::new()) };
        let run = |speculation| {
            let engine = Engine::start_with(Arc::clone(&target), Arc::new(Pool::new(1)), CONFIG, speculation);
            let stream = engine.unwrap().submit_choices(request.clone(), 4).unwrap();
            stream.collect_choices().unwrap()
        };
        check_same("choices", &run(Speculation::Off), &run(Speculation::PromptLookup { max_draft: 8 }));
    }

    #[test]
    fn a_draft_model_with_another_vocabulary_is_refused() {
        let target = model(1);
        let folder = Scratch::new("other-vocabulary").unwrap();
        TINY.write(&folder).unwrap();
        let path = folder.join("tokenizer.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("<|im_end|>", "<|ende|>")).unwrap();
        let other = Arc::new(Model::open(&folder, &Pool::new(1)).unwrap());
        let speculation = Speculation::Draft { model: other, max_draft: 4 };
        let refused = Engine::start_with(target, Arc::new(Pool::new(1)), CONFIG, speculation).err();
        let Some(Error::DraftVocabulary { id, draft, target }) = refused else { panic!("{refused:?}") };
        assert_eq!((id, draft.as_str(), target.as_str()), (265, "<|ende|>", "<|im_end|>"));
    }
}
