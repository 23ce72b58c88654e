//! EPUB books (versions 2 and 3) → their chapters in the order of the spine, each read as HTML.
//!
//! The table of contents (`nav`) is left out: its entries are the headings of the chapters.

use super::Extracted;
use super::html;
use super::xml::Element;
use super::zipped::{Archive, resolve};
use crate::error::ExtractError;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut archive = Archive::open(bytes)?;
    let container = archive.xml("META-INF/container.xml")?;
    let container = container.ok_or_else(|| ExtractError::damaged("no `META-INF/container.xml` inside"))?;
    let package_path = container.find("rootfile").and_then(|file| file.attribute("full-path"));
    let package_path = package_path.ok_or_else(|| ExtractError::damaged("no package is named"))?;
    let package = archive.xml(package_path)?;
    let package = package.ok_or_else(|| ExtractError::damaged(format!("no `{package_path}` inside")))?;
    let folder = package_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let encrypted = encrypted_parts(&mut archive)?;
    let items: Vec<&Element> =
        package.child("manifest").into_iter().flat_map(|manifest| manifest.named("item")).collect();
    let mut extracted = Extracted {
        title: package.child("metadata").and_then(|metadata| metadata.child("title")).map(Element::text),
        ..Extracted::default()
    };
    let mut missing = 0;
    for reference in package.child("spine").into_iter().flat_map(|spine| spine.named("itemref")) {
        let id = reference.attribute("idref");
        let item = items.iter().find(|item| item.attribute("id") == id && id.is_some());
        let is_contents = |item: &&&Element| item.attribute("properties").is_some_and(|p| p.contains("nav"));
        if item.as_ref().is_some_and(is_contents) {
            continue;
        }
        let path =
            item.and_then(|item| item.attribute("href")).map(|href| resolve(folder, &percent_decoded(href)));
        if path.as_ref().is_some_and(|path| encrypted.contains(path)) {
            return Err(ExtractError::Encrypted);
        }
        match path.map(|path| archive.part(&path)).transpose()?.flatten() {
            Some(bytes) => {
                let chapter = html::extract(&bytes)?;
                extracted.blocks.extend(chapter.blocks);
                extracted.notes.extend(chapter.notes);
            }
            None => missing += 1,
        }
    }
    if missing > 0 {
        extracted.notes.push(format!("{missing} chapters are missing in the file"));
    }
    Ok(extracted)
}

/// Parts that need a key. Fonts are often only disguised, and don't matter here.
fn encrypted_parts(archive: &mut Archive<'_>) -> Result<Vec<String>, ExtractError> {
    let Some(root) = archive.xml("META-INF/encryption.xml")? else {
        return Ok(Vec::new());
    };
    let mut references = Vec::new();
    root.find_all("CipherReference", &mut references);
    let paths = references.iter().filter_map(|reference| reference.attribute("URI"));
    Ok(paths.map(|path| resolve("", &percent_decoded(path))).collect())
}

/// `%20` and its like; what doesn't become UTF-8 stays. A fragment (`#top`) is no part of the path.
fn percent_decoded(reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = reference.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| reference.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;
    use crate::extract::zipped::tests::archive;

    const CONTAINER: &str =
        r#"<container><rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>"#;
    const PACKAGE: &str = r#"<package><metadata><dc:title>The book</dc:title></metadata><manifest>
        <item id="a" href="one.xhtml"/><item id="b" href="text/chapter%20two.xhtml&#35;start"/>
        <item id="n" href="nav.xhtml" properties="nav"/></manifest>
        <spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/><itemref idref="x"/></spine></package>"#;

    fn parts() -> Vec<(&'static str, &'static str)> {
        vec![
            ("META-INF/container.xml", CONTAINER),
            ("OEBPS/content.opf", PACKAGE),
            ("OEBPS/nav.xhtml", "<html><body><h1>Contents</h1></body></html>"),
            (
                "OEBPS/one.xhtml",
                "<?xml version='1.0'?><html><head><title/><script/></head><body><h1>One</h1><a id='x'/><p>first</p></body></html>",
            ),
            ("OEBPS/text/chapter two.xhtml", "<html><body><h1>二</h1><p>second</p></body></html>"),
        ]
    }

    #[test]
    fn chapters_follow_the_spine() {
        let document = super::super::extract("x.epub", DocumentKind::Epub, &archive(&parts())).unwrap();
        assert_eq!(document.title, "The book");
        assert_eq!(document.text(), "二\nsecond\nOne\nfirst");
        assert_eq!(document.notes, ["1 chapters are missing in the file"]);
    }

    #[test]
    fn a_locked_book_says_so() {
        let mut parts = parts();
        let encryption = r#"<encryption><EncryptedData><CipherData><CipherReference URI="OEBPS/one.xhtml"/></CipherData></EncryptedData></encryption>"#;
        parts.push(("META-INF/encryption.xml", encryption));
        assert_eq!(extract(&archive(&parts)), Err(ExtractError::Encrypted));
        let font = encryption.replace("one.xhtml", "font.otf");
        let last = parts.len() - 1;
        parts[last].1 = &font;
        assert!(extract(&archive(&parts)).is_ok());
    }
}
