//! Fine-tuning a tiny model: it learns, stops for a reason, and a killed run goes on as if nothing had happened.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use hearth_artifacts::progress::{Event, Progress, Silent};
    use hearth_kernels::pool::Pool;
    use hearth_model::{Adapter, Decoder, LoraConfig, Model};
    use hearth_tensor::tape::{Keep, Tape};
    use hearth_tensor::tensor::Arena;
    use hearth_testkit::{Scratch, TINY, TinyModel};
    use hearth_tokenizer::Example;
    use hearth_train::sft::{self, Input};
    use hearth_train::{Checkpoints, Decay, Error, OnSpike, Output, Resume, SftConfig, metrics};

    const QUESTIONS: [&str; 8] = ["coal", "oak", "ash", "kiln", "soot", "log", "tongs", "flue"];
    /// Spelt without the merged tokens, whose rows in the tiny model's head are zero and stay so.
    const ANSWERS: [&str; 8] = ["box", "dry", "tray", "hot", "brush", "axe", "iron", "open"];

    /// A folder that holds the model and the checkpoints of runs on it.
    struct Bench {
        folder: Scratch,
        model: Model,
        pool: Pool,
    }

    impl Bench {
        fn new() -> Self {
            let folder = Scratch::new("sft").unwrap();
            TinyModel { max_seq_len: 64, ..TINY }.write(&folder.join("model")).unwrap();
            let pool = Pool::new(2);
            let model = Model::open(&folder.join("model"), &pool).unwrap();
            Self { folder, model, pool }
        }

        /// Question `i` with answer `i + shift`: the answer alone is learnt.
        fn pairs(&self, shift: usize) -> Vec<Example> {
            let encode = |text: &str| self.model.tokenizer().encode(text);
            let pair = |i: usize| {
                let question = encode(&format!("{}? ", QUESTIONS[i]));
                let answer = encode(ANSWERS[(i + shift) % 8]);
                let mask = [vec![false; question.len()], vec![true; answer.len()]].concat();
                Example { ids: [question, answer].concat(), mask, stops: Vec::new() }
            };
            (0..8).map(pair).collect()
        }

        fn input<'a>(&'a self, sets: [&'a [Example]; 2], checkpoint: &'a Path) -> Input<'a> {
            let [train, validation] = sets;
            let checkpoints =
                Checkpoints { folder: checkpoint, every_seconds: 30, keep: 2, resume: Resume::IfSame };
            Input {
                decoder: &self.model.decoder,
                train,
                validation,
                places: &[],
                checkpoints,
                metrics: None,
                on_spike: OnSpike::Stop,
                time_budget: None,
            }
        }

        fn refused(&self, sets: [&[Example]; 2]) -> Error {
            let checkpoint = self.folder.join("refused");
            let input = self.input(sets, &checkpoint);
            sft::run(&config(), &input, &self.pool, &Silent).unwrap_err()
        }

        /// The mean loss of all examples' answers in one forward pass.
        fn loss(&self, adapter: &Adapter, examples: &[Example]) -> f64 {
            let (mut ids, mut wanted, mut targets) = (Vec::new(), Vec::new(), Vec::new());
            for example in examples {
                for (&id, _) in example.ids.iter().zip(&example.mask).skip(1).filter(|&(_, &learn)| learn) {
                    targets.push(id);
                }
                wanted.extend((1..example.ids.len()).filter(|&i| example.mask[i]).map(|i| ids.len() + i - 1));
                ids.extend_from_slice(&example.ids);
            }
            let lens: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
            let mut tape = Tape::new(&self.pool, &Arena::default(), &lens, Keep::Little);
            let logits = adapter.apply(&self.model.decoder).logits(&mut tape, &ids, &wanted);
            tape.cross_entropy(logits, &targets, &vec![1.0; targets.len()])
        }

        fn logits(&self, decoder: &Decoder) -> Vec<u32> {
            let ids = self.model.tokenizer().encode("the kiln and the ash");
            let wanted: Vec<usize> = (0..ids.len()).collect();
            let mut tape = Tape::new(&self.pool, &Arena::default(), &[ids.len()], Keep::Little);
            let logits = decoder.logits(&mut tape, &ids, &wanted);
            logits.value().data().iter().map(|value| value.to_bits()).collect()
        }
    }

    fn lora() -> LoraConfig {
        let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        LoraConfig {
            r: 8,
            lora_alpha: 16.0,
            target_modules: names.map(String::from).to_vec(),
            ..LoraConfig::default()
        }
    }

    fn config() -> SftConfig {
        SftConfig {
            lora: lora(),
            seed: 3,
            max_steps: 60,
            batch_tokens: 48,
            micro_batch_tokens: 48,
            recompute: false,
            lr: 1e-2,
            schedule: Decay::Cosine,
            warmup_steps: 4,
            weight_decay: 0.01,
            max_gradient_norm: 1.0,
            neftune_alpha: None,
            validate_every: 10,
            patience: 3,
        }
    }

    /// Asks the run to stop once it has done so many steps.
    struct StopAt {
        step: u64,
        done: AtomicU64,
    }

    impl StopAt {
        fn new(step: u64) -> Self {
            Self { step, done: AtomicU64::new(0) }
        }
    }

    impl Progress for StopAt {
        fn event(&self, event: Event<'_>) {
            if let Event::Advance { done, .. } = event {
                self.done.store(done, Ordering::Relaxed);
            }
        }

        fn cancelled(&self) -> bool {
            self.done.load(Ordering::Relaxed) >= self.step
        }
    }

    fn bits(adapter: &Adapter) -> Vec<u32> {
        adapter.params().flat_map(|param| param.data.iter().map(|value| value.to_bits())).collect()
    }

    fn check_same(left: &Output, right: &Output) {
        assert_eq!(left.curve, right.curve);
        assert_eq!((left.steps, left.tokens), (right.steps, right.tokens));
        assert_eq!(left.stopped_early, right.stopped_early);
        assert_eq!(bits(&left.adapter), bits(&right.adapter), "the adapters differ");
    }

    #[test]
    fn eight_pairs_are_learnt_by_heart() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let checkpoint = bench.folder.join("checkpoint");
        let config = SftConfig { max_steps: 150, validate_every: 25, ..config() };
        let input = bench.input([&pairs, &pairs[..4]], &checkpoint);
        let output = sft::run(&config, &input, &bench.pool, &Silent).unwrap();
        assert_eq!((output.steps, output.stopped_early), (150, None), "{:?}", output.curve.validation);
        assert_eq!(output.curve.train.len(), 150);
        let steps: Vec<usize> = output.curve.validation.iter().map(|entry| entry.step).collect();
        assert_eq!(steps, [0, 25, 50, 75, 100, 125, 150]);
        let (first, last) = (output.curve.validation[0].loss, output.curve.validation[6].loss);
        assert!(first > 3.0, "a random model knows nothing, {first}");
        assert!(last < 0.5, "from {first} to {last}");
        assert!(output.curve.train[149].loss < 0.5, "{:?}", output.curve.train[149]);
        let lens = |examples: &[Example]| examples.iter().map(|e| e.ids.len()).sum::<usize>();
        assert!(output.tokens > lens(&pairs) * 10, "{} tokens", output.tokens);
    }

    #[test]
    fn a_stopped_run_goes_on_as_if_nothing_had_happened() {
        let bench = Bench::new();
        let (pairs, other) = (bench.pairs(0), bench.pairs(3));
        let config = SftConfig { max_steps: 16, validate_every: 3, patience: 100, ..config() };
        let folder = |name: &str| bench.folder.join(name);
        let run = |name: &str, pool: &Pool, progress: &dyn Progress| {
            let checkpoint = folder(name);
            sft::run(&config, &bench.input([&pairs, &other], &checkpoint), pool, progress)
        };
        let stop_at = |name: &str, step: u64| {
            let stopped = run(name, &bench.pool, &StopAt::new(step)).unwrap_err();
            assert!(matches!(stopped, Error::Cancelled { step: at } if at as u64 == step), "{stopped}");
        };
        let whole = run("whole", &bench.pool, &Silent).unwrap();
        assert_eq!(whole.steps, 16);

        for step in [0, 1, 7] {
            let name = format!("stopped at {step}");
            stop_at(&name, step);
            check_same(&whole, &run(&name, &bench.pool, &Silent).unwrap());
        }

        // Steps done after a checkpoint are lost with a kill, and done again.
        stop_at("killed", 4);
        stop_at("killed", 9);
        fs_err::remove_dir_all(folder("killed").join("step-9")).unwrap();
        // A kill while a checkpoint was written.
        fs_err::create_dir(folder("killed").join("step-10.1.partial")).unwrap();
        check_same(&whole, &run("killed", &bench.pool, &Silent).unwrap());
        assert!(!folder("killed").join("step-10.1.partial").exists());

        // A run that is over gives its result again, and one thread gives what two give.
        check_same(&whole, &run("whole", &bench.pool, &Silent).unwrap());
        check_same(&whole, &run("one thread", &Pool::new(1), &Silent).unwrap());
    }

    #[test]
    fn a_checkpoint_of_another_run_is_not_taken_up() {
        let bench = Bench::new();
        let (pairs, other) = (bench.pairs(0), bench.pairs(1));
        let config = SftConfig { max_steps: 4, ..config() };
        let (shared, fresh) = (bench.folder.join("shared"), bench.folder.join("fresh"));
        let run = |seed: u64, train: &[Example], checkpoint: &Path| {
            let config = SftConfig { seed, ..config.clone() };
            sft::run(&config, &bench.input([train, &pairs], checkpoint), &bench.pool, &Silent).unwrap()
        };
        let first = run(3, &pairs, &shared);
        let reseeded = run(4, &pairs, &shared);
        assert_ne!(bits(&first.adapter), bits(&reseeded.adapter));
        check_same(&run(4, &other, &shared), &run(4, &other, &fresh));
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_used_when_told_to() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let (folder, lines) = (bench.folder.join("checkpoints"), bench.folder.join("metrics.jsonl"));
        let run = |resume: Resume| {
            let mut input = bench.input([&pairs, &pairs], &folder);
            input.checkpoints = Checkpoints { every_seconds: 0, keep: 2, resume, ..input.checkpoints };
            input.metrics = Some(&lines);
            let config = SftConfig { max_steps: 6, validate_every: 3, neftune_alpha: Some(5.0), ..config() };
            sft::run(&config, &input, &bench.pool, &Silent)
        };
        let losses = || {
            let lines = metrics::read(&lines).unwrap();
            lines.into_iter().map(|line| (line.step, line.loss, line.validation_loss)).collect::<Vec<_>>()
        };
        let whole = run(Resume::Last).unwrap();
        let before = losses();
        assert_eq!(before.len(), 6 + 3);
        let names = ["checkpoint.json", "first_moments.bin", "state.json", "best/adapter_model.safetensors"];
        for name in names {
            let damaged = folder.join("step-6").join(name);
            let mut bytes = fs_err::read(&damaged).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs_err::write(&damaged, &bytes).unwrap();
            for resume in [Resume::Last, Resume::IfSame] {
                let error = run(resume).unwrap_err();
                let is_named = matches!(&error, Error::Checkpoint { path, previous: Some(5), .. } if *path == folder.join("step-6"));
                // A changed fingerprint is another run's.
                assert!(is_named, "{name}: {error}");
            }
            check_same(&whole, &run(Resume::Step(5)).unwrap());
            assert_eq!(losses(), before, "{name}");
        }
        let error = run(Resume::Step(2)).unwrap_err().to_string();
        assert!(error.contains("no checkpoint of step 2") && error.contains("5, 6"), "{error}");
    }

    #[test]
    fn micro_batches_change_sums_in_their_last_bits_only() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let run = |micro_batch_tokens: usize, recompute: bool| {
            let checkpoint = bench.folder.join(format!("micro-{micro_batch_tokens}-{recompute}"));
            let config =
                SftConfig { max_steps: 4, batch_tokens: 200, micro_batch_tokens, recompute, ..config() };
            sft::run(&config, &bench.input([&pairs, &pairs], &checkpoint), &bench.pool, &Silent).unwrap()
        };
        let whole = run(200, false);
        check_same(&whole, &run(200, true));
        let parts = run(1, false);
        for (a, b) in whole.curve.train.iter().zip(&parts.curve.train) {
            assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{a:?} {b:?}");
        }
    }

    #[test]
    fn noise_on_embeddings_changes_the_run_and_is_drawn_again_by_its_seed() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let run = |name: &str, neftune_alpha: Option<f32>| {
            let checkpoint = bench.folder.join(name);
            let config = SftConfig { max_steps: 4, neftune_alpha, ..config() };
            sft::run(&config, &bench.input([&pairs, &pairs], &checkpoint), &bench.pool, &Silent).unwrap()
        };
        let noised = run("noised", Some(5.0));
        check_same(&noised, &run("again", Some(5.0)));
        assert_ne!(noised.curve.train, run("plain", None).curve.train);
    }

    #[test]
    fn a_rate_that_explodes_ends_the_run_and_names_the_examples() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let checkpoint = bench.folder.join("exploding");
        let config = SftConfig { lr: 1e3, warmup_steps: 0, max_steps: 200, patience: 1000, ..config() };
        let input = bench.input([&pairs, &pairs], &checkpoint);
        let error = sft::run(&config, &input, &bench.pool, &Silent).unwrap_err();
        let (Error::Spike { suspects, step, .. }
        | Error::NotFinite { suspects, step, .. }
        | Error::Gradient { suspects, step, .. }) = &error
        else {
            panic!("{error}")
        };
        assert!(!suspects.is_empty() && error.to_string().contains("example "), "{error}");
        assert_eq!(input.checkpoints.steps().last(), Some(step), "the state before the bad step is kept");
    }

    #[test]
    fn every_variant_learns_and_opens_to_the_same_logits() {
        let bench = Bench::new();
        let decoder = &bench.model.decoder;
        let pairs = bench.pairs(0);
        let variants = [
            LoraConfig { use_rslora: true, ..lora() },
            LoraConfig { use_dora: true, ..lora() },
            LoraConfig { target_modules: vec!["all-linear".into()], ..lora() },
            LoraConfig { layers_to_transform: Some(vec![1]), use_dora: true, ..lora() },
        ];
        for (number, lora) in variants.into_iter().enumerate() {
            let fresh = Adapter::new(decoder, lora.clone(), 1).unwrap();
            if !lora.use_dora {
                assert_eq!(bench.logits(&fresh.apply(decoder)), bench.logits(decoder), "B is zero");
            }
            let config = SftConfig { lora, max_steps: 40, validate_every: 20, ..config() };
            let checkpoint = bench.folder.join(format!("variant-{number}"));
            let input = bench.input([&pairs, &pairs], &checkpoint);
            let output = sft::run(&config, &input, &bench.pool, &Silent).unwrap();
            let losses = &output.curve.validation;
            assert!(losses[2].loss < losses[0].loss * 0.7, "{losses:?}");
            let saved = bench.folder.join(format!("saved-{number}"));
            output.adapter.save(&saved).unwrap();
            let opened = Adapter::open(&saved, decoder).unwrap();
            let logits = bench.logits(&output.adapter.apply(decoder));
            assert_eq!(bench.logits(&opened.apply_on(&bench.pool, decoder)), logits);
        }
    }

    #[test]
    fn a_saved_adapter_opens_to_the_same_logits() {
        let bench = Bench::new();
        let decoder = &bench.model.decoder;
        let pairs = bench.pairs(0);
        let base = bench.logits(decoder);
        let fresh = Adapter::new(decoder, lora(), 1).unwrap();
        assert_eq!(bench.logits(&fresh.apply(decoder)), base, "B is zero: nothing changes");
        let config = SftConfig { max_steps: 5, validate_every: 5, ..config() };
        let checkpoint = bench.folder.join("checkpoint");
        let trained =
            sft::run(&config, &bench.input([&pairs, &pairs], &checkpoint), &bench.pool, &Silent).unwrap();
        let logits = bench.logits(&trained.adapter.apply(decoder));
        assert_ne!(logits, base);
        let saved = bench.folder.join("adapter");
        trained.adapter.save(&saved).unwrap();
        let opened = Adapter::open(&saved, decoder).unwrap();
        assert_eq!(opened.config, trained.adapter.config);
        assert_eq!(bench.logits(&opened.apply(decoder)), logits);
        assert_eq!(bench.logits(decoder), base, "the base model stays as it was");
    }

    #[test]
    fn a_run_ends_when_it_overfits_and_gives_the_best_adapter() {
        let bench = Bench::new();
        // What is learnt is wrong for the questions validated with.
        let (pairs, other) = (bench.pairs(0), bench.pairs(1));
        let config = SftConfig { max_steps: 500, validate_every: 5, patience: 2, ..config() };
        let checkpoint = bench.folder.join("checkpoint");
        let input = bench.input([&pairs, &other], &checkpoint);
        let output = sft::run(&config, &input, &bench.pool, &Silent).unwrap();
        assert!(output.steps < 500, "{:?}", output.curve.validation);
        assert!(output.stopped_early.as_ref().is_some_and(|why| why.contains("overfitting")));
        let losses = &output.curve.validation;
        let best = losses.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        let last = losses.last().unwrap();
        assert_eq!(last.step - best.step, 10, "two looks later");
        let measured = bench.loss(&output.adapter, &other);
        assert!((measured - best.loss).abs() < 1e-4, "{measured} for {}", best.loss);
        assert!((measured - last.loss).abs() > 1e-2, "the last adapter is another");
    }

    #[test]
    fn an_adapter_that_never_helped_is_not_handed_out() {
        let bench = Bench::new();
        let (pairs, other) = (bench.pairs(0), bench.pairs(1));
        // A step so large that the model is worse for it.
        let config = SftConfig { lr: 30.0, max_steps: 1, validate_every: 1, warmup_steps: 0, ..config() };
        let checkpoint = bench.folder.join("checkpoint");
        let input = bench.input([&pairs, &other], &checkpoint);
        let output = sft::run(&config, &input, &bench.pool, &Silent).unwrap();
        let losses = &output.curve.validation;
        assert!(losses[1..].iter().all(|entry| entry.loss > losses[0].loss), "{losses:?}");
        let decoder = &bench.model.decoder;
        assert_eq!(bench.logits(&output.adapter.apply(decoder)), bench.logits(decoder));
    }

    #[test]
    fn a_run_ends_with_its_time_budget() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let checkpoint = bench.folder.join("checkpoint");
        let input = bench.input([&pairs, &pairs], &checkpoint);
        let input = Input { time_budget: Some(Duration::ZERO), ..input };
        let output = sft::run(&config(), &input, &bench.pool, &Silent).unwrap();
        assert_eq!((output.steps, output.tokens), (0, 0));
        assert!(output.stopped_early.is_some_and(|why| why.contains("time budget")));
        assert_eq!(output.curve.validation.len(), 1);
    }

    #[test]
    fn sets_that_teach_nothing_are_refused() {
        let bench = Bench::new();
        let pairs = bench.pairs(0);
        let none: &[Example] = &[];
        for (sets, expected) in
            [([&pairs[..], none], (8, 0)), ([none, &pairs[..3]], (0, 3)), ([none, none], (0, 0))]
        {
            let error = bench.refused(sets);
            assert!(
                matches!(error, Error::NoExamples { train, validation } if (train, validation) == expected)
            );
        }
        let with = |index: usize, mask: &dyn Fn(usize) -> bool| {
            let mut pairs = pairs.clone();
            let len = pairs[index].ids.len();
            pairs[index].mask = (0..len).map(mask).collect();
            pairs
        };
        let all = with(2, &|_| true);
        assert!(
            matches!(bench.refused([&all, &pairs]), Error::Mask { example, value: true } if example == "example 2")
        );
        assert!(
            matches!(bench.refused([&pairs, &all]), Error::Mask { example, value: true } if example == "example 10")
        );
        let none = with(5, &|_| false);
        assert!(
            matches!(bench.refused([&none, &pairs]), Error::Mask { example, value: false } if example == "example 5")
        );
        // The first token is never predicted, so a mask of the first alone teaches nothing.
        let first = with(0, &|at| at == 0);
        assert!(
            matches!(bench.refused([&first, &pairs]), Error::Mask { example, value: false } if example == "example 0")
        );
        let long = Example { ids: vec![65; 65], mask: [vec![false], vec![true; 64]].concat(), stops: vec![] };
        let error = bench.refused([std::slice::from_ref(&long), &pairs]);
        assert!(matches!(error, Error::TooLong { num_tokens: 65, max_seq_len: 64, .. }), "{error}");
    }
}
