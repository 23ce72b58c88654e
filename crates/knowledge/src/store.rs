//! A knowledge base as one SQLite file: settings, documents, chunks, vectors.
//!
//! It is built under another name and renamed when it is whole, so a reader sees all of it or nothing. Vectors are
//! kept by the hash of the text and the embedder's name, and committed in batches: what a stopped build
//! has embedded, and what the last whole base knows, is not embedded again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use crate::chunk::Chunk;
use crate::document::Document;
use crate::error::{Error, Result};

/// Raised when the tables change; another version is refused.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const FILE: &str = "knowledge.sqlite";
pub(crate) const BUILDING: &str = "knowledge.building.sqlite";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS documents (id INTEGER PRIMARY KEY, json TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS chunks (id INTEGER PRIMARY KEY, hash TEXT NOT NULL, json TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS vectors (hash TEXT NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (hash, embedder)) WITHOUT ROWID;";

#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens or makes the file in which a base is being built.
    pub(crate) fn building(folder: &Path) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        let path = folder.join(BUILDING);
        let store = Self::connect(&path).and_then(Self::with_schema);
        if let Err(Error::Sqlite { .. }) = store {
            // A damaged left-over holds nothing but vectors that can be made again.
            fs_err::remove_file(&path)?;
            return Self::connect(&path)?.with_schema();
        }
        store
    }

    /// Opens a whole base; checks its version.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::Missing { path: folder.into() });
        }
        let store = Self::connect(&path)?;
        let found = store.setting("format_version")?.unwrap_or_default();
        if found != FORMAT_VERSION.to_string() {
            return Err(Error::Format { path, found, supported: FORMAT_VERSION });
        }
        Ok(store)
    }

    fn connect(path: &Path) -> Result<Self> {
        let connection =
            Connection::open(path).map_err(|source| Error::Sqlite { path: path.into(), source })?;
        Ok(Self { connection, path: path.into() })
    }

    fn with_schema(self) -> Result<Self> {
        self.sql(|connection| connection.execute_batch(SCHEMA))?;
        Ok(self)
    }

    /// Runs statements; their error gets the file's name.
    fn sql<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        run(&self.connection).map_err(|source| Error::Sqlite { path: self.path.clone(), source })
    }

    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>> {
        self.sql(|connection| {
            let mut statement = connection.prepare("SELECT value FROM settings WHERE name = ?1")?;
            statement.query_row([name], |row| row.get(0)).optional()
        })
    }

    /// The vectors known under these hashes, of the right length.
    pub(crate) fn vectors(&self, embedder: &str, dim: usize) -> Result<HashMap<String, Vec<f32>>> {
        self.sql(|connection| {
            let mut statement = connection.prepare("SELECT hash, vector FROM vectors WHERE embedder = ?1")?;
            let rows = statement
                .query_map([embedder], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
            let mut vectors = HashMap::new();
            for row in rows {
                let (hash, bytes) = row?;
                if bytes.len() == dim * 4 {
                    vectors.insert(hash, from_bytes(&bytes));
                }
            }
            Ok(vectors)
        })
    }

    /// Keeps a batch, all or nothing.
    pub(crate) fn add_vectors(&mut self, embedder: &str, batch: &[(&str, &[f32])]) -> Result<()> {
        self.sql(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let sql = "INSERT OR REPLACE INTO vectors (hash, embedder, vector) VALUES (?1, ?2, ?3)";
            let mut statement = transaction.prepare(sql)?;
            for (hash, vector) in batch {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                statement.execute(params![hash, embedder, bytes])?;
            }
            drop(statement);
            transaction.commit()
        })
    }

    /// Writes everything but the vectors, drops vectors that no chunk uses, and puts the file in its place.
    pub(crate) fn finish(
        self,
        settings: &[(&str, String)],
        documents: &[Document],
        chunks: &[(String, &Chunk)],
    ) -> Result<()> {
        let json =
            |error: serde_json::Error| Error::Damaged { path: self.path.clone(), reason: error.to_string() };
        let documents: Vec<String> =
            documents.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(json)?;
        let chunk_rows: Vec<String> = chunks
            .iter()
            .map(|(_, chunk)| serde_json::to_string(chunk))
            .collect::<Result<_, _>>()
            .map_err(json)?;
        self.sql(|connection| {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute_batch("DELETE FROM settings; DELETE FROM documents; DELETE FROM chunks;")?;
            for (name, value) in settings {
                transaction.execute("INSERT INTO settings VALUES (?1, ?2)", params![name, value])?;
            }
            for (id, json) in documents.iter().enumerate() {
                transaction.execute("INSERT INTO documents VALUES (?1, ?2)", params![id as i64, json])?;
            }
            for (id, ((hash, _), json)) in chunks.iter().zip(&chunk_rows).enumerate() {
                transaction
                    .execute("INSERT INTO chunks VALUES (?1, ?2, ?3)", params![id as i64, hash, json])?;
            }
            transaction.execute("DELETE FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)", [])?;
            transaction.commit()
        })?;
        let (from, to) = (self.path.clone(), self.path.with_file_name(FILE));
        self.connection.close().map_err(|(_, source)| Error::Sqlite { path: from.clone(), source })?;
        fs_err::File::open(&from)?.sync_all()?;
        Ok(fs_err::rename(from, to)?)
    }

    pub(crate) fn documents(&self) -> Result<Vec<Document>> {
        let rows = self.rows("SELECT json, '' FROM documents ORDER BY id")?;
        rows.iter().map(|(json, _)| self.parse(json)).collect()
    }

    /// Chunks with the hashes under which their vectors are kept.
    pub(crate) fn chunks(&self) -> Result<Vec<(String, Chunk)>> {
        let rows = self.rows("SELECT json, hash FROM chunks ORDER BY id")?;
        rows.into_iter().map(|(json, hash)| Ok((hash, self.parse(&json)?))).collect()
    }

    fn rows(&self, sql: &str) -> Result<Vec<(String, String)>> {
        self.sql(|connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, json: &str) -> Result<T> {
        serde_json::from_str(json)
            .map_err(|error| Error::Damaged { path: self.path.clone(), reason: error.to_string() })
    }
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let (whole, _) = bytes.as_chunks::<4>();
    whole.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
