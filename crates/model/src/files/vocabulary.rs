//! The tokenizer, the chat template and the description inside a GGUF file.
//!
//! In: an open file. Out: a [`Vocabulary`] for `hearth_tokenizer`, the template's source, names for people.
//! Keys follow `docs/gguf.md` of ggml (`tokenizer.ggml.*`, `general.*`).

use hearth_tokenizer::normalizer::Charsmap;
use hearth_tokenizer::{BertNormalizer, Kind, Normalizer, TokenKind, Vocabulary};

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
    let kind = kind(file)?;
    let tokens = file.meta_strs("tokenizer.ggml.tokens")?;
    let tokens: Vec<_> = tokens.into_iter().map(str::to_owned).collect();
    let num_tokens = tokens.len();
    let mut vocabulary = Vocabulary::new(kind, tokens);
    match kind {
        Kind::ByteBpe => vocabulary = vocabulary.with_merge_lines(&merges(file)?),
        Kind::CharBpe | Kind::Unigram => {
            vocabulary.scores = file.meta_f32s("tokenizer.ggml.scores")?;
            check_len(file, "tokenizer.ggml.scores", vocabulary.scores.len(), num_tokens)?;
        }
        Kind::WordPiece => {}
    }
    if let Some(numbers) = file.find::<Vec<i32>>("tokenizer.ggml.token_type")? {
        check_len(file, "tokenizer.ggml.token_type", numbers.len(), num_tokens)?;
        vocabulary.token_kinds = numbers.into_iter().map(TokenKind::from_gguf).collect();
    }
    if let Some(pre) = file.find::<&str>("tokenizer.ggml.pre")? {
        pre.clone_into(&mut vocabulary.pre);
    }
    read_ids(file, &mut vocabulary)?;
    let prefix = vocabulary.add_space_prefix;
    vocabulary.add_space_prefix = file.find("tokenizer.ggml.add_space_prefix")?.unwrap_or(prefix);
    vocabulary.normalizers = normalizers(file, &vocabulary)?;
    Ok(vocabulary)
}

fn kind(file: &GgufFile) -> Result<Kind> {
    let model = file.meta_str("tokenizer.ggml.model")?;
    match model {
        "gpt2" => Ok(Kind::ByteBpe),
        "llama" => Ok(Kind::CharBpe),
        "t5" => Ok(Kind::Unigram),
        "bert" => Ok(Kind::WordPiece),
        other => Err(Error::KeyType {
            path: file.path().into(),
            key: "tokenizer.ggml.model".into(),
            found: format!("`{other}`"),
            expected: "`gpt2` (BPE on bytes), `llama` (BPE on characters), `t5` (Unigram) or `bert` (WordPiece)",
        }),
    }
}

/// Bos, eos and the like. Files may leave out what their kind of vocabulary always has.
fn read_ids(file: &GgufFile, vocabulary: &mut Vocabulary) -> Result<()> {
    let num_tokens = vocabulary.tokens.len();
    let id = |key| token_id(file, key, num_tokens);
    vocabulary.bos = id("tokenizer.ggml.bos_token_id")?;
    vocabulary.eos = id("tokenizer.ggml.eos_token_id")?;
    vocabulary.unk = id("tokenizer.ggml.unknown_token_id")?;
    vocabulary.pad = id("tokenizer.ggml.padding_token_id")?;
    let special = |id: u32| {
        let kind = vocabulary.token_kinds.get(id as usize);
        kind.filter(|kind| matches!(kind, TokenKind::Control | TokenKind::Unknown)).map(|_| id)
    };
    let named = |name: &str| vocabulary.tokens.iter().position(|token| token == name).map(|id| id as u32);
    match vocabulary.kind {
        Kind::CharBpe => {
            vocabulary.unk = vocabulary.unk.or_else(|| special(0));
            vocabulary.bos = vocabulary.bos.or_else(|| special(1));
            vocabulary.eos = vocabulary.eos.or_else(|| special(2));
            vocabulary.add_bos = vocabulary.bos.is_some();
        }
        Kind::WordPiece => {
            // Encoders of this kind put `[CLS]` in front and `[SEP]` behind, whatever their keys are called.
            let separator = id("tokenizer.ggml.seperator_token_id")?;
            vocabulary.unk = vocabulary.unk.or_else(|| named("[UNK]"));
            vocabulary.bos = id("tokenizer.ggml.cls_token_id")?.or(vocabulary.bos).or_else(|| named("[CLS]"));
            vocabulary.eos = separator.or(vocabulary.eos).or_else(|| named("[SEP]"));
            (vocabulary.add_bos, vocabulary.add_eos) = (true, true);
        }
        Kind::ByteBpe => vocabulary.add_bos = vocabulary.bos.is_some() && puts_bos_first(&vocabulary.pre),
        Kind::Unigram => {}
    }
    let flag = |key, default| Ok::<_, Error>(file.find(key)?.unwrap_or(default));
    vocabulary.add_bos = flag("tokenizer.ggml.add_bos_token", vocabulary.add_bos)?;
    vocabulary.add_eos = flag("tokenizer.ggml.add_eos_token", vocabulary.add_eos)?;
    Ok(())
}

/// Families whose files leave out `add_bos_token` although their tokenizers write one.
fn puts_bos_first(pre: &str) -> bool {
    matches!(
        pre,
        "llama-bpe" | "llama3" | "llama-v3" | "tekken" | "pixtral" | "falcon3" | "lfm2" | "chameleon"
    )
}

/// GGUF names no normalisers for byte BPE: Qwen's own tokenizers compose (NFC), most families' don't.
fn normalizers(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Vec<Normalizer>> {
    match vocabulary.kind {
        Kind::ByteBpe => {
            return Ok(composes(&vocabulary.pre).then_some(Normalizer::Nfc).into_iter().collect());
        }
        Kind::CharBpe => return Ok(Vec::new()),
        Kind::WordPiece => {
            let uncased = BertNormalizer {
                clean_text: true,
                handle_chinese_chars: true,
                strip_accents: true,
                lowercase: true,
            };
            return Ok(vec![Normalizer::Bert(uncased)]);
        }
        Kind::Unigram => {}
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

/// Families whose tokenizers compose text (NFC).
pub(crate) fn composes(pre: &str) -> bool {
    matches!(pre, "qwen2" | "qwen35" | "deepseek-r1-qwen" | "olmo" | "modern-bert")
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
    fn kinds_of_vocabulary_bring_what_their_files_leave_out() {
        let named = |model: &str| {
            GgufWriter::default()
                .string("tokenizer.ggml.model", model)
                .strings("tokenizer.ggml.tokens", &["<unk>", "<s>", "</s>", "[UNK]", "[CLS]", "[SEP]", "▁a"])
                .i32s("tokenizer.ggml.token_type", &[2, 3, 3, 3, 3, 3, 1])
        };
        let read = |writer: &GgufWriter| {
            let (_folder, file) = open(writer);
            let found = vocabulary(&file).unwrap();
            (
                (found.kind, found.unk, found.bos, found.eos),
                (found.add_bos, found.add_eos, found.add_space_prefix),
            )
        };
        let llama = named("llama").f32s("tokenizer.ggml.scores", &[0.0; 7]);
        assert_eq!(read(&llama), ((Kind::CharBpe, Some(0), Some(1), Some(2)), (true, false, true)));
        let gemma =
            llama.bool("tokenizer.ggml.add_space_prefix", false).bool("tokenizer.ggml.add_bos_token", false);
        assert_eq!(read(&gemma), ((Kind::CharBpe, Some(0), Some(1), Some(2)), (false, false, false)));
        assert_eq!(read(&named("bert")), ((Kind::WordPiece, Some(3), Some(4), Some(5)), (true, true, true)));
        let renamed =
            named("bert").u32("tokenizer.ggml.cls_token_id", 1).u32("tokenizer.ggml.seperator_token_id", 2);
        assert_eq!(read(&renamed), ((Kind::WordPiece, Some(3), Some(1), Some(2)), (true, true, true)));
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
            &GgufWriter::default().string("tokenizer.ggml.model", "rwkv"),
            "`tokenizer.ggml.model` is `rwkv`, expected `gpt2`",
        );
        let unigram = GgufWriter::default()
            .string("tokenizer.ggml.model", "t5")
            .strings("tokenizer.ggml.tokens", &["a", "b"])
            .f32s("tokenizer.ggml.scores", &[-1.0]);
        check(&unigram, "`tokenizer.ggml.scores` has 1 entries for 2 tokens");
    }
}
