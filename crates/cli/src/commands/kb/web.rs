//! Pages of the web as documents: fetched once for each `kb add`, known again by their content.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hearth_knowledge::document::DocumentKind;
use hearth_knowledge::extract::{MAX_FILE_BYTES, kind_of};

/// For a whole page to come.
const PATIENCE: Duration = Duration::from_mins(2);

/// What was fetched.
pub(super) struct Page {
    pub(super) kind: DocumentKind,
    pub(super) bytes: Vec<u8>,
}

/// Is this an address rather than a path?
pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// The addresses in a file, one a line; empty lines and those that begin with `#` are passed over.
pub(super) fn list(file: &Path) -> Result<Vec<String>> {
    let text = fs_err::read_to_string(file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let urls: Vec<String> = lines.map(str::to_owned).collect();
    if let Some(bad) = urls.iter().find(|url| !is_url(url)) {
        bail!("`{}`: `{bad}` begins with neither http:// nor https://", file.display());
    }
    Ok(urls)
}

/// Gets a page; its type is what the server says, or what the address ends with.
pub(super) fn fetch(url: &str) -> Result<Page> {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
    let agent = ureq::Agent::new_with_config(config);
    let mut response = agent.get(url).call().with_context(|| format!("`{url}` can't be fetched"))?;
    let media = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let by_name = path.splitn(4, '/').nth(3).and_then(|path| kind_of(Path::new(path)));
    let kind = match media.as_str() {
        "text/html" | "application/xhtml+xml" => Some(DocumentKind::Html),
        "application/pdf" => Some(DocumentKind::Pdf),
        "text/markdown" => Some(DocumentKind::Markdown),
        "application/json" => by_name.or(Some(DocumentKind::Json)),
        "text/plain" => by_name.or(Some(DocumentKind::Text)),
        _ => by_name,
    };
    let Some(kind) = kind else { bail!("`{url}` is `{media}`, which hearth doesn't read") };
    let bytes = response.body_mut().with_config().limit(MAX_FILE_BYTES).read_to_vec();
    let bytes = bytes.with_context(|| format!("`{url}` can't be read whole"))?;
    Ok(Page { kind, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_addresses_and_notes_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "# docs\n\nhttp://a/b\n  https://c  \n").unwrap();
        assert_eq!(list(file.path()).unwrap(), ["http://a/b", "https://c"]);
        fs_err::write(file.path(), "ftp://a").unwrap();
        assert!(list(file.path()).unwrap_err().to_string().contains("ftp://a"));
    }
}
