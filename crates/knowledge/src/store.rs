//! A knowledge base as one SQLite file: settings, files, documents, chunks with their words, vectors.
//!
//! Every change is one transaction of a write-ahead log: what was acknowledged survives a kill, and a reader sees all of
//! it or nothing. Vectors are kept by the hash of the text and the embedder's name, and committed in batches: what a
//! stopped build has embedded, and what the base knew before, is not embedded again.

mod rows;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub(crate) use self::rows::{ChunkRow, DocumentRow, FileRow, NewChunk, NewDocument};
use crate::error::{Error, Result};

/// Raised when the tables change; another version is refused.
pub(crate) const FORMAT_VERSION: u32 = 2;

pub(crate) const FILE: &str = "knowledge.sqlite";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, root TEXT NOT NULL, sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL, modified INTEGER NOT NULL, skipped TEXT);
    CREATE TABLE IF NOT EXISTS documents (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE,
        file TEXT NOT NULL, hash TEXT NOT NULL, metadata TEXT NOT NULL, json TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS documents_by_file ON documents (file);
    CREATE TABLE IF NOT EXISTS chunks (id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL,
        hash TEXT NOT NULL, words BLOB NOT NULL, json TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS chunks_by_document ON chunks (document);
    CREATE TABLE IF NOT EXISTS words (id INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS vectors (hash TEXT NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (hash, embedder)) WITHOUT ROWID;";

/// How long a process waits for another that is writing.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Words whose numbers are known to this process.
    words: HashMap<String, i64>,
}

impl Store {
    /// Opens or makes the file of a base that is made anew from its documents: one of an older version is replaced, one
    /// of a newer version is an error.
    pub(crate) fn open_or_replace(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let found = if path.is_file() { Self::connect(&path)?.version()? } else { None };
        let is_older =
            found.and_then(|found| found.parse::<u32>().ok()).is_some_and(|it| it < FORMAT_VERSION);
        if is_older {
            fs_err::remove_file(&path)?;
        }
        Self::open_or_create(folder)
    }

    /// Opens or makes the file. What stands there must be of this version, or without settings yet.
    pub(crate) fn open_or_create(folder: &Path) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let store = Self::connect(&path)?;
        if let Some(found) = store.version()?.filter(|found| found != &FORMAT_VERSION.to_string()) {
            return Err(Error::Format { path, found, supported: FORMAT_VERSION });
        }
        store.sql(|connection| connection.execute_batch(SCHEMA))?;
        Ok(store)
    }

    /// Opens a whole base; checks its version.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::open_file(&folder.join(FILE), folder)
    }

    /// Opens a base by the path of its file; `named` is what an error says is missing.
    pub(crate) fn open_file(path: &Path, named: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Missing { path: named.into() });
        }
        let store = Self::connect(path)?;
        match store.version()? {
            Some(found) if found == FORMAT_VERSION.to_string() => Ok(store),
            Some(found) => Err(Error::Format { path: path.into(), found, supported: FORMAT_VERSION }),
            None => Err(Error::Missing { path: named.into() }),
        }
    }

    fn connect(path: &Path) -> Result<Self> {
        let failed = |source| Error::Sqlite { path: path.into(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        Ok(Self { connection, path: path.into(), words: HashMap::new() })
    }

    fn version(&self) -> Result<Option<String>> {
        let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'settings'";
        let num_tables: i64 = self.sql(|connection| connection.query_row(tables, [], |row| row.get(0)))?;
        if num_tables == 0 { Ok(None) } else { self.setting("format_version") }
    }

    /// Runs statements; their error gets the file's name.
    fn sql<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        run(&self.connection).map_err(|source| Error::Sqlite { path: self.path.clone(), source })
    }

    /// Runs statements that count together or not at all.
    pub(crate) fn transaction<T>(
        &mut self,
        run: impl FnOnce(&mut Writing<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let Self { connection, path, words } = self;
        let done = connection.transaction().and_then(|transaction| {
            let mut writing = Writing { transaction, words: &mut *words };
            let value = run(&mut writing)?;
            writing.transaction.commit()?;
            Ok(value)
        });
        if done.is_err() {
            // The numbers of words that were made in it are gone with it.
            words.clear();
        }
        done.map_err(|source| Error::Sqlite { path: path.clone(), source })
    }

    /// Reads of one state of the base, whatever others write meanwhile.
    pub(crate) fn snapshot<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sql(|connection| connection.execute_batch("BEGIN"))?;
        let value = read();
        self.sql(|connection| connection.execute_batch("COMMIT"))?;
        value
    }

    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>> {
        self.sql(|connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
            statement.query_row([name], |row| row.get(0)).optional()
        })
    }

    /// Which of these hashes have no vector of this embedder and length yet.
    pub(crate) fn without_vector<'a>(
        &self,
        embedder: &str,
        dim: usize,
        hashes: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<&'a str>> {
        self.sql(|connection| {
            let sql = "SELECT length(vector) FROM vectors WHERE hash = ?1 AND embedder = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut missing = Vec::new();
            for hash in hashes {
                let bytes: Option<i64> =
                    statement.query_row([hash, embedder], |row| row.get(0)).optional()?;
                if bytes != Some(dim as i64 * 4) {
                    missing.push(hash);
                }
            }
            Ok(missing)
        })
    }

    pub(crate) fn vector(&self, embedder: &str, hash: &str) -> Result<Option<Vec<f32>>> {
        self.sql(|connection| {
            let sql = "SELECT vector FROM vectors WHERE hash = ?1 AND embedder = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let bytes: Option<Vec<u8>> =
                statement.query_row([hash, embedder], |row| row.get(0)).optional()?;
            Ok(bytes.map(|bytes| from_bytes(&bytes)))
        })
    }

    /// Keeps a batch, all or nothing.
    pub(crate) fn add_vectors(&mut self, embedder: &str, batch: &[(&str, Vec<f32>)]) -> Result<()> {
        self.transaction(|writing| {
            let sql = "INSERT OR REPLACE INTO vectors (hash, embedder, vector) VALUES (?1, ?2, ?3)";
            let mut statement = writing.transaction.prepare_cached(sql)?;
            for (hash, vector) in batch {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                statement.execute(params![hash, embedder, bytes])?;
            }
            Ok(())
        })
    }

    /// Writes the whole base into another file, without what was deleted.
    pub(crate) fn copy_to(&self, to: &Path) -> Result<()> {
        let name = to.to_string_lossy().into_owned();
        self.sql(|connection| connection.execute("VACUUM INTO ?1", [name])).map(|_| ())
    }

    /// Is every page there, and do they pass SQLite's own check?
    pub(crate) fn check(&self) -> Result<()> {
        let pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let expected: i64 = self.sql(|connection| connection.query_row(pages, [], |row| row.get(0)))?;
        let found = fs_err::metadata(&self.path)?.len();
        if found != expected as u64 {
            return Err(self.damaged(format!("{found} bytes where {expected} are expected: cut off")));
        }
        let found: String =
            self.sql(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if found == "ok" { Ok(()) } else { Err(Error::Damaged { path: self.path.clone(), reason: found }) }
    }

    pub(crate) fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// An open transaction.
pub(crate) struct Writing<'a> {
    transaction: Transaction<'a>,
    words: &'a mut HashMap<String, i64>,
}

impl Writing<'_> {
    pub(crate) fn set(&self, name: &str, value: &str) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO settings VALUES (?1, ?2)";
        self.transaction.prepare_cached(sql)?.execute([name, value]).map(|_| ())
    }

    /// Tells other processes that something changed.
    pub(crate) fn next_generation(&self) -> rusqlite::Result<()> {
        let sql = "INSERT INTO settings VALUES ('generation', '1')
            ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1";
        self.transaction.execute(sql, []).map(|_| ())
    }

    /// Empties the base; the ids begin anew.
    pub(crate) fn clear(&mut self) -> rusqlite::Result<()> {
        self.words.clear();
        self.transaction.execute_batch(
            "DELETE FROM documents; DELETE FROM chunks; DELETE FROM words; DELETE FROM files; DELETE FROM sqlite_sequence;",
        )
    }

    pub(crate) fn drop_unused_vectors(&self) -> rusqlite::Result<()> {
        let sql = "DELETE FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)
            OR embedder <> (SELECT value FROM settings WHERE name = 'embedder')";
        self.transaction.execute(sql, []).map(|_| ())
    }
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let (whole, _) = bytes.as_chunks::<4>();
    whole.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
