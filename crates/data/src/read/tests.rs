//! Every format, rows and files that are broken, and any bytes at all.

use std::io::Write as _;
use std::path::Path;

use hearth_testkit::Scratch;
use proptest::prelude::*;

use super::*;
use crate::row::Content;
use crate::write::{Format, RowWriter};

/// What a file gives, as `role: text` lines with origins; and what was rejected, as `origin reason`.
fn read(path: &Path, config: &ReadConfig) -> Result<(Vec<Row>, Vec<Rejected>)> {
    let mut input = Input::new([path]);
    input.read = config.clone();
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    read_all(&input, &mut |item| {
        match item {
            Item::Row(row) => rows.push(*row),
            Item::Rejected(row) => rejected.push(row),
            Item::Damaged { .. } => {}
        }
        Ok(())
    })?;
    Ok((rows, rejected))
}

struct Case {
    folder: Scratch,
}

impl Case {
    fn new(name: &str) -> Self {
        Self { folder: Scratch::new(&format!("data-read-{name}")).unwrap() }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.join(name);
        fs_err::write(&path, bytes).unwrap();
        path
    }

    #[track_caller]
    fn texts(&self, name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
        let path = self.write(name, bytes);
        let (rows, rejected) = read(&path, &ReadConfig::default()).unwrap();
        assert!(rejected.is_empty(), "{rejected:?}");
        rows.iter().map(shown).collect()
    }
}

fn shown(row: &Row) -> String {
    match &row.content {
        Content::Text(text) => text.clone(),
        Content::Messages(messages) => {
            let turns = messages.iter().map(|message| format!("{}: {}", message.role, message.content));
            turns.collect::<Vec<_>>().join(" | ")
        }
    }
}

/// A row of JSON Lines.
fn line(parts: &[&str]) -> String {
    let mut line = serde_json::json!({ "text": parts.concat() }).to_string();
    line.push('\n');
    line
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_format_gives_its_rows() {
    let case = Case::new("formats");
    let lines = "{\"text\": \"one\", \"n\": 1}\n\n{\"content\":\"zwei\"}\n";
    for (name, bytes) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("a.ndjson.zst", zstd::encode_all(lines.as_bytes(), 3).unwrap()),
        ("a.json", b"[{\"text\": \"one\"}, {\"text\": \"zwei\"}]".to_vec()),
        ("b.json", b"{\"text\": \"one\"}\n{\"text\": \"zwei\"}".to_vec()),
        ("a.csv", b"id,text\n1,one\n2,\"zwei\"\n".to_vec()),
        ("a.tsv", b"text\tid\none\t1\nzwei\t2\n".to_vec()),
    ] {
        assert_eq!(case.texts(name, bytes), ["one", "zwei"], "{name}");
    }
    assert_eq!(case.texts("a.txt", encoding_rs::GBK.encode("很长的文字。").0), ["很长的文字。"]);
    assert_eq!(case.texts("a.md", "---\ntitle: x\n---\n# One\n"), ["# One\n"]);
    let warc = "WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n\
        WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://x/\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n";
    assert_eq!(case.texts("a.warc.wet.gz", gzip(warc.as_bytes())), ["hello"]);
    let page = "the kiln is hot and it is not to be opened by you in the morning. ".repeat(8);
    let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>{page}</p>");
    let warc =
        format!("WARC/1.0\r\nWARC-Type: response\r\nContent-Length: {}\r\n\r\n{http}\r\n\r\n", http.len());
    assert_eq!(case.texts("b.warc", warc), [page.trim()]);
}

#[test]
fn conversations_of_every_form_become_one() {
    let case = Case::new("conversations");
    for line in [
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":"a"}]}"#,
        r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#,
        r#"{"instruction":"q","input":"","output":"a"}"#,
        r#"{"prompt":"q","completion":"a"}"#,
    ] {
        assert_eq!(case.texts("a.jsonl", line), ["user: q | assistant: a"], "{line}");
    }
    let history = r#"{"system":"s","instruction":"q","input":"i","output":"a","history":[["h","g"]]}"#;
    assert_eq!(
        case.texts("a.jsonl", history),
        ["system: s | user: h | assistant: g | user: q\ni | assistant: a"]
    );
    let call = r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{}}"}]}"#;
    let (rows, _) = read(&case.write("call.jsonl", call), &ReadConfig::default()).unwrap();
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(json["messages"][1]["tool_calls"][0]["function"]["name"], "f");
}

#[test]
fn rows_that_cannot_be_read_are_named_by_file_line_and_reason() {
    let case = Case::new("rejected");
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(5000));
    let mut bytes = format!("{{\"text\":\"ok\"}}\n{{\"text\":\n[1]\n{{\"a\":1}}\n{long}\n").into_bytes();
    bytes.extend_from_slice(b"{\"text\":\"\xff\xfe\x00\"}\n");
    bytes.extend_from_slice(&encoding_rs::GBK.encode("{\"text\":\"这是中文的文字\"}\n").0);
    let path = case.write("a.jsonl", bytes);
    let config = ReadConfig { max_row_bytes: 1000, ..ReadConfig::default() };
    let (rows, rejected) = read(&path, &config).unwrap();
    assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), ["ok", "这是中文的文字"]);
    assert_eq!(rows[1].origin, Origin::line("a.jsonl", 7));
    let reasons: Vec<(u64, &str)> =
        rejected.iter().map(|row| (row.origin.line.unwrap(), row.reason.as_str())).collect();
    let expected = [
        (2, "not a JSON object: EOF while parsing a value at column"),
        (3, "not a JSON object: invalid type: sequence, expected an object"),
        (4, "neither a text (`text`, `content`) nor a conversation; there is `a`"),
        (5, "a line of 5011 bytes is longer than `max_row_bytes` 1000"),
        (6, "binary data at byte"),
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for ((line, reason), (expected_line, expected)) in reasons.iter().zip(expected) {
        assert!(*line == expected_line && reason.starts_with(expected), "{line} {reason}");
    }
    let path = case.write("a.csv", "id,text\n1,one\n2\n3,three\n");
    let (rows, rejected) = read(&path, &ReadConfig::default()).unwrap();
    assert_eq!((rows.len(), rejected.len(), rejected[0].origin.line), (2, 1, Some(3)));
}

#[test]
fn files_that_break_off_are_errors_unless_allowed() {
    let case = Case::new("damaged");
    let lines: String =
        (0..2000).map(|at| line(&["row ", &at.to_string(), " ", &(at * 7919).to_string()])).collect();
    let packed = gzip(lines.as_bytes());
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    let parquet = case.folder.join("whole.parquet");
    let mut writer = RowWriter::create(&parquet, Format::Parquet).unwrap();
    writer.write(&Row::from_text("x".repeat(1000), Origin::line("a", 1))).unwrap();
    writer.finish().unwrap();
    let parquet = fs_err::read(parquet).unwrap();
    for (name, bytes) in [
        ("a.jsonl.gz", &packed[..packed.len() / 2]),
        ("b.jsonl.zst", &zstd[..zstd.len() / 2]),
        ("c.parquet", &parquet[..parquet.len() / 2]),
        ("d.json", b"[{\"text\":\"x\"}, {\"te"),
        ("e.warc", b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 50\r\n\r\nhello"),
    ] {
        let path = case.write(name, bytes);
        let message = read(&path, &ReadConfig::default()).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("is damaged after"), "{message}");
        let config = ReadConfig { allow_damaged: true, ..ReadConfig::default() };
        if name != "c.parquet" {
            read(&path, &config).unwrap();
        }
    }
}

#[test]
fn what_unpacks_without_end_is_stopped() {
    let case = Case::new("bomb");
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).unwrap();
    }
    let path = case.write("bomb.jsonl.zst", encoder.finish().unwrap());
    let message = read(&path, &ReadConfig::default()).unwrap_err().to_string();
    assert!(message.contains("no text does"), "{message}");
}

#[test]
fn a_long_text_becomes_rows_that_join_to_it() {
    let case = Case::new("long");
    let text: String = (0..500).map(|at: u32| ["第 ", &at.to_string(), " 行有文字。\n"].concat()).collect();
    let config = ReadConfig { max_row_bytes: 1000, ..ReadConfig::default() };
    for bytes in [text.as_bytes().to_vec(), encoding_rs::GB18030.encode(&text).0.into_owned()] {
        let (rows, rejected) = read(&case.write("a.txt", bytes), &config).unwrap();
        assert!(rows.len() > 10 && rejected.is_empty());
        assert!(rows.iter().all(|row| row.text_bytes() <= 1000));
        assert_eq!(rows.iter().map(shown).collect::<String>(), text);
    }
}

#[test]
fn pieces_of_a_file_give_the_rows_of_the_whole() {
    let case = Case::new("pieces");
    let lines: String = (0..3000).map(|at| line(&["row ", &at.to_string()])).collect();
    let path = case.write("a.jsonl", lines);
    let whole = read(&path, &ReadConfig::default()).unwrap().0;
    let config = ReadConfig { shard_bytes: 5000, ..ReadConfig::default() };
    let pieces = read(&path, &config).unwrap().0;
    let origins = |rows: &[Row]| rows.iter().map(|row| (row.origin.clone(), shown(row))).collect::<Vec<_>>();
    assert_eq!(origins(&whole), origins(&pieces));
}

#[test]
fn rows_written_in_every_format_read_back_with_origin_and_metadata() {
    let case = Case::new("back");
    let mut text = Row::from_text("texte été 文".into(), Origin::offset("deep/a.warc", 77));
    text.metadata.set("score", &0.25);
    text.metadata.set("tags", &["a", "b"]);
    let message = |role: &str, content: &str| crate::row::Message {
        role: role.into(),
        content: content.into(),
        rest: crate::row::Metadata::default(),
    };
    let mut talk = Row::from_text(String::new(), Origin::line("b.jsonl", 3));
    talk.content = Content::Messages(vec![message("user", "q"), message("assistant", "a")]);
    for format in [Format::Jsonl, Format::JsonlGz, Format::JsonlZst, Format::Parquet] {
        let path = case.folder.join(format!("rows.{}", format.extension()));
        let mut writer = RowWriter::create(&path, format).unwrap();
        writer.write(&text).unwrap();
        writer.write(&talk).unwrap();
        writer.finish().unwrap();
        let (rows, rejected) = read(&path, &ReadConfig::default()).unwrap();
        assert!(rejected.is_empty(), "{rejected:?}");
        for (row, back) in [&text, &talk].into_iter().zip(&rows) {
            assert_eq!(
                serde_json::to_string(row).unwrap(),
                serde_json::to_string(back).unwrap(),
                "{format:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        cut in 0usize..4000, flip in 0usize..4000,
    ) {
        let case = Case::new("any-bytes");
        let config = ReadConfig { allow_damaged: true, max_row_bytes: 300, ..ReadConfig::default() };
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.csv", "a.tsv", "a.txt", "a.md", "a.html", "a.warc", "a.parquet"] {
            let _ = read(&case.write(name, &bytes), &config);
        }
        // Files that are nearly right get further than noise does.
        let row = Row::from_text("some text 文字 ".repeat(20), Origin::line("a", 1));
        for format in [Format::Jsonl, Format::JsonlGz, Format::JsonlZst, Format::Parquet] {
            let path = case.folder.join(format!("near.{}", format.extension()));
            let mut writer = RowWriter::create(&path, format).unwrap();
            writer.write(&row).unwrap();
            writer.finish().unwrap();
            let mut near = fs_err::read(&path).unwrap();
            let at = flip % near.len();
            near[at] ^= bytes.first().copied().unwrap_or(1);
            near.truncate(near.len() - cut % near.len().min(400));
            fs_err::write(&path, near).unwrap();
            let _ = read(&path, &config);
        }
    }
}
