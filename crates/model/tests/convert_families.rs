//! Conversion of every family and every kind of vocabulary: there and back with the same shape, the same weights, the
//! logits of transformers and the same ids; and what a GGUF file can't say, refused by its name.
//!
//! The models are those of `golden/families.json`, the vocabularies are made here.

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearth_artifacts::progress::Silent;
    use hearth_kernels::pool::Pool;
    use hearth_model::config::Family;
    use hearth_model::convert::{Encoding, Mix, Options, convert};
    use hearth_model::files::{GgufFile, SafetensorsFolder};
    use hearth_model::{Decoder, Model, ModelConfig};
    use hearth_testkit::Scratch;
    use hearth_tokenizer::Tokenizer;
    use serde_json::{Value, json};

    use super::golden::{Case, case, cases, exact, logits};

    /// What a GGUF file of the family has no key for; and why.
    const REFUSED: [(&str, &str); 6] = [
        ("qwen2-window", "this choice of layers with a sliding window can't be said"),
        ("qwen3_moe-dense", "a layer without experts among others"),
        ("qwen3_moe-step", "a layer without experts among others"),
        ("gemma2", "`query_pre_attn_scalar` 20, other than 16"),
        ("gemma3", "`query_pre_attn_scalar` 20, other than 16"),
        ("gemma3-types", "`query_pre_attn_scalar` 20, other than 16"),
    ];

    fn write(case: &Case, folder: &Path, tokenizer: &Value) {
        case.write(folder);
        fs_err::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    }

    fn open(path: &Path) -> Decoder {
        exact(Decoder::open(path, &Pool::new(1)).unwrap())
    }

    fn run(source: &Path, target: &Path) -> hearth_model::Result<()> {
        convert(source, target, &Options::default(), &Pool::new(2), &Silent).map(drop)
    }

    fn shape(folder: &Path) -> ModelConfig {
        ModelConfig::from_folder(&SafetensorsFolder::open(folder).unwrap()).unwrap()
    }

    #[track_caller]
    fn check_case(case: &Case) {
        let scratch = Scratch::new("convert-families").unwrap();
        let (folder, file, back) = (scratch.join("a"), scratch.join("b.gguf"), scratch.join("c"));
        write(case, &folder, &char_bpe());
        run(&folder, &file).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        case.check_logits(&open(&file));
        run(&file, &back).unwrap_or_else(|error| panic!("{}, back: {error}", case.name));
        let (before, after) = (shape(&folder), shape(&back));
        assert_eq!(ModelConfig { is_tied: after.is_tied, ..before }, after, "{}", case.name);
        let (before, after) =
            (SafetensorsFolder::open(&folder).unwrap(), SafetensorsFolder::open(&back).unwrap());
        assert_eq!(before.names().collect::<Vec<_>>(), after.names().collect::<Vec<_>>(), "{}", case.name);
        for name in before.names() {
            let (before, after) =
                (before.tensor(name).unwrap().to_f32(), after.tensor(name).unwrap().to_f32());
            // A norm goes by way of one more than it is, in f32.
            let bound = if name.ends_with("norm.weight") { 1.2e-7 } else { 0.0 };
            let differs = before.iter().zip(&after).any(|(a, b)| (a - b).abs() > bound);
            assert!(!differs && before.len() == after.len(), "{} {name}", case.name);
        }
        case.check_logits(&open(&back));
    }

    #[test]
    fn every_family_goes_to_gguf_and_back_with_the_logits_of_transformers() {
        let mut converted = Vec::new();
        for mut case in cases() {
            if let Some((_, expected)) = REFUSED.iter().find(|(name, _)| *name == case.name) {
                let scratch = Scratch::new("convert-families").unwrap();
                let folder = scratch.join("a");
                write(&case, &folder, &char_bpe());
                let message = run(&folder, &scratch.join("b.gguf")).unwrap_err().to_string();
                assert!(message.contains(expected), "{}: {message}", case.name);
                if !case.name.starts_with("gemma") {
                    continue;
                }
                // With a scale that GGUF files imply, Gemma's tensors go there and back as well.
                case.config["query_pre_attn_scalar"] = case.config["head_dim"].clone();
                case.sequences.clear();
            }
            check_case(&case);
            converted.push(case.config["model_type"].as_str().unwrap_or_default().to_owned());
        }
        for family in Family::ALL {
            let name = serde_json::to_value(family).unwrap();
            let of_family = |model_type: &String| model_type.trim_end_matches("_text") == name;
            assert!(converted.iter().any(of_family), "{family:?} isn't among {converted:?}");
        }
    }

    #[test]
    fn gemma_is_the_same_to_the_bit_in_either_kind_of_file() {
        for mut case in cases().into_iter().filter(|case| case.name.starts_with("gemma")) {
            let scratch = Scratch::new("convert-families").unwrap();
            let (folder, file) = (scratch.join("a"), scratch.join("b.gguf"));
            case.config["query_pre_attn_scalar"] = case.config["head_dim"].clone();
            write(&case, &folder, &char_bpe());
            run(&folder, &file).unwrap();
            let ids: Vec<u32> = (0..60).map(|id| id * 7 % 64).collect();
            assert_eq!(logits(&open(&folder), &ids), logits(&open(&file), &ids), "{}", case.name);
        }
    }

    #[test]
    fn experts_are_quantised_one_by_one() {
        let mut case = case("mixtral");
        for (_, shape, ..) in &mut case.tensors {
            for size in shape.iter_mut().filter(|size| **size == 48) {
                *size = 64;
            }
        }
        case.config["intermediate_size"] = 64.into();
        let scratch = Scratch::new("convert-families").unwrap();
        let (folder, file) = (scratch.join("a"), scratch.join("b.gguf"));
        write(&case, &folder, &char_bpe());
        let options = Options { encoding: Encoding::Mix(Mix::Q8_0), ..Options::default() };
        let summary = convert(&folder, &file, &options, &Pool::new(2), &Silent).unwrap();
        let down = summary.tensors.iter().find(|tensor| tensor.name == "blk.0.ffn_down_exps.weight").unwrap();
        assert!(!down.to.is_dense() && down.relative_error > 0.0 && down.relative_error < 0.01, "{down:?}");
        let (folder, file) = (SafetensorsFolder::open(&folder).unwrap(), GgufFile::open(&file).unwrap());
        let all = file.tensor(&down.name).unwrap();
        assert_eq!(all.shape, [5, 32, 64]);
        for (expert, after) in all.to_f32().chunks_exact(32 * 64).enumerate() {
            let name = format!("model.layers.0.block_sparse_moe.experts.{expert}.w2.weight");
            let before = folder.tensor(&name).unwrap().to_f32();
            // A step of eight bits is a 127th of the largest weight of its block.
            let step = before.iter().fold(0.0f32, |most, weight| most.max(weight.abs())) / 127.0;
            assert!(before.iter().zip(after).all(|(a, b)| (a - b).abs() <= 0.6 * step), "expert {expert}");
        }
    }

    const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz.,";

    /// `<unk>`, `<s>`, `</s>`, `▁`, letters, and a few words that merges make: 64 tokens at most.
    fn words() -> Vec<String> {
        let letters = ALPHABET.chars().map(String::from);
        let words = ["th", "the", "▁the", "in", "an", "and", "▁and", "▁a", "in.", "ki", "il", "kil", "kiln"];
        ["<unk>", "<s>", "</s>", "▁"]
            .map(str::to_owned)
            .into_iter()
            .chain(letters)
            .chain(words.map(str::to_owned))
            .collect()
    }

    fn added() -> Value {
        let token = |(id, content): (usize, &str)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        };
        ["<unk>", "<s>", "</s>"].into_iter().enumerate().map(token).collect()
    }

    fn vocab() -> Value {
        words()
            .into_iter()
            .enumerate()
            .map(|(id, word)| (word, json!(id)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Every pair of tokens that spells a token, by token: what `SentencePiece` implies.
    fn char_bpe() -> Value {
        let words = words();
        let mut merges = Vec::new();
        for word in &words[32..] {
            for (at, _) in word.char_indices().skip(1) {
                let (left, right) = word.split_at(at);
                if words[3..].iter().any(|word| word == left) && words[3..].iter().any(|word| word == right) {
                    merges.push(json!([left, right]));
                }
            }
        }
        let mark = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        json!({
            "version": "1.0", "added_tokens": added(), "pre_tokenizer": null, "decoder": null,
            "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, mark] },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
            },
            "model": {
                "type": "BPE", "unk_token": "<unk>", "fuse_unk": false, "byte_fallback": false, "vocab": vocab(),
                "merges": merges,
            },
        })
    }

    fn unigram() -> Value {
        let scores =
            words().into_iter().enumerate().map(|(id, word)| json!([word, -2.0 - 0.125 * id as f32]));
        json!({
            "version": "1.0", "added_tokens": added(), "decoder": null, "post_processor": null,
            "normalizer": { "type": "Sequence", "normalizers": [
                // A map of one empty node and no replacements.
                { "type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA=" },
                { "type": "Strip", "strip_left": true, "strip_right": true },
                { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " },
            ] },
            "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
            "model": { "type": "Unigram", "unk_id": 0, "vocab": scores.collect::<Vec<_>>(), "byte_fallback": false },
        })
    }

    fn word_piece() -> Value {
        let words = words().into_iter().enumerate().map(|(id, word)| match word.strip_prefix('▁') {
            Some("") => ("-".to_owned(), json!(id)),
            Some(start) => (start.to_owned() + "x", json!(id)),
            None if id < 3 => (word, json!(id)),
            None if word.len() == 1 && id % 2 == 0 => (word, json!(id)),
            None => (format!("##{word}"), json!(id)),
        });
        json!({
            "version": "1.0", "added_tokens": added(), "decoder": null, "post_processor": null,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "model": {
                "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": words.collect::<serde_json::Map<_, _>>(),
            },
        })
    }

    /// Goes by way of a GGUF file, and holds the ids of all three against each other.
    #[track_caller]
    fn check_tokenizer(kind: &str, tokenizer: &Value) {
        let case = case("mistral");
        let scratch = Scratch::new("convert-families").unwrap();
        let (folder, file, back) = (scratch.join("a"), scratch.join("b.gguf"), scratch.join("c"));
        write(&case, &folder, tokenizer);
        run(&folder, &file).unwrap_or_else(|error| panic!("{kind}: {error}"));
        run(&file, &back).unwrap_or_else(|error| panic!("{kind}, back: {error}"));
        let first = Tokenizer::from_json(tokenizer.to_string().as_bytes()).unwrap();
        let others = [&file, &back].map(|path| Model::open(path, &Pool::new(1)).unwrap());
        let mut distinct = std::collections::BTreeSet::new();
        for text in ["", "the kiln", "and in the kilnin. an ", "  a  b", "zebra, the", "é中", "in.in."] {
            let expected = first.wrap(&first.encode(text));
            for model in &others {
                let tokenizer = model.tokenizer();
                assert_eq!(tokenizer.wrap(&tokenizer.encode(text)), expected, "{kind} {text:?}");
            }
            distinct.extend(expected);
        }
        assert!(distinct.len() > 5, "{kind}: {distinct:?}");
    }

    #[test]
    fn every_kind_of_vocabulary_goes_there_and_back_with_the_same_ids() {
        check_tokenizer("SentencePiece BPE", &char_bpe());
        check_tokenizer("Unigram", &unigram());
        check_tokenizer("WordPiece", &word_piece());
    }

    #[test]
    fn merges_that_no_score_stands_for_are_refused() {
        let check = |change: &dyn Fn(&mut Vec<Value>), expected: &str| {
            let mut tokenizer = char_bpe();
            change(tokenizer["model"]["merges"].as_array_mut().unwrap());
            let case = case("llama");
            let scratch = Scratch::new("convert-families").unwrap();
            let folder = scratch.join("a");
            write(&case, &folder, &tokenizer);
            let message = run(&folder, &scratch.join("b.gguf")).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(&|merges| drop(merges.remove(1)), "0 merges lead to `the`, but 1 pairs of tokens spell it");
        let apart = |merges: &mut Vec<Value>| {
            let at = merges.iter().position(|merge| *merge == json!(["k", "il"])).unwrap();
            let merge = merges.remove(at);
            merges.insert(0, merge);
        };
        check(&apart, "merges to `kil` don't stand together");
        check(&|merges| merges[0] = json!(["t", "q"]), "has a part or result that is no token");
    }
}
