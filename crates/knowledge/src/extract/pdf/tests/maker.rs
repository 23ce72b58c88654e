//! Makes small PDFs.

use lopdf::encryption::{EncryptionState, EncryptionVersion, Permissions};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream, dictionary};

pub(super) struct Maker {
    document: Document,
    pages: Vec<Object>,
    tree: ObjectId,
    fonts: ObjectId,
    outline: Vec<String>,
}

impl Default for Maker {
    fn default() -> Self {
        let mut document = Document::with_version("1.7");
        let tree = document.new_object_id();
        // The widths of both fonts are built into readers; here they are given, half a size for each character.
        let font = |name: &str, width: i64| {
            dictionary! {
                "Type" => "Font", "Subtype" => "Type1", "BaseFont" => name, "Encoding" => "WinAnsiEncoding",
                "FirstChar" => 32, "LastChar" => 126, "Widths" => vec![Object::Integer(width); 95],
            }
        };
        let fonts = document.add_object(dictionary! {
            "Font" => dictionary! { "F" => font("Helvetica", 500), "M" => font("Courier", 600) },
        });
        Self { document, pages: Vec::new(), tree, fonts, outline: Vec::new() }
    }
}

impl Maker {
    pub(super) fn page(self, program: &str) -> Self {
        let fonts = self.fonts;
        self.page_with(program, 0, Object::Reference(fonts))
    }

    pub(super) fn page_with(mut self, program: &str, rotate: i64, resources: Object) -> Self {
        let content = self.document.add_object(Stream::new(Dictionary::new(), program.as_bytes().to_vec()));
        let page = self.document.add_object(dictionary! {
            "Type" => "Page", "Parent" => self.tree, "Contents" => content, "Rotate" => rotate,
            "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()], "Resources" => resources,
        });
        self.pages.push(page.into());
        self
    }

    /// A page that shows one picture, which covers it; `matrix` places it.
    pub(super) fn picture(mut self, picture: Stream, matrix: &str, rotate: i64) -> Self {
        let id = self.document.add_object(picture);
        let resources = dictionary! { "XObject" => dictionary! { "P" => id } };
        self.page_with(&format!("q {matrix} cm /P Do Q"), rotate, resources.into())
    }

    pub(super) fn outline(mut self, titles: &[&str]) -> Self {
        self.outline = titles.iter().map(ToString::to_string).collect();
        self
    }

    fn finish(mut self) -> Document {
        let count = self.pages.len() as i64;
        let first = self.pages[0].clone();
        let pages = dictionary! { "Type" => "Pages", "Kids" => self.pages, "Count" => count };
        self.document.objects.insert(self.tree, pages.into());
        let mut catalog = dictionary! { "Type" => "Catalog", "Pages" => self.tree };
        if let Some(title) = self.outline.first() {
            let root = self.document.new_object_id();
            let item = self.document.add_object(dictionary! {
                "Title" => Object::string_literal(title.as_str()), "Parent" => root,
                "Dest" => vec![first, "Fit".into()],
            });
            let outlines =
                dictionary! { "Type" => "Outlines", "First" => item, "Last" => item, "Count" => 1 };
            self.document.objects.insert(root, outlines.into());
            catalog.set("Outlines", root);
        }
        let catalog = self.document.add_object(catalog);
        self.document.trailer.set("Root", catalog);
        let id = Object::string_literal("0123456789abcdef");
        self.document.trailer.set("ID", vec![id.clone(), id]);
        self.document
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        save(self.finish())
    }

    pub(super) fn encrypted(self, user_password: &str) -> Vec<u8> {
        let mut document = self.finish();
        let version = EncryptionVersion::V2 {
            document: &document,
            owner_password: "owner",
            user_password,
            key_length: 128,
            permissions: Permissions::all(),
        };
        let state = EncryptionState::try_from(version).unwrap();
        document.encrypt(&state).unwrap();
        save(document)
    }
}

fn save(mut document: Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

/// One line of 10-point type whose characters are 5 points wide.
pub(super) fn text_at(x: i32, y: i32, text: &str) -> String {
    format!("BT /F 10 Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET ")
}

/// 10-point type whose characters are 6 points wide.
pub(super) fn fixed_text_at(x: i32, y: i32, text: &str) -> String {
    format!("BT /M 10 Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET ")
}
