//! Files, documents and chunks as rows.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Store, Writing, from_bytes};
use crate::bm25::{Bm25Index, WordCounts};
use crate::chunk::{Chunk, ChunkId};
use crate::document::{Document, DocumentId};
use crate::error::Result;

/// What is remembered of a file: enough to see that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) path: String,
    /// The folder it was found under, or the file itself.
    pub(crate) root: String,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
    /// Why it gave no document.
    pub(crate) skipped: Option<String>,
}

#[derive(Debug)]
pub(crate) struct DocumentRow {
    pub(crate) document: Document,
    pub(crate) file: String,
    pub(crate) hash: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A chunk as it is loaded; its words went to the index.
#[derive(Debug)]
pub(crate) struct ChunkRow {
    pub(crate) chunk: Chunk,
    pub(crate) vector: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(crate) struct NewDocument<'a> {
    pub(crate) document: &'a Document,
    pub(crate) file: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) metadata: &'a BTreeMap<String, String>,
    pub(crate) chunks: &'a [NewChunk],
}

#[derive(Debug)]
pub(crate) struct NewChunk {
    pub(crate) chunk: Chunk,
    /// Of the passage, which names its vector.
    pub(crate) hash: String,
    pub(crate) words: WordCounts,
}

impl Store {
    pub(crate) fn file(&self, path: &str) -> Result<Option<FileRow>> {
        self.sql(|connection| {
            let sql = "SELECT path, root, sha256, bytes, modified, skipped FROM files WHERE path = ?1";
            connection.prepare_cached(sql)?.query_row([path], file_row).optional()
        })
    }

    pub(crate) fn files(&self) -> Result<Vec<FileRow>> {
        self.sql(|connection| {
            let sql = "SELECT path, root, sha256, bytes, modified, skipped FROM files ORDER BY path";
            connection.prepare_cached(sql)?.query_map([], file_row)?.collect()
        })
    }

    /// The ids of all documents, rising.
    pub(crate) fn document_ids(&self) -> Result<Vec<DocumentId>> {
        self.sql(|connection| {
            let mut statement = connection.prepare_cached("SELECT id FROM documents ORDER BY id")?;
            statement.query_map([], |row| Ok(DocumentId(row.get(0)?)))?.collect()
        })
    }

    /// Gives every document whose id isn't below `from`.
    pub(crate) fn each_document(&self, from: u32, mut give: impl FnMut(DocumentRow)) -> Result<()> {
        let rows: Vec<(u32, String, String, String, String)> = self.sql(|connection| {
            let sql = "SELECT id, file, hash, metadata, json FROM documents WHERE id >= ?1 ORDER BY id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([from], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            rows.collect()
        })?;
        for (id, file, hash, metadata, json) in rows {
            let mut document: Document = serde_json::from_str(&json).map_err(|error| self.damaged(error))?;
            document.id = DocumentId(id);
            let metadata = serde_json::from_str(&metadata).map_err(|error| self.damaged(error))?;
            give(DocumentRow { document, file, hash, metadata });
        }
        Ok(())
    }

    /// Gives every chunk whose id isn't below `from`, and puts its words into the index.
    pub(crate) fn each_chunk(
        &self,
        from: u32,
        embedder: &str,
        index: &mut Bm25Index,
        mut give: impl FnMut(ChunkRow),
    ) -> Result<()> {
        let forms: BTreeMap<i64, String> = self.sql(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, form FROM words")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let numbers: BTreeMap<i64, u32> =
            forms.into_iter().map(|(id, form)| (id, index.number(&form))).collect();
        let mut problem = None;
        self.sql(|connection| {
            let sql = "SELECT c.id, c.document, c.words, c.json, v.vector FROM chunks c
                LEFT JOIN vectors v ON v.hash = c.hash AND v.embedder = ?2
                WHERE c.id >= ?1 ORDER BY c.id";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![from, embedder])?;
            while let Some(row) = rows.next()? {
                let id: u32 = row.get(0)?;
                let words = row.get_ref(2)?.as_blob()?;
                let json = row.get_ref(3)?.as_str()?;
                let vector = row.get_ref(4)?.as_blob_or_null()?.map(from_bytes);
                let mut length = 0;
                for (word, count) in pairs(words) {
                    let Some(&number) = numbers.get(&word) else {
                        problem = Some(format!("a word of chunk {id} is missing"));
                        return Ok(());
                    };
                    index.insert(id, number, count);
                    length += count;
                }
                index.count_text(id, length);
                match serde_json::from_str::<Chunk>(json) {
                    Ok(chunk) => {
                        let document = DocumentId(row.get(1)?);
                        give(ChunkRow { chunk: Chunk { id: ChunkId(id), document, ..chunk }, vector });
                    }
                    Err(error) => {
                        problem = Some(error.to_string());
                        return Ok(());
                    }
                }
            }
            Ok(())
        })?;
        problem.map_or(Ok(()), |reason| Err(self.damaged(reason)))
    }

    /// The texts under whose hashes vectors are kept, for another embedder: hash, chunk, title of its document.
    pub(crate) fn passages(&self) -> Result<Vec<(String, String)>> {
        let rows: Vec<(String, String, String)> = self.sql(|connection| {
            let sql = "SELECT c.hash, c.json, json_extract(d.json, '$.title') FROM chunks c
                JOIN documents d ON d.id = c.document ORDER BY c.id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })?;
        let passage = |(hash, json, title): (String, String, String)| {
            let chunk: Chunk = serde_json::from_str(&json).map_err(|error| self.damaged(error))?;
            Ok((hash, chunk.passage(&title)))
        };
        rows.into_iter().map(passage).collect()
    }
}

impl Writing<'_> {
    pub(crate) fn put_file(&self, file: &FileRow) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let FileRow { path, root, sha256, bytes, modified, skipped } = file;
        let row = params![path, root, sha256, *bytes as i64, modified, skipped];
        self.transaction.prepare_cached(sql)?.execute(row).map(|_| ())
    }

    pub(crate) fn remove_file(&self, path: &str) -> rusqlite::Result<()> {
        self.transaction.prepare_cached("DELETE FROM files WHERE path = ?1")?.execute([path]).map(|_| ())
    }

    pub(crate) fn remove_document(&self, id: DocumentId) -> rusqlite::Result<()> {
        self.transaction.prepare_cached("DELETE FROM chunks WHERE document = ?1")?.execute([id.0])?;
        self.transaction.prepare_cached("DELETE FROM documents WHERE id = ?1")?.execute([id.0]).map(|_| ())
    }

    /// Adds a document with its chunks; gives their ids. The first ids are 0.
    pub(crate) fn add_document(
        &mut self,
        new: &NewDocument<'_>,
    ) -> rusqlite::Result<(DocumentId, Vec<ChunkId>)> {
        let json = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
        let document = DocumentId(self.next_id("documents")?);
        let text = serde_json::to_string(new.document).map_err(json)?;
        let metadata = serde_json::to_string(new.metadata).map_err(json)?;
        self.transaction
            .prepare_cached("INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![document.0, new.document.path, new.file, new.hash, metadata, text])?;
        let mut ids = Vec::with_capacity(new.chunks.len());
        for NewChunk { chunk, hash, words } in new.chunks {
            let mut blob = Vec::new();
            for (form, count) in &words.0 {
                put_varint(&mut blob, self.word(form)? as u64);
                put_varint(&mut blob, u64::from(*count));
            }
            let id = ChunkId(self.next_id("chunks")?);
            let text = serde_json::to_string(chunk).map_err(json)?;
            self.transaction
                .prepare_cached("INSERT INTO chunks VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![id.0, document.0, hash, blob, text])?;
            ids.push(id);
        }
        Ok((document, ids))
    }

    /// Never that of a row that was there before.
    fn next_id(&self, table: &str) -> rusqlite::Result<u32> {
        let sql = "SELECT seq + 1 FROM sqlite_sequence WHERE name = ?1";
        let next = self.transaction.prepare_cached(sql)?.query_row([table], |row| row.get(0)).optional()?;
        Ok(next.unwrap_or(0))
    }

    fn word(&mut self, form: &str) -> rusqlite::Result<i64> {
        if let Some(&id) = self.words.get(form) {
            return Ok(id);
        }
        self.transaction.prepare_cached("INSERT OR IGNORE INTO words (form) VALUES (?1)")?.execute([form])?;
        let mut statement = self.transaction.prepare_cached("SELECT id FROM words WHERE form = ?1")?;
        let id = statement.query_row([form], |row| row.get(0))?;
        self.words.insert(form.to_owned(), id);
        Ok(id)
    }
}

fn file_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FileRow> {
    Ok(FileRow {
        path: row.get(0)?,
        root: row.get(1)?,
        sha256: row.get(2)?,
        bytes: row.get::<_, i64>(3)? as u64,
        modified: row.get(4)?,
        skipped: row.get(5)?,
    })
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Pairs of word and count; what is cut off at the end is dropped.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (i64, u32)> {
    let mut rest = bytes.iter();
    let mut next = move || {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *rest.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    std::iter::from_fn(move || Some((next()? as i64, next()? as u32)))
}
