//! Rows of text or conversations to token shards: parsed and encoded on all threads, written in the order they came.
//!
//! A row is a JSON object with `text` or `messages`, or a whole file of plain text. A text ends in the id that ends
//! documents; a conversation becomes what the model's own template makes of it, with its loss mask. What gives no
//! document is an error that names file and line, or is set aside and counted. Reading files is the caller's matter.

use std::fmt;
use std::io;
use std::sync::Arc;

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_artifacts::shards::ShardWriter;

use crate::chat::ChatFormat;
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::TokenId;

const STAGE: &str = "pack";

/// Rows are taken until each thread has so many bytes of them.
const BATCH_BYTES_PER_THREAD: usize = 4 << 20;

/// Bad rows that are shown one by one; all are counted.
const MAX_SHOWN: usize = 10;

/// A line of a file, or a file of plain text.
#[derive(Clone, Debug)]
pub struct Row {
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
    pub content: RowContent,
}

#[derive(Clone, Debug)]
pub enum RowContent {
    /// A JSON object.
    Json(String),
    Plain(String),
}

/// What a document is made of.
#[derive(Debug)]
pub enum Packer {
    /// `text` of each row, or the plain text.
    Texts {
        tokenizer: Arc<Tokenizer>,
        /// Put behind each document.
        end_of_document: Option<TokenId>,
    },
    /// `messages` of each row, with `tools` and settings where they stand.
    Conversations(Box<ChatFormat>),
}

#[derive(Clone, Copy, Debug)]
pub struct PackConfig {
    pub threads: usize,
    /// Sets rows aside that can't be read, instead of ending at the first.
    pub skip_bad: bool,
}

/// What packing made of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    pub name: String,
    pub num_documents: u64,
    /// Rows without any text.
    pub num_empty: u64,
    /// Rows that couldn't be read and were set aside.
    pub num_bad: u64,
    pub num_bytes: u64,
}

/// A document, with a mask where it is a conversation.
struct Packed {
    ids: Vec<TokenId>,
    mask: Option<Vec<bool>>,
}

/// Writes the documents of each row; gives the files in the order in which they came.
pub fn pack<I>(
    mut rows: I,
    packer: &Packer,
    config: PackConfig,
    writer: &mut ShardWriter,
    progress: &dyn Progress,
) -> Result<Vec<FileStats>>
where
    I: Iterator<Item = io::Result<Row>>,
{
    progress.event(Event::Start { stage: STAGE, total: None, unit: Unit::Bytes });
    let mut files: Vec<FileStats> = Vec::new();
    let mut done = 0;
    let mut num_bad = 0;
    loop {
        let batch = take(&mut rows, BATCH_BYTES_PER_THREAD * config.threads.max(1))?;
        if batch.is_empty() {
            break;
        }
        for (row, packed) in batch.iter().zip(packer.pack_all(&batch, config.threads)) {
            if files.last().is_none_or(|file| *file.name != *row.file) {
                files.push(FileStats { name: row.file.to_string(), ..FileStats::default() });
            }
            let file = files.last_mut().expect("one was just put there");
            done += row.num_bytes();
            file.num_bytes += row.num_bytes();
            match packed {
                Ok(packed) if packed.is_empty() => file.num_empty += 1,
                Ok(packed) => {
                    for Packed { ids, mask } in &packed {
                        writer.push(ids, mask.as_deref(), &row.to_string())?;
                    }
                    file.num_documents += packed.len() as u64;
                }
                Err(source) if config.skip_bad => {
                    file.num_bad += 1;
                    num_bad += 1;
                    if num_bad <= MAX_SHOWN {
                        let text = format!("set aside {row}: {source}");
                        progress.event(Event::Note { stage: STAGE, text: &text });
                    }
                }
                Err(source) => return Err(Error::Row { row: row.to_string(), source: Box::new(source) }),
            }
        }
        progress.event(Event::Advance { stage: STAGE, done });
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
    }
    let sum = |of: fn(&FileStats) -> u64| files.iter().map(of).sum::<u64>();
    let summary = format!(
        "{} documents, {} tokens; {} rows were empty, {} couldn't be read",
        writer.num_documents(),
        writer.num_tokens(),
        sum(|file| file.num_empty),
        sum(|file| file.num_bad),
    );
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(files)
}

fn take<I: Iterator<Item = io::Result<Row>>>(rows: &mut I, num_bytes: usize) -> Result<Vec<Row>> {
    let mut batch = Vec::new();
    let mut taken = 0;
    while taken < num_bytes as u64 {
        let Some(row) = rows.next() else { break };
        let row = row.map_err(Error::Text)?;
        taken += row.num_bytes();
        batch.push(row);
    }
    Ok(batch)
}

impl Row {
    fn num_bytes(&self) -> u64 {
        match &self.content {
            RowContent::Json(text) | RowContent::Plain(text) => text.len() as u64,
        }
    }
}

/// File and line: the document's origin.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Packer {
    /// All rows, in order: stretches of about the same number of bytes go to the threads.
    fn pack_all(&self, rows: &[Row], threads: usize) -> Vec<Result<Vec<Packed>>> {
        let all = || rows.iter().map(|row| self.pack(row)).collect::<Vec<_>>();
        if threads < 2 || rows.len() < 2 {
            // A long text alone is shared out by the tokenizer.
            return rows.iter().map(|row| self.pack_on(row, threads)).collect();
        }
        let total: u64 = rows.iter().map(Row::num_bytes).sum();
        let part_bytes = total / threads as u64 + 1;
        let mut parts: Vec<&[Row]> = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, row) in rows.iter().enumerate() {
            bytes += row.num_bytes();
            if bytes >= part_bytes {
                parts.push(&rows[start..=index]);
                (start, bytes) = (index + 1, 0);
            }
        }
        parts.push(&rows[start..]);
        let Some((first, others)) = parts.split_first() else { return all() };
        std::thread::scope(|scope| {
            let work = |part: &[Row]| part.iter().map(|row| self.pack(row)).collect::<Vec<_>>();
            let others: Vec<_> = others.iter().map(|part| scope.spawn(move || work(part))).collect();
            let mut packed = work(first);
            for thread in others {
                packed.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            packed
        })
    }

    fn pack(&self, row: &Row) -> Result<Vec<Packed>> {
        self.pack_on(row, 1)
    }

    /// The row's documents; none where there is no text.
    fn pack_on(&self, row: &Row, threads: usize) -> Result<Vec<Packed>> {
        match (self, &row.content) {
            (Self::Texts { tokenizer, end_of_document }, RowContent::Plain(text)) => {
                Ok(pack_text(tokenizer, *end_of_document, text, threads))
            }
            (Self::Texts { tokenizer, end_of_document }, RowContent::Json(json)) => {
                let row: TextRow<'_> = serde_json::from_str(json)?;
                Ok(pack_text(tokenizer, *end_of_document, &row.text, threads))
            }
            (Self::Conversations(format), RowContent::Json(json)) => {
                let conversation: Conversation = serde_json::from_str(json)?;
                let examples = format.trainings(&conversation)?.into_iter();
                Ok(examples.map(|example| Packed { ids: example.ids, mask: Some(example.mask) }).collect())
            }
            (Self::Conversations(_), RowContent::Plain(_)) => Err(Error::PlainConversation),
        }
    }
}

fn pack_text(tokenizer: &Tokenizer, end: Option<TokenId>, text: &str, threads: usize) -> Vec<Packed> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut ids = tokenizer.wrap(&tokenizer.encode_on(text, threads));
    if let Some(end) = end.filter(|end| ids.last() != Some(end)) {
        ids.push(end);
    }
    vec![Packed { ids, mask: None }]
}

#[derive(serde::Deserialize)]
struct TextRow<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use hearth_artifacts::progress::Silent;
    use hearth_artifacts::shards::{ShardsInfo, TokenShards};

    use super::*;
    use crate::train::{SplitPattern, TrainConfig, train};

    fn tokenizer() -> Arc<Tokenizer> {
        let config = TrainConfig {
            vocab_size: 300,
            pattern: SplitPattern::named("qwen2").unwrap(),
            min_frequency: 0,
            max_token_length: None,
            nfc: false,
            special_tokens: crate::train::CHATML_SPECIAL_TOKENS.map(String::from).to_vec(),
            threads: 1,
        };
        let texts = ["the kiln and the heat", "水压和水压"].map(|text| Ok(text.to_owned()));
        let json = train(texts.into_iter(), &config, &Silent).unwrap().to_json().to_string();
        Arc::new(Tokenizer::from_json(json.as_bytes()).unwrap())
    }

    fn json(line: u64, text: &str) -> Row {
        Row { file: "a.jsonl".into(), line, content: RowContent::Json(text.into()) }
    }

    fn run(
        rows: &[Row],
        packer: &Packer,
        threads: usize,
        skip_bad: bool,
    ) -> Result<(Vec<FileStats>, TokenShards)> {
        let name = format!("hearth-pack-{}-{threads}-{}", std::process::id(), rows.len());
        let folder = std::env::temp_dir().join(name);
        let _ = fs_err::remove_dir_all(&folder);
        let has_mask = matches!(packer, Packer::Conversations(_));
        let info =
            ShardsInfo { tokenizer_sha256: "ab".into(), vocab_size: 300, end_of_document: Some(0), has_mask };
        let mut writer = ShardWriter::create(&folder, info, 1 << 10)?;
        let files = pack(
            rows.iter().cloned().map(Ok),
            packer,
            PackConfig { threads, skip_bad },
            &mut writer,
            &Silent,
        )?;
        writer.finish()?;
        let shards = TokenShards::open(&folder)?;
        shards.verify()?;
        fs_err::remove_dir_all(folder).unwrap();
        Ok((files, shards))
    }

    fn ids(shards: &TokenShards, index: u64) -> Vec<u32> {
        let mut ids = Vec::new();
        shards.document(index).unwrap().ids_into(&mut ids).unwrap();
        ids
    }

    #[test]
    fn texts_come_back_in_order_for_any_number_of_threads() {
        let tokenizer = tokenizer();
        let packer = Packer::Texts { tokenizer: Arc::clone(&tokenizer), end_of_document: Some(0) };
        let text = |index: u64| format!("{index} the kiln <|im_end|> 水压\n").repeat(1 + index as usize % 7);
        let row =
            |index: u64| json(index + 1, &serde_json::json!({"id": 3, "text": text(index)}).to_string());
        let mut rows: Vec<Row> = (0..200).map(row).collect();
        rows.push(json(201, r#"{"text":""}"#));
        rows.push(Row { file: "b.txt".into(), line: 1, content: RowContent::Plain("plain".into()) });
        for threads in [1, 2, 5] {
            let (files, shards) = run(&rows, &packer, threads, false).unwrap();
            let counts: Vec<_> = files.iter().map(|file| (file.num_documents, file.num_empty)).collect();
            assert_eq!(counts, [(200, 1), (1, 0)]);
            for index in 0..200 {
                let ids = ids(&shards, index);
                assert_eq!(ids.last(), Some(&0));
                assert_eq!(tokenizer.decode(&ids), text(index));
                // What a text spells is no special token.
                assert_eq!(ids.iter().filter(|id| **id < 3).count(), 1);
                assert_eq!(shards.origin(index).unwrap(), format!("a.jsonl:{}", index + 1));
            }
            assert_eq!(shards.origin(200).unwrap(), "b.txt:1");
        }
    }

    #[test]
    fn conversations_have_the_ids_and_masks_of_their_definition() {
        let format = ChatFormat::new(tokenizer(), None).unwrap();
        let row =
            r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"the heat"}]}"#;
        let expected = format.training(&serde_json::from_str(row).unwrap()).unwrap();
        let (_, shards) = run(&[json(1, row)], &Packer::Conversations(Box::new(format)), 2, false).unwrap();
        let mut mask = Vec::new();
        let document = shards.document(0).unwrap();
        document.mask_of(0..document.len(), &mut mask);
        assert_eq!((ids(&shards, 0), mask), (expected.ids, expected.mask));
    }

    #[test]
    fn bad_rows_are_named_or_set_aside_and_counted() {
        let texts = Packer::Texts { tokenizer: tokenizer(), end_of_document: None };
        let chats = Packer::Conversations(Box::new(ChatFormat::new(tokenizer(), None).unwrap()));
        for (packer, bad, expected) in [
            (&texts, "{", "EOF while parsing"),
            (&texts, r#"{"content":"x"}"#, "missing field `text`"),
            (&texts, r#"{"text":3}"#, "invalid type"),
            (&chats, r#"{"messages":[{"role":"user","content":"x"}]}"#, "nothing to learn from"),
            (&chats, r#"{"messages":[{"role":"robot","content":"x"}]}"#, "robot"),
        ] {
            let rows = [json(7, bad)];
            let error = run(&rows, packer, 2, false).unwrap_err();
            let message = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(message.contains("a.jsonl:7") && message.contains(expected), "{message}");
            let (files, shards) = run(&rows, packer, 2, true).unwrap();
            assert_eq!((files[0].num_bad, shards.num_documents()), (1, 0));
        }
    }
}
