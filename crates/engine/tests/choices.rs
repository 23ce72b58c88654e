//! Several answers to one prompt: the prompt is computed once, each answer is what it would be alone.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_engine::{
        Completion, Dry, Engine, EngineConfig, Error, Event, Mirostat, Request, Sampling, Usage,
        sampling::choice_seed,
    };
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Scratch, TINY, TinyModel};
    use hearth_tokenizer::TokenId;

    const CONFIG: EngineConfig =
        EngineConfig { max_batch: 8, prefill_chunk: 64, prefix_cache_bytes: 0, ..EngineConfig::new(4096) };

    fn model(shape: &TinyModel) -> Arc<Model> {
        let folder = Scratch::new("choices").unwrap();
        shape.write(&folder).unwrap();
        Arc::new(Model::open(&folder, &Pool::new(1)).unwrap())
    }

    fn engine(model: &Arc<Model>, config: EngineConfig) -> Engine {
        Engine::start(Arc::clone(model), Arc::new(Pool::new(1)), config)
    }

    fn prompt(len: u32) -> Vec<TokenId> {
        (0..len).map(|i| 33 + (i * i + 5 * i) % 89).collect()
    }

    fn sampled(prompt: Vec<TokenId>, sampling: Sampling) -> Request {
        let sampling = Sampling { temperature: 1.3, ..sampling };
        Request { sampling, logprobs: Some(1), ..Request::greedy(prompt, 25, Vec::new()) }
    }

    fn tokens(completions: &[Completion]) -> Vec<Vec<TokenId>> {
        completions.iter().map(|c| c.tokens.iter().map(|token| token.id).collect()).collect()
    }

    #[test]
    fn the_prompt_is_computed_once_and_each_choice_is_what_its_seed_gives_alone() {
        let model = model(&TINY);
        // 1: nothing is shared but the first row of logits; 64 and 128: pages end where the prompt ends.
        for len in [1, 7, 64, 100, 128] {
            let request = sampled(prompt(len), Sampling { seed: 77, ..Sampling::greedy() });
            let together = engine(&model, CONFIG);
            let stream = together.submit_choices(request.clone(), 6).unwrap();
            let choices = stream.collect_choices().unwrap();
            assert_eq!(choices.len(), 6);
            // The last token of an answer is never computed.
            assert_eq!(together.computed().tokens, u64::from(len) + 6 * 24, "prompt of {len}");
            let usage = Usage::of_choices(choices.iter().map(|choice| &choice.usage));
            let (prompt_tokens, completion_tokens) = (len as usize, 6 * 25);
            assert_eq!(usage, Usage { prompt_tokens, cached_tokens: 0, completion_tokens });
            let alone = engine(&model, CONFIG);
            for (index, choice) in choices.iter().enumerate() {
                let mut request = request.clone();
                request.sampling.seed = choice_seed(77, index);
                let single = alone.generate(request).unwrap();
                assert_eq!(single.tokens, choice.tokens, "choice {index}, prompt of {len}");
            }
            let mut different = tokens(&choices);
            different.sort();
            different.dedup();
            assert_eq!(different.len(), 6);
        }
    }

    #[test]
    fn choices_keep_to_the_batch_and_others_go_on() {
        let model = model(&TINY);
        let engine = engine(&model, CONFIG);
        let request = sampled(prompt(40), Sampling::greedy());
        let too_many = engine.submit_choices(request.clone(), 9).err();
        assert_eq!(too_many, Some(Error::Count { name: "n", value: 9, most: 8 }));
        assert!(engine.submit_choices(request.clone(), 0).is_err());
        let streams: Vec<_> = (1..=8).map(|n| engine.submit_choices(request.clone(), n).unwrap()).collect();
        let answers: Vec<_> = streams.into_iter().map(|s| tokens(&s.collect_choices().unwrap())).collect();
        for (n, answers_of_n) in answers.iter().enumerate() {
            assert_eq!(answers_of_n[..], answers[7][..=n]);
        }
    }

    #[test]
    fn a_stream_says_whose_event_it_is() {
        let model = model(&TINY);
        let engine = engine(&model, CONFIG);
        let request = sampled(prompt(40), Sampling::greedy());
        let whole = engine.submit_choices(request.clone(), 3).unwrap().collect_choices().unwrap();
        let stream = engine.submit_choices(request, 3).unwrap();
        let mut texts = vec![String::new(); 3];
        let mut num_done = 0;
        while let Some((index, event)) = stream.next_of_choice() {
            match event {
                Event::Token(token) => texts[index].push_str(&token.text),
                Event::Done { text, .. } => {
                    texts[index].push_str(&text);
                    num_done += 1;
                }
                Event::Failed(error) => panic!("{error}"),
            }
        }
        assert_eq!(num_done, 3);
        assert_eq!(texts, whole.iter().map(|choice| choice.text.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn cancelled_choices_free_their_places_in_the_middle_of_the_prompt() {
        let model = model(&TinyModel { max_seq_len: 1 << 15, ..TINY });
        let config = EngineConfig { max_context: 1 << 15, prefill_chunk: 8, ..CONFIG };
        let engine = engine(&model, config);
        let long = engine.submit_choices(sampled(prompt(30_000), Sampling::greedy()), 8).unwrap();
        drop(long);
        let short = engine.submit_choices(sampled(prompt(4), Sampling::greedy()), 8).unwrap();
        assert_eq!(short.collect_choices().unwrap().len(), 8);
        assert!(engine.computed().tokens < 25_000);
    }

    #[test]
    fn every_sampler_gives_the_same_text_in_any_batch() {
        let model = model(&TINY);
        let base = Sampling { seed: 3, ..Sampling::greedy() };
        let samplings = [
            Sampling { typical_p: 0.7, ..base.clone() },
            Sampling { top_k: 30, top_p: 0.9, min_p: 0.02, ..base.clone() },
            Sampling { repetition_penalty: 1.4, ..base.clone() },
            Sampling { frequency_penalty: 1.2, presence_penalty: 0.5, ..base.clone() },
            Sampling { dry: Some(Dry::with_multiplier(2.0)), ..base.clone() },
            Sampling { mirostat: Some(Mirostat { tau: 2.0, eta: 0.2 }), ..base.clone() },
            Sampling { logit_bias: vec![(65, 5.0), (66, -100.0)], ..base.clone() },
            base,
        ];
        let requests: Vec<Request> =
            samplings.iter().map(|sampling| sampled(prompt(30), sampling.clone())).collect();
        let alone = engine(&model, EngineConfig { max_batch: 1, ..CONFIG });
        let alone: Vec<Completion> =
            requests.iter().map(|request| alone.generate(request.clone()).unwrap()).collect();
        let together = engine(&model, CONFIG);
        let streams: Vec<_> = requests.iter().map(|r| together.submit(r.clone()).unwrap()).collect();
        let together: Vec<Completion> = streams.into_iter().map(|s| s.collect().unwrap()).collect();
        assert_eq!(
            alone.iter().map(|c| &c.tokens).collect::<Vec<_>>(),
            together.iter().map(|c| &c.tokens).collect::<Vec<_>>()
        );
        let mut different = tokens(&alone);
        different.sort();
        different.dedup();
        assert!(different.len() >= alone.len() - 1, "nearly each sampler changes these 25 tokens");
        // Whatever penalties did, the log-probabilities are the model's own.
        for (completion, request) in alone.iter().zip(&requests) {
            let all = [request.prompt.clone(), tokens(std::slice::from_ref(completion)).remove(0)].concat();
            let pool = Pool::new(1);
            let scored =
                hearth_engine::score::log_probs(&model.decoder, &pool, &all, request.prompt.len() - 1);
            let own: Vec<f32> = completion.tokens.iter().map(|token| token.logprob.unwrap()).collect();
            assert_eq!(scored.unwrap(), own);
        }
    }

    #[test]
    fn bias_forbids_and_forces() {
        let model = model(&TINY);
        let engine = engine(&model, CONFIG);
        let free = engine.generate(Request::greedy(prompt(20), 10, Vec::new())).unwrap();
        let first = free.tokens[0].id;
        let biased = |logit_bias: Vec<(TokenId, f32)>| {
            let sampling = Sampling { logit_bias, ..Sampling::greedy() };
            engine.generate(Request { sampling, ..Request::greedy(prompt(20), 10, Vec::new()) })
        };
        let forbidden = biased(vec![(first, -100.0)]).unwrap();
        assert!(forbidden.tokens.iter().all(|token| token.id != first));
        let forced = biased(vec![(90, 100.0)]).unwrap();
        assert!(forced.tokens.iter().all(|token| token.id == 90));
        assert!(matches!(biased(vec![(99_999, 1.0)]), Err(Error::BiasedTokenId { id: 99_999, .. })));
    }
}
