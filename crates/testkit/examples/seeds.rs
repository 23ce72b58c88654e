//! Writes what the fuzz targets start from: small whole files, a folder for each target.
//!
//! `cargo run -p hearth-testkit --example seeds -- fuzz/corpus`

use std::io;
use std::path::PathBuf;

use hearth_testkit::{Family, TINY, TinyModel};

/// As small as the layout allows: a fuzzer gets nowhere in megabytes.
const SEED: TinyModel = TinyModel {
    hidden_size: 32,
    num_layers: 1,
    num_heads: 2,
    num_kv_heads: 1,
    intermediate_size: 32,
    max_seq_len: 64,
    ..TINY
};

fn main() -> io::Result<()> {
    let corpus = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for target in ["gguf", "safetensors", "tokenizer_json", "chat_template"] {
        fs_err::create_dir_all(corpus.join(target))?;
    }
    for family in [Family::Llama, Family::Qwen2] {
        let model = TinyModel { family, ..SEED };
        model.write_gguf(&corpus.join(format!("gguf/{family:?}.gguf")))?;
        let folder = corpus.join(format!("{family:?}"));
        model.write(&folder)?;
        // The target's first byte says which file of a folder the rest is.
        for (which, file) in [(0, "model.safetensors"), (2, "config.json")] {
            let bytes = [&[which], fs_err::read(folder.join(file))?.as_slice()].concat();
            fs_err::write(corpus.join(format!("safetensors/{family:?}-{which}")), bytes)?;
        }
        fs_err::rename(folder.join("tokenizer.json"), corpus.join(format!("tokenizer_json/{family:?}")))?;
        fs_err::rename(folder.join("chat_template.jinja"), corpus.join(format!("chat_template/{family:?}")))?;
        fs_err::remove_dir_all(folder)?;
    }
    let index = [&[1], br#"{"weight_map":{"w":"model.safetensors"}}"#.as_slice()].concat();
    fs_err::write(corpus.join("safetensors/index"), index)
}
