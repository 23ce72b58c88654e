//! The parts of zipped formats (OOXML, `OpenDocument`, EPUB), with a limit on what all of them unpack to.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::xml::Element;
use super::{MAX_UNPACKED_BYTES, text};
use crate::error::ExtractError;

pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// What all parts together may still take.
    budget: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, ExtractError> {
        // An encrypted Office file is no zip but an OLE container, and so are the binary formats before 2007.
        if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
            let holds = |name: &str| {
                let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
                bytes.windows(name.len()).any(|window| window == name)
            };
            let old = ["WordDocument", "Workbook", "PowerPoint Document"].iter().any(|name| holds(name));
            return Err(if old {
                ExtractError::damaged("a binary Office file from before 2007 under a new name")
            } else {
                ExtractError::Encrypted
            });
        }
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(ExtractError::damaged)?;
        Ok(Self { zip, budget: MAX_UNPACKED_BYTES })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
        self.zip.file_names().flatten()
    }

    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, ExtractError> {
        let part = match self.zip.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(ExtractError::Encrypted);
            }
            Err(error) => return Err(ExtractError::damaged(error)),
        };
        let mut bytes = Vec::new();
        part.take(self.budget + 1).read_to_end(&mut bytes).map_err(ExtractError::damaged)?;
        let left = self.budget.checked_sub(bytes.len() as u64);
        self.budget = left.ok_or(ExtractError::Bomb { limit: MAX_UNPACKED_BYTES })?;
        Ok(Some(bytes))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ExtractError> {
        match self.part(name)? {
            Some(bytes) => text::decode(&bytes, None).map(|(text, _)| Some(text)),
            None => Ok(None),
        }
    }

    pub(super) fn xml(&mut self, name: &str) -> Result<Option<Element>, ExtractError> {
        self.text(name)?.map(|source| Element::parse(&source)).transpose()
    }

    /// What the relationships of an OOXML part (ECMA-376, part 2) lead to: id → (last word of the type, part).
    pub(super) fn relations(
        &mut self,
        part: &str,
    ) -> Result<BTreeMap<String, (String, String)>, ExtractError> {
        let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
        let Some(root) = self.xml(&format!("{folder}/_rels/{file}.rels"))? else {
            return Ok(BTreeMap::new());
        };
        let relations =
            root.elements().filter(|relation| relation.attribute("TargetMode") != Some("External"));
        let relations = relations.filter_map(|relation| {
            let kind = relation.attribute("Type")?.rsplit('/').next()?.to_string();
            let target = resolve(folder, relation.attribute("Target")?);
            Some((relation.attribute("Id")?.to_string(), (kind, target)))
        });
        Ok(relations.collect())
    }

    /// The title in `docProps/core.xml`.
    pub(super) fn core_title(&mut self) -> Option<String> {
        let core = self.xml("docProps/core.xml").ok()??;
        let title = core.find("title")?.text();
        Some(title).filter(|title| !title.trim().is_empty())
    }
}

/// A reference from a part in `folder`: `../media/x.xml`, `/xl/x.xml` or `x.xml`.
pub(super) fn resolve(folder: &str, reference: &str) -> String {
    let joined = match reference.strip_prefix('/') {
        Some(absolute) => absolute.to_string(),
        None => format!("{folder}/{reference}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    pub(in crate::extract) fn archive(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn references_are_followed_from_their_folder() {
        let resolved = [("xl", "sheets/a.xml"), ("xl/sheets", "../b.xml"), ("xl", "/c.xml"), ("", "../../d")]
            .map(|(folder, reference)| super::resolve(folder, reference));
        assert_eq!(resolved, ["xl/sheets/a.xml", "xl/b.xml", "c.xml", "d"]);
    }
}
