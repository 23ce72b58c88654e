//! A GGUF file: its header, every value and tensor, the tokenizer inside, and the model.
#![no_main]

use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_model::convert::importance::Importance;
use hearth_model::files::{GgufFile, vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("hearth-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, bytes).expect("the temporary folder takes files");
    if let Ok(file) = GgufFile::open(&path) {
        for key in file.keys() {
            let _ = format!("{:?}", file.value(key));
        }
        for info in file.tensors() {
            let _ = file.tensor(&info.name).map(|view| view.to_f32());
        }
        let _ = vocabulary::card(&file);
        if let Ok(vocabulary) = vocabulary::vocabulary(&file) {
            let _ = hearth_tokenizer::Tokenizer::from_parts(vocabulary);
        }
    }
    let _ = Importance::open(&path);
    let _ = Model::open(&path, &Pool::new(1));
});
