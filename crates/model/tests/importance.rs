//! Importance matrices: what is counted, and that what is written is read back.

#[cfg(test)]
#[expect(dead_code, reason = "what only other tests use")]
mod golden;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hearth_kernels::pool::Pool;
    use hearth_model::convert::importance::Importance;
    use hearth_model::convert::importance::collect::{Collector, Origin};
    use hearth_model::files::GgufFile;
    use hearth_model::{Decoder, Error};
    use hearth_testkit::Scratch;

    use super::golden::{case, cases};

    const IDS: [u32; 20] = [1, 5, 9, 2, 7, 7, 3, 11, 30, 4, 8, 15, 16, 23, 42, 6, 0, 12, 13, 14];

    /// Opens a case and counts over [`IDS`], twice; gives the decoder and the file's path.
    fn counted(name: &str, scratch: &Scratch) -> (Decoder, std::path::PathBuf) {
        case(name).write(&scratch.join("model"));
        let (pool, path) = (Pool::new(2), scratch.join("imatrix.gguf"));
        let decoder = Decoder::open(&scratch.join("model"), &pool).unwrap();
        let mut collector = Collector::new(&decoder);
        collector.add(&pool, &IDS).unwrap();
        collector.add(&pool, &IDS).unwrap();
        assert_eq!(collector.num_windows(), 2);
        collector.write(&path, Origin { dataset: "ids", window: IDS.len() }).unwrap();
        (decoder, path)
    }

    #[test]
    fn the_first_matrix_counts_the_squares_of_normed_embeddings() {
        let scratch = Scratch::new("importance").unwrap();
        let (decoder, path) = counted("llama", &scratch);
        let norm = &decoder.layers[0].attention_norm.data;
        let mut expected = vec![0.0_f64; norm.len()];
        let mut row = vec![0.0; norm.len()];
        for id in IDS {
            decoder.embedding.weight.row(id as usize, &mut row);
            let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (mean + f64::from(decoder.config.rms_norm_eps)).sqrt();
            for ((sum, x), weight) in expected.iter_mut().zip(&row).zip(norm.iter()) {
                *sum += (f64::from(*x) * scale * f64::from(*weight)).powi(2) / IDS.len() as f64;
            }
        }
        let importance = Importance::open(&path).unwrap();
        for name in ["q", "k", "v"] {
            let actual = importance.of(&format!("blk.0.attn_{name}.weight")).unwrap();
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(&expected) {
                assert!((f64::from(*actual) - expected).abs() < 1e-5 * expected, "{actual} vs. {expected}");
            }
        }
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.meta_str("general.type").unwrap(), "imatrix");
        assert_eq!(file.meta_u32("imatrix.chunk_count").unwrap(), 2);
        assert_eq!(file.meta_u32("imatrix.chunk_size").unwrap(), 20);
        assert_eq!(file.meta_strs("imatrix.datasets").unwrap(), ["ids"]);
        assert_eq!(file.require("blk.0.attn_q.weight.counts").unwrap().to_f32(), [40.0]);
        assert!(importance.of("token_embd.weight").is_none() && importance.of("output.weight").is_none());
    }

    #[test]
    fn each_expert_counts_the_rows_it_was_sent() {
        let scratch = Scratch::new("importance").unwrap();
        let (decoder, path) = counted("mixtral", &scratch);
        let experts = decoder.config.experts.unwrap();
        let file = GgufFile::open(&path).unwrap();
        for part in ["gate", "up", "down"] {
            let counts = file.require(&format!("blk.0.ffn_{part}_exps.weight.counts")).unwrap();
            assert_eq!(counts.shape, [experts.num_experts, 1]);
            let sent: u64 = counts.to_f32().iter().map(|count| *count as u64).sum();
            assert_eq!(sent, 40 * experts.routing.top_k as u64, "{part}");
        }
        let router = file.require("blk.0.ffn_gate_inp.weight.counts").unwrap();
        assert_eq!(router.to_f32(), [40.0]);
        let len = Importance::open(&path).unwrap().of("blk.0.ffn_down_exps.weight").unwrap().len();
        assert_eq!(len, experts.num_experts * experts.intermediate_size);
    }

    #[test]
    fn every_matrix_of_every_family_is_counted_by_the_name_it_has_in_a_file() {
        for case in cases() {
            let scratch = Scratch::new("importance").unwrap();
            let (_, path) = counted(&case.name, &scratch);
            let file = GgufFile::open(&path).unwrap();
            let names: BTreeSet<&str> =
                file.tensors().filter_map(|info| info.name.strip_suffix(".in_sum2")).collect();
            let fused = case.name.starts_with("phi3");
            let attention = if fused { "blk.1.attn_qkv.weight" } else { "blk.1.attn_v.weight" };
            assert!(names.contains(attention), "{}: {names:?}", case.name);
            assert!(names.contains("blk.1.attn_output.weight"), "{}: {names:?}", case.name);
            assert_eq!(names.len(), file.tensors().len() / 2, "{}", case.name);
            let counts = file.require(&format!("{attention}.counts")).unwrap().to_f32();
            assert_eq!(counts, [40.0], "{}: each row counts once", case.name);
        }
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_an_error() {
        let scratch = Scratch::new("importance").unwrap();
        case("llama").write(&scratch);
        let decoder = Decoder::open(&scratch, &Pool::new(1)).unwrap();
        let error = Collector::new(&decoder).add(&Pool::new(1), &[1, 4_000_000]).unwrap_err();
        assert!(matches!(error, Error::TokenId { id: 4_000_000, .. }), "{error}");
    }
}
