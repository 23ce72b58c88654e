//! A folder whose weights, index or `config.json` is made up; the first byte says which.
#![no_main]

use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_model::files::SafetensorsFolder;
use libfuzzer_sys::fuzz_target;

const CONFIG: &[u8] = br#"{"model_type":"llama","vocab_size":4,"hidden_size":32,"num_hidden_layers":1,
"num_attention_heads":2,"intermediate_size":32,"max_position_embeddings":8,"rms_norm_eps":1e-6}"#;
const TOKENIZER: &[u8] = br#"{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let folder = std::env::temp_dir().join(format!("hearth-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("the temporary folder takes folders");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("it takes files");
    write("config.json", if which % 3 == 2 { bytes } else { CONFIG });
    write("tokenizer.json", TOKENIZER);
    match which % 3 {
        0 => write("model.safetensors", bytes),
        1 => write("model.safetensors.index.json", bytes),
        _ => write("model.safetensors", &[8, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 32, 32, 32, 32, 32, 32]),
    }
    if let Ok(open) = SafetensorsFolder::open(&folder) {
        for name in open.names() {
            let _ = open.tensor(name).map(|view| view.to_f32());
        }
    }
    let _ = Model::open(&folder, &Pool::new(1));
});
