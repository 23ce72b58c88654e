//! The tiny model is a model: it opens, its tokenizer round-trips, its template is used.

#[cfg(test)]
mod tests {
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Family, Scratch, TINY, TinyModel};

    #[test]
    fn every_family_opens_and_encodes() {
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3Moe, Family::Gemma3] {
            let folder = Scratch::new("tiny-model").unwrap();
            TinyModel { family, ..TINY }.write(&folder).unwrap();
            let model = Model::open(&folder, &Pool::new(1)).unwrap();
            let tokenizer = model.tokenizer();
            for text in ["the thin tin and the rest", "炉边 🔥\u{1}", ""] {
                assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
            }
            assert_eq!(tokenizer.encode("then").len(), 2, "`the` is one token");
            let end_of_turn = tokenizer.token_to_id("<|im_end|>").unwrap();
            assert!(model.chat.stops().contains(&end_of_turn));
        }
    }

    #[test]
    fn both_families_open_as_gguf_with_the_same_tokenizer() {
        for family in [Family::Llama, Family::Qwen2] {
            let folder = Scratch::new("tiny-gguf").unwrap();
            let path = folder.join("tiny.gguf");
            let tiny = TinyModel { family, ..TINY };
            tiny.write_gguf(&path).unwrap();
            tiny.write(&folder.join("folder")).unwrap();
            let pool = Pool::new(1);
            let (file, hf) =
                (Model::open(&path, &pool).unwrap(), Model::open(&folder.join("folder"), &pool).unwrap());
            let text = "the thin tin, 12 rests 炉边";
            assert_eq!(file.tokenizer().encode(text), hf.tokenizer().encode(text));
            assert_eq!(file.chat.stops(), hf.chat.stops());
            assert_eq!(file.decoder.weight_bytes(), hf.decoder.weight_bytes());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let read = |seed: u64| {
            let folder = Scratch::new("tiny-model").unwrap();
            TinyModel { seed, ..TINY }.write(&folder).unwrap();
            fs_err::read(folder.join("model.safetensors")).unwrap()
        };
        assert_eq!(read(3), read(3));
        assert_ne!(read(3), read(4));
    }
}
