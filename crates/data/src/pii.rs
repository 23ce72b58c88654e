//! `data pii`: what names or reaches a person becomes a placeholder of its kind, the same value the same placeholder.
//!
//! * `find` — one pass over the text; what stands out by a byte is looked at closer
//! * `numbers` — identity cards, bank cards, phones, addresses of the internet, plates
//! * `secrets` — keys by their known beginnings, private keys, passwords
//! * `people` — passports, postal addresses and names, as far as rules reach
//! * [`labelled`] — a labelled set made by a generator; [`evaluate`](mod@evaluate) — precision and recall on it or on one's own
//!
//! Rules with checksums (cards) hardly err. Names are found only where a title, a label or a form of address announces them,
//! addresses only with street and number: the figures are in the evaluation, for each kind.

pub mod evaluate;
mod find;
pub mod labelled;
mod numbers;
mod people;
mod secrets;

use std::collections::{BTreeMap, HashMap};

use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::find::{Finder, Found};
use crate::Result;
use crate::job::{self, Begun, Output, Shards, Summary};
use crate::read::Input;
use crate::row::{Content, Metadata, Row};

/// What can be found. The order is that of precedence where two overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Secret,
    Email,
    IdCard,
    BankCard,
    Ip,
    Phone,
    Passport,
    Plate,
    Address,
    Name,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Secret,
        Self::Email,
        Self::IdCard,
        Self::BankCard,
        Self::Ip,
        Self::Phone,
        Self::Passport,
        Self::Plate,
        Self::Address,
        Self::Name,
    ];

    /// As it stands in a placeholder.
    pub fn label(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::Email => "EMAIL",
            Self::IdCard => "ID_CARD",
            Self::BankCard => "BANK_CARD",
            Self::Ip => "IP",
            Self::Phone => "PHONE",
            Self::Passport => "PASSPORT",
            Self::Plate => "PLATE",
            Self::Address => "ADDRESS",
            Self::Name => "NAME",
        }
    }
}

/// Where the same value has the same placeholder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// `[EMAIL_1]`, counted anew in each row.
    #[default]
    Row,
    /// `[EMAIL_3f9a2c41]`: a hash of salt and value, in all rows.
    Corpus,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is looked for.
    pub kinds: Vec<Kind>,
    pub scope: Scope,
    /// Goes into the hashes of the scope `corpus`. Who knows it can try values, so keep it secret.
    pub salt: String,
    /// Also look into the metadata and into calls of tools.
    pub metadata: bool,
    /// Also addresses of private networks.
    pub private_ips: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kinds: Kind::ALL.to_vec(),
            scope: Scope::Row,
            salt: String::new(),
            metadata: true,
            private_ips: true,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Findings of each kind.
    pub found: BTreeMap<String, u64>,
    /// Rows with at least one.
    pub rows_with_findings: u64,
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    let job = match job::begin("pii", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let finder = Finder::new(config);
    let shards = Shards { job: &job, stage: "pii", first: true };
    let (tally, states) = shards.run(|shard| {
        let mut masker = Masker::new(&finder, config);
        shard.rewrite(&mut |row, _| {
            masker.mask_row(row);
            Ok(true)
        })?;
        Ok(masker.details)
    })?;
    let mut details = Details::default();
    for state in states {
        details.rows_with_findings += state.rows_with_findings;
        for (kind, count) in state.found {
            *details.found.entry(kind).or_default() += count;
        }
    }
    job.finish(tally, details)
}

/// Puts placeholders into rows.
#[derive(Debug)]
pub struct Masker<'a> {
    finder: &'a Finder,
    config: &'a Config,
    pub details: Details,
    found: Vec<Found>,
    /// Numbers of the values of this row.
    numbers: HashMap<(Kind, String), usize>,
    last: HashMap<Kind, usize>,
}

impl<'a> Masker<'a> {
    pub fn new(finder: &'a Finder, config: &'a Config) -> Self {
        Self {
            finder,
            config,
            details: Details::default(),
            found: Vec::new(),
            numbers: HashMap::new(),
            last: HashMap::new(),
        }
    }

    /// Masks a row's texts, and its metadata if that is asked for.
    pub fn mask_row(&mut self, row: &mut Row) {
        self.numbers.clear();
        self.last.clear();
        let before: u64 = self.details.found.values().sum();
        for text in row.texts_mut() {
            if let Some(masked) = self.mask(text) {
                *text = masked;
            }
        }
        if self.config.metadata {
            self.mask_metadata(&mut row.metadata);
            if let Content::Messages(messages) = &mut row.content {
                for message in messages {
                    self.mask_metadata(&mut message.rest);
                }
            }
        }
        let after: u64 = self.details.found.values().sum();
        self.details.rows_with_findings += u64::from(after > before);
    }

    /// The text with placeholders; none where nothing was found.
    pub fn mask(&mut self, text: &str) -> Option<String> {
        let mut found = std::mem::take(&mut self.found);
        self.finder.find(text, &mut found);
        let masked = (!found.is_empty()).then(|| {
            let mut masked = String::with_capacity(text.len());
            let mut end = 0;
            for item in &found {
                masked.push_str(&text[end..item.start]);
                masked.push_str(&self.placeholder(item.kind, &text[item.start..item.end]));
                end = item.end;
            }
            masked.push_str(&text[end..]);
            masked
        });
        self.found = found;
        masked
    }

    fn placeholder(&mut self, kind: Kind, value: &str) -> String {
        match self.details.found.get_mut(kind.label()) {
            Some(count) => *count += 1,
            None => _ = self.details.found.insert(kind.label().into(), 1),
        }
        let value = normalised(kind, value);
        if self.config.scope == Scope::Corpus {
            let hash = sha256(format!("{}\0{}\0{value}", self.config.salt, kind.label()).as_bytes());
            return format!("[{}_{}]", kind.label(), &hash[..8]);
        }
        let last = self.last.entry(kind).or_default();
        let number = self.numbers.entry((kind, value)).or_insert_with(|| {
            *last += 1;
            *last
        });
        format!("[{}_{number}]", kind.label())
    }

    fn mask_metadata(&mut self, metadata: &mut Metadata) {
        let mut changed = Vec::new();
        for (name, raw) in metadata.iter() {
            let mut found = std::mem::take(&mut self.found);
            self.finder.find(raw, &mut found);
            let any = !found.is_empty();
            self.found = found;
            if any && let Ok(mut value) = serde_json::from_str::<Value>(raw) {
                self.mask_value(&mut value);
                changed.push((name.to_owned(), value));
            }
        }
        for (name, value) in &changed {
            metadata.set(name, value);
        }
    }

    fn mask_value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(masked) = self.mask(text) {
                    *text = masked;
                }
            }
            // A number that is a card or a phone becomes a text.
            Value::Number(number) => {
                if let Some(masked) = self.mask(&number.to_string()) {
                    *value = Value::String(masked);
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.mask_value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.mask_value(value)),
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// Two spellings of one value are one value.
fn normalised(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Email => value.to_lowercase(),
        Kind::Phone | Kind::BankCard | Kind::IdCard => {
            let digits: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            let digits = digits.to_uppercase();
            // With or without the country.
            digits
                .strip_prefix("0086")
                .or_else(|| digits.strip_prefix("86").filter(|rest| rest.len() == 11))
                .map_or_else(|| digits.clone(), str::to_owned)
        }
        Kind::Plate => value.chars().filter(|c| c.is_alphanumeric()).collect(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
