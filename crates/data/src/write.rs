//! Rows to files: JSON Lines, plain or packed, and Parquet. The same rows give the same bytes on any machine.
//!
//! A file appears under its name when it is whole. Parquet has the columns `id`, `text`, `messages`, `origin` and
//! `metadata`; the last three are JSON, which the reader of this crate takes apart again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_artifacts::atomic::PartialFile;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use crate::row::{Content, Row};
use crate::{Error, Result};

/// zstd's own default: 2 to 3 times faster than 5, some percent larger.
const ZSTD_LEVEL: i32 = 3;
/// Text of a row group.
const GROUP_BYTES: usize = 16 << 20;
const SCHEMA: &str = "message rows { REQUIRED BYTE_ARRAY id (UTF8); OPTIONAL BYTE_ARRAY text (UTF8); \
    OPTIONAL BYTE_ARRAY messages (UTF8); REQUIRED BYTE_ARRAY origin (UTF8); OPTIONAL BYTE_ARRAY metadata (UTF8); }";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    #[serde(rename = "jsonl.zst")]
    JsonlZst,
    #[serde(rename = "jsonl.gz")]
    JsonlGz,
    Jsonl,
    Parquet,
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Self::JsonlZst => "jsonl.zst",
            Self::JsonlGz => "jsonl.gz",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

enum Sink {
    Plain(PartialFile),
    Gzip(flate2::write::GzEncoder<PartialFile>),
    Zstd(zstd::stream::write::Encoder<'static, PartialFile>),
    Parquet(Box<Groups>),
}

/// Writes rows into one file.
pub struct RowWriter {
    path: PathBuf,
    sink: Sink,
    line: Vec<u8>,
}

impl std::fmt::Debug for RowWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RowWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RowWriter {
    pub fn create(path: &Path, format: Format) -> Result<Self> {
        let file = PartialFile::create(path)?;
        let sink = match format {
            Format::Jsonl => Sink::Plain(file),
            Format::JsonlGz => Sink::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::new(6))),
            Format::JsonlZst => Sink::Zstd(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?),
            Format::Parquet => Sink::Parquet(Box::new(Groups::new(path, file)?)),
        };
        Ok(Self { path: path.into(), sink, line: Vec::new() })
    }

    pub fn write(&mut self, row: &Row) -> Result<()> {
        match &mut self.sink {
            Sink::Parquet(groups) => groups.push(row),
            _ => self.write_json(row),
        }
    }

    /// A line of JSON, for files of lines.
    pub fn write_json<T: Serialize>(&mut self, value: &T) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value).map_err(std::io::Error::other)?;
        self.line.push(b'\n');
        match &mut self.sink {
            Sink::Plain(file) => file.write_all(&self.line)?,
            Sink::Gzip(encoder) => encoder.write_all(&self.line)?,
            Sink::Zstd(encoder) => encoder.write_all(&self.line)?,
            Sink::Parquet(_) => {}
        }
        Ok(())
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<()> {
        match self.sink {
            Sink::Plain(file) => file.commit()?,
            Sink::Gzip(encoder) => encoder.finish()?.commit()?,
            Sink::Zstd(encoder) => encoder.finish()?.commit()?,
            Sink::Parquet(groups) => groups.finish()?,
        }
        Ok(())
    }
}

/// Rows of a Parquet file that wait for their group.
struct Groups {
    path: PathBuf,
    writer: SerializedFileWriter<PartialFile>,
    columns: [Vec<Option<ByteArray>>; 5],
    num_bytes: usize,
}

impl Groups {
    fn new(path: &Path, file: PartialFile) -> Result<Self> {
        let failed = |error: parquet::errors::ParquetError| std::io::Error::other(error.to_string());
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { path: path.into(), writer, columns: Default::default(), num_bytes: 0 })
    }

    fn failed(&self, error: &parquet::errors::ParquetError) -> Error {
        Error::Io(std::io::Error::other(format!("`{}` can't be written: {error}", self.path.display())))
    }

    fn push(&mut self, row: &Row) -> Result<()> {
        let json = |value: Result<String, serde_json::Error>| value.map_err(std::io::Error::other);
        let metadata = match row.metadata.is_empty() {
            true => None,
            false => {
                let fields: Vec<String> = row
                    .metadata
                    .iter()
                    .map(|(name, raw)| format!("{}:{raw}", serde_json::Value::from(name)))
                    .collect();
                Some(format!("{{{}}}", fields.join(",")))
            }
        };
        let (text, messages) = match &row.content {
            Content::Text(text) => (Some(text.clone()), None),
            Content::Messages(messages) => (None, Some(json(serde_json::to_string(messages))?)),
        };
        let origin = json(serde_json::to_string(&row.origin))?;
        for (column, value) in
            self.columns.iter_mut().zip([Some(row.id.clone()), text, messages, Some(origin), metadata])
        {
            self.num_bytes += value.as_ref().map_or(0, String::len);
            column.push(value.map(|value| value.into_bytes().into()));
        }
        if self.num_bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let columns = std::mem::take(&mut self.columns);
        self.num_bytes = 0;
        let written = write_group(&mut self.writer, &columns);
        written.map_err(|error| self.failed(&error))
    }

    fn finish(mut self) -> Result<()> {
        if !self.columns[0].is_empty() {
            self.flush()?;
        }
        let path = self.path.clone();
        let file = self.writer.into_inner();
        let file = file.map_err(|error| {
            Error::Io(std::io::Error::other(format!("`{}` can't be written: {error}", path.display())))
        })?;
        Ok(file.commit()?)
    }
}

fn write_group(
    writer: &mut SerializedFileWriter<PartialFile>,
    columns: &[Vec<Option<ByteArray>>; 5],
) -> parquet::errors::Result<()> {
    let mut group = writer.next_row_group()?;
    for (index, column) in columns.iter().enumerate() {
        let optional = matches!(index, 1 | 2 | 4);
        let values: Vec<ByteArray> = column.iter().flatten().cloned().collect();
        let levels: Vec<i16> = column.iter().map(|value| i16::from(value.is_some())).collect();
        let Some(mut out) = group.next_column()? else { break };
        out.typed::<ByteArrayType>().write_batch(&values, optional.then_some(&levels[..]), None)?;
        out.close()?;
    }
    group.close()?;
    Ok(())
}
