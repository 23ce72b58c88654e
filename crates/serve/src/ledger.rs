//! Accounts: keys, what they may use, what they used and what that costs, in one SQLite file.
//!
//! A key is random, shown once, and kept as its sha256. Usage is a row for each key, application, model and day (UTC);
//! a request is added to it in one transaction of the write-ahead log before its client sees the end of the answer, so
//! a kill of the process loses no answer that was delivered. Several processes may use the file at once.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_artifacts::hash::sha256;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::error::{Error, Result};

/// Of the tables below; another version is refused.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, created_s INTEGER NOT NULL,
    revoked_s INTEGER, requests_per_minute INTEGER, tokens_per_day INTEGER);
CREATE TABLE IF NOT EXISTS usage (
    key TEXT NOT NULL, app TEXT NOT NULL, model TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (key, app, model, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prices (model TEXT PRIMARY KEY, prompt REAL NOT NULL, completion REAL NOT NULL);
";

/// An account. Its secret is known to its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub created_s: u64,
    pub revoked_s: Option<u64>,
    #[serde(flatten)]
    pub limits: Limits,
}

/// What a key may use; `None` is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub requests_per_minute: Option<u32>,
    /// Prompt and answer together, by days of UTC.
    pub tokens_per_day: Option<u64>,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Id of the key; empty without one.
    pub key: &'a str,
    pub app: &'a str,
    pub model: &'a str,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
}

/// What a key used in an application of a model on a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Used {
    pub day: String,
    /// The key's id; empty for requests without one.
    pub key: String,
    pub key_name: String,
    pub app: String,
    pub model: String,
    pub requests: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// By the prices of now; `None` where the model has none.
    pub cost: Option<f64>,
}

#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
}

impl Ledger {
    /// Opens the file or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != 0 && version != VERSION {
            return Err(Error::LedgerVersion {
                path: path.display().to_string(),
                version,
                expected: VERSION,
            });
        }
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key and gives its secret, which can't be had again.
    pub fn create_key(&self, name: &str, limits: Limits) -> Result<(Key, String)> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(|error| Error::Random { reason: error.to_string() })?;
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let (id, secret) = (format!("key_{}", hex(&random[..6])), format!("sk-hearth-{}", hex(&random[6..])));
        let key = Key { id, name: name.into(), created_s: now_s(), revoked_s: None, limits };
        self.connection().execute(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6)",
            params![
                key.id,
                key.name,
                sha256(secret.as_bytes()),
                key.created_s,
                limits.requests_per_minute,
                limits.tokens_per_day
            ],
        )?;
        Ok((key, secret))
    }

    /// All keys, the oldest first.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(&select_keys("ORDER BY created_s, id"))?;
        let keys = select.query_map([], key_of)?.collect::<rusqlite::Result<_>>()?;
        Ok(keys)
    }

    /// Whether anybody must show a key at all.
    pub fn has_keys(&self) -> Result<bool> {
        let connection = self.connection();
        let mut select =
            connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE revoked_s IS NULL)")?;
        Ok(select.query_row([], |row| row.get(0))?)
    }

    /// The key with this secret, unless it is revoked.
    pub fn find(&self, secret: &str) -> Result<Option<Key>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(&select_keys("WHERE hash = ?1 AND revoked_s IS NULL"))?;
        Ok(select.query_row([sha256(secret.as_bytes())], key_of).optional()?)
    }

    /// Ends a key by id or name; gives the keys that were ended.
    pub fn revoke(&self, id_or_name: &str) -> Result<Vec<Key>> {
        let found: Vec<Key> = self.keys()?;
        let found = found.into_iter().filter(|key| key.revoked_s.is_none());
        let found: Vec<Key> = found.filter(|key| key.id == id_or_name || key.name == id_or_name).collect();
        for key in &found {
            self.connection()
                .execute("UPDATE keys SET revoked_s = ?2 WHERE id = ?1", params![key.id, now_s()])?;
        }
        Ok(found)
    }

    /// Adds a request to the accounts.
    pub fn record(&self, entry: &Entry<'_>) -> Result<()> {
        let connection = self.connection();
        let mut insert = connection.prepare_cached(
            "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET requests = requests + 1, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
             cached_tokens = cached_tokens + excluded.cached_tokens,
             completion_tokens = completion_tokens + excluded.completion_tokens",
        )?;
        let Entry { key, app, model, prompt_tokens, cached_tokens, completion_tokens } = *entry;
        let day = day_of(now_s());
        insert.execute(params![key, app, model, day, prompt_tokens, cached_tokens, completion_tokens])?;
        Ok(())
    }

    /// Tokens a key has used today.
    pub fn used_today(&self, key: &str) -> Result<u64> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) FROM usage WHERE key = ?1 AND day = ?2",
        )?;
        Ok(select.query_row(params![key, day_of(now_s())], |row| row.get(0))?)
    }

    /// Price of a million tokens of a model's prompts and answers, in a currency of one's own.
    pub fn set_price(&self, model: &str, prompt: f64, completion: f64) -> Result<()> {
        self.connection().execute(
            "INSERT OR REPLACE INTO prices VALUES (?1, ?2, ?3)",
            params![model, prompt, completion],
        )?;
        Ok(())
    }

    /// What was used, by day, key, application and model.
    pub fn usage(&self) -> Result<Vec<Used>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT day, key, COALESCE(name, ''), app, u.model, requests, prompt_tokens, cached_tokens,
             completion_tokens, (prompt_tokens * p.prompt + completion_tokens * p.completion) / 1e6
             FROM usage u LEFT JOIN keys k ON k.id = u.key LEFT JOIN prices p ON p.model = u.model
             ORDER BY day, key, app, u.model",
        )?;
        let used = |row: &Row<'_>| {
            Ok(Used {
                day: row.get(0)?,
                key: row.get(1)?,
                key_name: row.get(2)?,
                app: row.get(3)?,
                model: row.get(4)?,
                requests: row.get(5)?,
                prompt_tokens: row.get(6)?,
                cached_tokens: row.get(7)?,
                completion_tokens: row.get(8)?,
                cost: row.get(9)?,
            })
        };
        let rows = select.query_map([], used)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

fn select_keys(rest: &str) -> String {
    format!("SELECT id, name, created_s, revoked_s, requests_per_minute, tokens_per_day FROM keys {rest}")
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        id: row.get(0)?,
        name: row.get(1)?,
        created_s: row.get(2)?,
        revoked_s: row.get(3)?,
        limits: Limits { requests_per_minute: row.get(4)?, tokens_per_day: row.get(5)? },
    })
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Seconds until the day of UTC is over.
pub(crate) fn rest_of_day_s() -> u64 {
    86_400 - now_s() % 86_400
}

/// The day of a time since 1970 as YYYY-MM-DD: Howard Hinnant's `civil_from_days` for days after 1970.
fn day_of(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_795_478_400, "2026-11-24"),
        ] {
            assert_eq!(day_of(seconds), day);
        }
    }
}
