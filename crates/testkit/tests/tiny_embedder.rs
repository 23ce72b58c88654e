//! The tiny embedder is an embedder: it opens, tells texts apart and counts a character as a token.

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_kernels::pool::Pool;
    use hearth_model::encoder::Encoder;
    use hearth_testkit::{Scratch, tiny_embedder};

    #[test]
    fn texts_become_different_vectors_of_length_one() {
        let folder = Scratch::new("tiny-embedder").unwrap();
        let path = folder.join("tiny.bin");
        tiny_embedder(&path).unwrap();
        let encoder = Encoder::open(&path, Arc::new(Pool::new(1))).unwrap();
        assert_eq!(encoder.name(), "tiny");
        assert_eq!(encoder.count_tokens("the kiln") + 1, encoder.count_tokens("the kilns"));
        let texts = ["The kiln is hot.", "The pump is cold.", "炉子", ""];
        let vectors = encoder.embed_passages(&texts).unwrap().vectors;
        for (index, vector) in vectors.iter().enumerate() {
            let length: f32 = vector.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
            assert!(vectors[..index].iter().all(|other| other != vector), "{}", texts[index]);
        }
    }
}
