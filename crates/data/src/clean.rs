//! `data clean`: repaired text, its language, and the quality filters of Gopher, C4 and `FineWeb`, for Chinese too.
//!
//! * `repair` — mojibake, NFC, control characters, line ends
//! * `language` — which language a text is in
//! * `lines` — C4's rules for lines, and boilerplate
//! * `repetition`, `quality` — Gopher's and `FineWeb`'s rules for documents
//!
//! Each row that goes is counted under datatrove's name for the reason, with samples. Rules for documents judge texts;
//! conversations are repaired and their language is told, since a short answer is no bad one.

mod language;
mod lines;
mod quality;
mod repair;
mod repetition;

use std::collections::BTreeMap;

use hearth_artifacts::progress::Progress;
use serde::{Deserialize, Serialize};

pub use self::language::detect as detect_language;
pub use self::lines::C4;
pub use self::quality::{FineWeb, Quality};
pub use self::repair::{Repair, Repairs, repair};
pub use self::repetition::Repetition;
use crate::job::{self, Begun, Output, Shards, Summary};
use crate::read::Input;
use crate::row::{Content, Row};
use crate::units::{self, Unit, UnitKind};
use crate::{Error, Result};

/// What is done to rows, and which stay. Every part can be switched off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub repair: Repair,
    /// Languages that stay, as `zh`, `en`; all where it is empty.
    pub languages: Vec<String>,
    /// A language told with less certainty counts as none. `FineWeb`'s 0.65.
    pub min_language_score: f64,
    pub repetition: Repetition,
    pub quality: Quality,
    pub c4: C4,
    pub fineweb: FineWeb,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repair: Repair::default(),
            languages: Vec::new(),
            min_language_score: 0.65,
            repetition: Repetition::default(),
            quality: Quality::default(),
            c4: C4::default(),
            fineweb: FineWeb::default(),
        }
    }
}

impl Config {
    /// Repairs text and tells languages, and removes nothing.
    pub fn repair_only() -> Self {
        let mut config = Self::default();
        config.repetition.enabled = false;
        config.quality.enabled = false;
        config.c4.enabled = false;
        config.fineweb.enabled = false;
        config
    }

    fn check(&self) -> Result<()> {
        for language in &self.languages {
            if !language::KNOWN.contains(&language.as_str()) {
                let expectation = format!("languages that are told apart: {}", language::KNOWN.join(", "));
                return Err(Error::Config {
                    field: "languages".into(),
                    value: language.clone(),
                    expectation,
                });
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub repairs: Repairs,
    /// Rows of each language, of those that were read.
    pub languages: BTreeMap<String, u64>,
    /// Lines that went, by reason.
    pub lines_removed: BTreeMap<String, u64>,
}

impl Details {
    fn merge(&mut self, other: Self) {
        self.repairs.merge(&other.repairs);
        for (language, rows) in other.languages {
            *self.languages.entry(language).or_default() += rows;
        }
        for (reason, lines) in other.lines_removed {
            *self.lines_removed.entry(reason).or_default() += lines;
        }
    }
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    config.check()?;
    let job = match job::begin("clean", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let shards = Shards { job: &job, stage: "clean", first: true };
    let (tally, states) = shards.run(|shard| {
        let mut cleaner = Cleaner::new(config);
        shard.rewrite(&mut |row, tally| {
            let reason = cleaner.clean(row);
            if let Some(reason) = &reason {
                tally.remove(reason, row);
            }
            Ok(reason.is_none())
        })?;
        Ok(cleaner.details)
    })?;
    let mut details = Details::default();
    for state in states {
        details.merge(state);
    }
    job.finish(tally, details)
}

/// Cleans row after row; holds the buffers.
#[derive(Debug)]
pub struct Cleaner<'a> {
    config: &'a Config,
    pub details: Details,
    units: Vec<Unit>,
    seen: repetition::Seen,
    stops: quality::StopWords,
    lines: lines::LineFilter,
}

/// What the rules look at, computed once for a text.
pub(crate) struct Profile<'a> {
    text: &'a str,
    units: &'a [Unit],
    language: &'a str,
    /// Units that aren't marks, in words: characters of scripts without spaces count for less.
    num_words: f64,
    /// Half of the units or more are single characters.
    unspaced: bool,
}

impl<'a> Profile<'a> {
    fn new(text: &'a str, units: &'a [Unit], language: &'a str) -> Self {
        let characters = units.iter().filter(|unit| unit.kind == UnitKind::Character).count();
        let words =
            units.iter().filter(|unit| matches!(unit.kind, UnitKind::Word | UnitKind::Number)).count();
        let num_words = words as f64 + characters as f64 / units::CHARS_PER_WORD;
        Self { text, units, language, num_words, unspaced: characters > words }
    }
}

impl<'a> Cleaner<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self {
            config,
            details: Details::default(),
            units: Vec::new(),
            seen: repetition::Seen::default(),
            stops: quality::StopWords::default(),
            lines: lines::LineFilter::new(&config.c4),
        }
    }

    /// Repairs a row and sets its language; the reason if it has to go.
    pub fn clean(&mut self, row: &mut Row) -> Option<String> {
        let config = self.config;
        for text in row.texts_mut() {
            repair::repair(text, &config.repair, &mut self.details.repairs);
        }
        let (language, score) = language::detect(&row.joined());
        row.metadata.set("language", language);
        row.metadata.set("language_score", &((score * 1000.0).round() / 1000.0));
        *self.details.languages.entry(language.into()).or_default() += 1;
        let wanted = config.languages.is_empty() || config.languages.iter().any(|name| name == language);
        if !wanted || (!config.languages.is_empty() && score < config.min_language_score) {
            return Some(if wanted { "language_score".into() } else { format!("language_{language}") });
        }
        let Content::Text(text) = &mut row.content else {
            return row.texts().all(|text| text.trim().is_empty()).then(|| "empty".into());
        };
        if text.trim().is_empty() {
            return Some("empty".into());
        }
        self.judge(text, language)
    }

    /// `FineWeb`'s order: repetition, quality, lines, `FineWeb`'s own rules.
    fn judge(&mut self, text: &mut String, language: &str) -> Option<String> {
        let config = self.config;
        units::split(text, &mut self.units);
        let profile = Profile::new(text, &self.units, language);
        if let Some(reason) = config.repetition.judge(&profile, &mut self.seen) {
            return Some(reason);
        }
        if let Some(reason) = config.quality.judge(&profile, &mut self.stops) {
            return Some(reason.into());
        }
        if config.c4.enabled {
            match self.lines.filter(text, &config.c4, &mut self.details.lines_removed) {
                Err(reason) => return Some(reason.into()),
                Ok(true) => units::split(text, &mut self.units),
                Ok(false) => {}
            }
        }
        let profile = Profile::new(text, &self.units, language);
        config.fineweb.judge(&profile, &mut self.seen).map(Into::into)
    }
}
