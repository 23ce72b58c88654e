//! The tiny model is a model: it opens, its tokenizer round-trips, its template is used.

#[cfg(test)]
mod tests {
    use hearth_kernels::pool::Pool;
    use hearth_model::Model;
    use hearth_testkit::{Family, Scratch, TINY, TinyModel};

    #[test]
    fn both_families_open_and_encode() {
        for family in [Family::Llama, Family::Qwen2] {
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
