//! The tokenizer, the chat template and the description inside a GGUF file.
//!
//! In: an open file. Out: a [`Vocabulary`] for `hearth_tokenizer`, the template's source, names for people.
//! Keys follow `docs/gguf.md` of ggml (`tokenizer.ggml.*`, `general.*`). Left out: SentencePiece BPE
//! (`tokenizer.ggml.model` = `llama`) and `WordPiece` (`bert`), which the tokenizer doesn't know.

use hearth_tokenizer::normalizer::Charsmap;
use hearth_tokenizer::{Kind, Normalizer, TokenKind, Vocabulary};

use super::gguf::Value;
use super::{Error, GgufFile, Result};

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// `general.architecture`, the prefix of the keys that hold the model's shape.
    pub architecture: String,
    pub name: Option<String>,
    pub basename: Option<String>,
    pub size_label: Option<String>,
    pub license: Option<String>,
    pub languages: Vec<String>,
}

/// Reads `general.*`.
pub fn card(file: &GgufFile) -> Result<Card> {
    let text = |key| Ok::<_, Error>(file.find::<&str>(key)?.map(str::to_owned));
    let languages: Option<Vec<&str>> = file.find("general.languages")?;
    Ok(Card {
        architecture: file.meta_str("general.architecture")?.to_owned(),
        name: text("general.name")?,
        basename: text("general.basename")?,
        size_label: text("general.size_label")?,
        license: text("general.license")?,
        languages: languages.unwrap_or_default().into_iter().map(str::to_owned).collect(),
    })
}

/// The Jinja source of the model's own chat template.
pub fn chat_template(file: &GgufFile) -> Result<Option<&str>> {
    file.find("tokenizer.chat_template")
}

/// Reads `tokenizer.ggml.*`.
pub fn vocabulary(file: &GgufFile) -> Result<Vocabulary> {
    let kind = match file.meta_str("tokenizer.ggml.model")? {
        "gpt2" => Kind::ByteBpe,
        "t5" => Kind::Unigram,
        other => {
            return Err(Error::KeyType {
                path: file.path().into(),
                key: "tokenizer.ggml.model".into(),
                found: format!("`{other}`"),
                expected: "`gpt2` (byte-level BPE) or `t5` (Unigram)",
            });
        }
    };
    let tokens = file.meta_strs("tokenizer.ggml.tokens")?;
    let tokens: Vec<_> = tokens.into_iter().map(str::to_owned).collect();
    let num_tokens = tokens.len();
    let mut vocabulary = Vocabulary::new(kind, tokens);
    if kind == Kind::ByteBpe {
        vocabulary = vocabulary.with_merge_lines(&merges(file)?);
    } else {
        vocabulary.scores = file.meta_f32s("tokenizer.ggml.scores")?;
        check_len(file, "tokenizer.ggml.scores", vocabulary.scores.len(), num_tokens)?;
    }
    if let Some(numbers) = file.find::<Vec<i32>>("tokenizer.ggml.token_type")? {
        check_len(file, "tokenizer.ggml.token_type", numbers.len(), num_tokens)?;
        vocabulary.token_kinds = numbers.into_iter().map(TokenKind::from_gguf).collect();
    }
    if let Some(pre) = file.find::<&str>("tokenizer.ggml.pre")? {
        pre.clone_into(&mut vocabulary.pre);
    }
    let id = |key| token_id(file, key, num_tokens);
    vocabulary.bos = id("tokenizer.ggml.bos_token_id")?;
    vocabulary.eos = id("tokenizer.ggml.eos_token_id")?;
    vocabulary.unk = id("tokenizer.ggml.unknown_token_id")?;
    vocabulary.pad = id("tokenizer.ggml.padding_token_id")?;
    let flag = |key, default| Ok::<_, Error>(file.find(key)?.unwrap_or(default));
    vocabulary.add_bos = flag("tokenizer.ggml.add_bos_token", vocabulary.add_bos)?;
    vocabulary.add_eos = flag("tokenizer.ggml.add_eos_token", vocabulary.add_eos)?;
    let prefix = vocabulary.add_space_prefix;
    vocabulary.add_space_prefix = flag("tokenizer.ggml.add_space_prefix", prefix)?;
    vocabulary.normalizers = normalizers(file, &vocabulary)?;
    Ok(vocabulary)
}

/// GGUF names no normalisers for byte BPE: Qwen2's own tokenizer composes (NFC), the other families' don't.
fn normalizers(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Vec<Normalizer>> {
    if vocabulary.kind == Kind::ByteBpe {
        let is_qwen2 = vocabulary.pre == "qwen2";
        return Ok(is_qwen2.then_some(Normalizer::Nfc).into_iter().collect());
    }
    let mut normalizers = Vec::new();
    let key = "tokenizer.ggml.precompiled_charsmap";
    if let Some(Value::Array(blob)) = file.value(key) {
        // Writers differ in whether the bytes are signed.
        let bytes = blob.iter().map(|value| match value {
            Value::Integer(byte @ -128..=255) => Ok(byte as u8),
            _ => Err(malformed(file, key, "isn't bytes".into())),
        });
        let blob = bytes.collect::<Result<Vec<_>>>()?;
        let map = Charsmap::parse(&blob)
            .map_err(|error| malformed(file, key, format!("isn't a character map: {error}")))?;
        normalizers.push(Normalizer::Charsmap(map));
    }
    if file.find("tokenizer.ggml.remove_extra_whitespaces")? == Some(true) {
        normalizers.push(Normalizer::Strip { left: true, right: true });
        normalizers.push(Normalizer::CollapseSpaces);
    }
    Ok(normalizers)
}

fn merges(file: &GgufFile) -> Result<Vec<&str>> {
    let key = "tokenizer.ggml.merges";
    let merges = file.meta_strs(key)?;
    match merges.iter().find(|line| !line.contains(' ')) {
        Some(line) => Err(malformed(file, key, format!("holds `{line}`, which isn't two tokens"))),
        None => Ok(merges),
    }
}

fn token_id(file: &GgufFile, key: &str, num_tokens: usize) -> Result<Option<u32>> {
    match file.find::<u32>(key)? {
        Some(id) if id as usize >= num_tokens => {
            let problem = format!("is {id}, but there are {num_tokens} tokens");
            Err(malformed(file, key, problem))
        }
        id => Ok(id),
    }
}

fn check_len(file: &GgufFile, key: &str, len: usize, num_tokens: usize) -> Result<()> {
    if len == num_tokens {
        return Ok(());
    }
    let problem = format!("has {len} entries for {num_tokens} tokens");
    Err(malformed(file, key, problem))
}

fn malformed(file: &GgufFile, key: &str, problem: String) -> Error {
    Error::Malformed { path: file.path().into(), what: format!("metadata key `{key}`"), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::gguf::writer::GgufWriter;

    fn byte_bpe() -> GgufWriter {
        byte_bpe_of("smollm")
    }

    fn byte_bpe_of(pre: &str) -> GgufWriter {
        GgufWriter::default()
            .string("general.architecture", "llama")
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", pre)
            .strings("tokenizer.ggml.tokens", &["<end>", "a", "b", "ab"])
            .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1])
            .u32("tokenizer.ggml.eos_token_id", 0)
            .bool("tokenizer.ggml.add_bos_token", false)
    }

    fn open(writer: &GgufWriter) -> (tempfile::TempDir, GgufFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs_err::write(&path, writer.finish()).unwrap();
        let file = GgufFile::open(&path).unwrap();
        (folder, file)
    }

    #[test]
    fn a_vocabulary_comes_out_as_it_went_in() {
        let writer = byte_bpe()
            .strings("tokenizer.ggml.merges", &["a b"])
            .string("tokenizer.chat_template", "{{ messages }}")
            .strings("general.languages", &["en", "zh"]);
        let (_folder, file) = open(&writer);
        let found = vocabulary(&file).unwrap();
        assert_eq!(found.kind, Kind::ByteBpe);
        assert_eq!(found.tokens, ["<end>", "a", "b", "ab"]);
        assert_eq!(found.merges, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(found.token_kinds[..2], [TokenKind::Control, TokenKind::Normal]);
        assert_eq!((found.eos, found.bos, found.pre.as_str()), (Some(0), None, "smollm"));
        assert_eq!(chat_template(&file).unwrap(), Some("{{ messages }}"));
        let card = card(&file).unwrap();
        assert_eq!((card.architecture.as_str(), card.name), ("llama", None));
        assert_eq!(card.languages, ["en", "zh"]);
    }

    #[test]
    fn normalisers_are_those_of_the_family() {
        let merges = |pre| byte_bpe_of(pre).strings("tokenizer.ggml.merges", &["a b"]);
        let count = |writer: &GgufWriter| {
            let (_folder, file) = open(writer);
            vocabulary(&file).unwrap().normalizers.len()
        };
        assert_eq!((count(&merges("qwen2")), count(&merges("smollm"))), (1, 0));
        let unigram = GgufWriter::default()
            .string("tokenizer.ggml.model", "t5")
            .strings("tokenizer.ggml.tokens", &["a"])
            .f32s("tokenizer.ggml.scores", &[-1.0])
            .bool("tokenizer.ggml.remove_extra_whitespaces", true);
        assert_eq!(count(&unigram), 2);
        // A map of one empty trie node and no replacements.
        let map = [4, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(count(&unigram.clone().i32s("tokenizer.ggml.precompiled_charsmap", &map)), 3);
        check(
            &unigram.i32s("tokenizer.ggml.precompiled_charsmap", &[9]),
            "`tokenizer.ggml.precompiled_charsmap` isn't a character map",
        );
    }

    fn check(writer: &GgufWriter, expected: &str) {
        let (_folder, file) = open(writer);
        let message = vocabulary(&file).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn errors_name_the_key() {
        check(&byte_bpe(), "no metadata key `tokenizer.ggml.merges`");
        check(&byte_bpe().strings("tokenizer.ggml.merges", &["ab"]), "holds `ab`, which isn't two tokens");
        let merges = byte_bpe().strings("tokenizer.ggml.merges", &["a b"]);
        check(
            &merges.u32("tokenizer.ggml.bos_token_id", 4),
            "`tokenizer.ggml.bos_token_id` is 4, but there are 4 tokens",
        );
        check(
            &GgufWriter::default().string("tokenizer.ggml.model", "llama"),
            "`tokenizer.ggml.model` is `llama`, expected `gpt2`",
        );
        let unigram = GgufWriter::default()
            .string("tokenizer.ggml.model", "t5")
            .strings("tokenizer.ggml.tokens", &["a", "b"])
            .f32s("tokenizer.ggml.scores", &[-1.0]);
        check(&unigram, "`tokenizer.ggml.scores` has 1 entries for 2 tokens");
    }
}
