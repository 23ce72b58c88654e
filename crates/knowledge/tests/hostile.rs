//! Files that are broken on purpose: every reader gives a document or a reason, and never a panic.
//!
//! What hangs is ended by the runner of the tests.

#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "this file holds nothing but tests"
)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use hearth_artifacts::progress::Silent;
use hearth_knowledge::ExtractError;
use hearth_knowledge::document::DocumentKind;
use hearth_knowledge::extract::{ExtractOptions, MAX_UNPACKED_BYTES, extract, extract_all};
use hearth_knowledge::folder::read_folder;
use hearth_knowledge::picture::{Picture, PictureLine, PictureReader};

struct OneLine;

impl PictureReader for OneLine {
    fn read(&self, picture: &Picture) -> Result<Vec<PictureLine>, String> {
        assert_eq!(picture.rgb.len(), picture.width as usize * picture.height as usize * 3);
        Ok(vec![PictureLine { text: "line".into(), score: 1.0, quad: [[0.0; 2]; 4] }])
    }
}

#[track_caller]
fn check(name: &str, kind: DocumentKind, bytes: &[u8]) -> Result<(), ExtractError> {
    let options = ExtractOptions { pictures: Some(&OneLine) };
    let outcome = extract_all(name, kind, bytes, &options);
    assert!(!matches!(outcome, Err(ExtractError::Panicked { .. })), "{name} {kind:?}: {outcome:?}");
    for document in outcome.as_deref().unwrap_or_default() {
        assert!(!document.blocks.is_empty());
    }
    outcome.map(|_| ())
}

fn zipped(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // Stored, so that mutations reach the content.
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in parts {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn relations(entries: &[(&str, &str, &str)]) -> String {
    let entries = entries.iter().map(|(id, kind, target)| {
        format!("<Relationship Id=\"{id}\" Type=\"x/{kind}\" Target=\"{target}\"/>")
    });
    format!("<Relationships>{}</Relationships>", entries.collect::<String>())
}

fn fixture(name: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// One well-formed file of each kind.
fn samples() -> Vec<(DocumentKind, Vec<u8>)> {
    let text = |source: &str| source.as_bytes().to_vec();
    vec![
        (
            DocumentKind::Markdown,
            text(
                "---\ntitle: T\n---\n# A\n\n- x\n  1. y\n\n|a|b|\n|-|-|\n|1|2|\n\n```\ncode\n```\n[l](u) *e*",
            ),
        ),
        (DocumentKind::Text, text("Title\n=====\n\ntext in a\nparagraph\n\n- item\n\n\u{4e2d}\u{6587}")),
        (
            DocumentKind::Html,
            text(
                "<html><head><meta charset=utf-8><title>T</title></head><body><h1>H</h1><table><tr><th colspan=2>a</th></tr><tr><td rowspan=3>1</td>\
                 </tr></table><dl><dt>t<dd>d</dl><ul><li>x<ol><li>y</ol></ul><pre>p</pre></body></html>",
            ),
        ),
        (DocumentKind::Pdf, fixture("english.pdf")),
        (DocumentKind::Pdf, fixture("chinese.pdf")),
        (DocumentKind::Docx, docx()),
        (DocumentKind::Csv, text("a,b\n\"1,\"\"x\",2\n")),
        (
            DocumentKind::Json,
            text(
                "{\"a\": [{\"b\": 1, \"c\": \"d\"}, {\"b\": 2}], \"nbformat\": 4, \"cells\": [{\"source\": [\"x\"]}]}",
            ),
        ),
        (
            DocumentKind::JsonLines,
            text("{\"_id\": \"1\", \"title\": \"t\", \"text\": \"x\"}\n{\"_id\": \"2\", \"text\": \"y\"}\n"),
        ),
        (DocumentKind::Xlsx, xlsx()),
        (DocumentKind::Pptx, pptx()),
        (DocumentKind::Epub, epub()),
        (
            DocumentKind::Email,
            text(
                "From: a@b\r\nSubject: =?utf-8?B?5p2O?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=gbk\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\na=20b=\r\nc\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nz\r\n--x--\r\n",
            ),
        ),
        (DocumentKind::OpenDocument, odt()),
        (
            DocumentKind::Xml,
            text(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><a><title>T</title><b>x &amp; y</b><![CDATA[z]]></a>",
            ),
        ),
        (DocumentKind::Code, text("fn a() {\n    b();\n}\n\nfn c() {}\n")),
        (DocumentKind::Picture, picture()),
    ]
}

fn docx() -> Vec<u8> {
    zipped(&[
        (
            "word/styles.xml",
            "<w:styles><w:style w:styleId=\"a\"><w:name w:val=\"heading 1\"/></w:style></w:styles>",
        ),
        (
            "word/document.xml",
            "<w:document><w:body><w:p><w:pPr><w:pStyle w:val=\"a\"/></w:pPr><w:r><w:t>Title</w:t></w:r></w:p><w:tbl><w:tr><w:tc>\
             <w:tcPr><w:gridSpan w:val=\"2\"/><w:vMerge/></w:tcPr><w:p><w:r><w:t>cell &amp; more</w:t></w:r></w:p></w:tc></w:tr>\
             </w:tbl></w:body></w:document>",
        ),
    ])
}

fn xlsx() -> Vec<u8> {
    zipped(&[
        ("xl/workbook.xml", "<workbook><sheets><sheet name=\"S\" r:id=\"a\"/></sheets></workbook>"),
        (
            "xl/_rels/workbook.xml.rels",
            &relations(&[
                ("a", "worksheet", "s.xml"),
                ("b", "sharedStrings", "t.xml"),
                ("c", "styles", "y.xml"),
            ]),
        ),
        ("xl/t.xml", "<sst><si><t>Part</t></si></sst>"),
        (
            "xl/y.xml",
            "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"yyyy/mm\"/></numFmts><cellXfs><xf numFmtId=\"164\"/></cellXfs></styleSheet>",
        ),
        (
            "xl/s.xml",
            "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" s=\"0\"><v>45351.5</v></c></row></sheetData>\
             <mergeCells><mergeCell ref=\"A1:A9\"/></mergeCells></worksheet>",
        ),
    ])
}

fn pptx() -> Vec<u8> {
    zipped(&[
        ("ppt/presentation.xml", "<p><sldIdLst><sldId id=\"1\" r:id=\"a\"/></sldIdLst></p>"),
        ("ppt/_rels/presentation.xml.rels", &relations(&[("a", "slide", "s.xml")])),
        (
            "ppt/s.xml",
            "<p:sld><p:spTree><p:sp><p:nvSpPr><p:nvPr><p:ph type=\"title\"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>Title</a:t></a:r>\
             </a:p></p:txBody></p:sp><p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>1</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl>\
             </p:graphicFrame></p:spTree></p:sld>",
        ),
    ])
}

fn epub() -> Vec<u8> {
    zipped(&[
        ("META-INF/container.xml", "<c><rootfile full-path=\"p.opf\"/></c>"),
        (
            "p.opf",
            "<package><manifest><item id=\"a\" href=\"a.html\"/></manifest><spine><itemref idref=\"a\"/></spine></package>",
        ),
        ("a.html", "<h1>One</h1><p>text</p>"),
    ])
}

fn odt() -> Vec<u8> {
    zipped(&[(
        "content.xml",
        "<c><office:body><office:text><text:h text:outline-level=\"1\">H</text:h><text:list><text:p>x</text:p></text:list><table:table>\
         <table:table-row table:number-rows-repeated=\"3\"><table:table-cell table:number-columns-repeated=\"2\"><text:p>1</text:p>\
         </table:table-cell></table:table-row></table:table></office:text></office:body></c>",
    )])
}

fn picture() -> Vec<u8> {
    let mut picture = Cursor::new(Vec::new());
    image::RgbImage::new(9, 7).write_to(&mut picture, image::ImageFormat::Png).unwrap();
    picture.into_inner()
}

/// A generator of small numbers (Knuth's MMIX constants); the same ones each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Changes bytes, cuts, repeats or removes a part, or puts in something that breaks parsers.
fn mutated(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const NASTY: [&[u8]; 12] = [
        b"<",
        b">",
        b"\"",
        b"&#x110000;",
        b"99999999999999999999",
        b"-1",
        b"\0",
        b"\xff\xfe",
        b"<![CDATA[",
        b"(((((",
        b"]]",
        b"\xf0\x9f",
    ];
    let mut out = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(out.len());
        let end = (at + numbers.below(40)).min(out.len());
        match numbers.below(6) {
            0 if !out.is_empty() => out[at] = numbers.below(256) as u8,
            1 => out.truncate(at),
            2 => drop(out.drain(at..end)),
            3 => {
                let part = out[at..end].repeat(1 + numbers.below(30));
                out.splice(at..at, part);
            }
            4 => drop(out.splice(at..end, NASTY[numbers.below(NASTY.len())].iter().copied())),
            _ if !out.is_empty() => out[at] ^= 1 << numbers.below(8),
            _ => {}
        }
    }
    out
}

#[test]
fn no_change_to_a_file_makes_its_reader_panic_or_hang() {
    let mut numbers = Numbers(20_260_424);
    for (kind, bytes) in samples() {
        check("whole", kind, &bytes).unwrap();
        let rounds = if kind == DocumentKind::Pdf { 150 } else { 400 };
        for round in 0..rounds {
            let _ = check(&format!("round {round}"), kind, &mutated(&bytes, &mut numbers));
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_read_or_refused() {
    for (kind, bytes) in samples() {
        for cut in (0..bytes.len()).step_by((bytes.len() / 60).max(1)) {
            let _ = check(&format!("cut {cut}"), kind, &bytes[..cut]);
        }
    }
}

#[test]
fn every_reader_survives_the_files_of_every_other() {
    let samples = samples();
    for (kind, _) in &samples {
        for (other, bytes) in &samples {
            let _ = check(&format!("{other:?}"), *kind, bytes);
        }
    }
}

#[test]
fn nesting_without_end_is_bounded() {
    let nest = |open: &str, close: &str, times: usize| open.repeat(times) + "text" + &close.repeat(times);
    let cases = [
        (DocumentKind::Html, nest("<div>", "</div>", 50_000)),
        (DocumentKind::Html, nest("<table><tr><td>", "</td></tr></table>", 20_000)),
        (DocumentKind::Html, nest("<ul><li>", "", 50_000)),
        (DocumentKind::Html, nest("<b><p>", "", 20_000)),
        (DocumentKind::Html, nest("<font color=1><p>", "", 20_000)),
        (DocumentKind::Markdown, nest("> ", "", 50_000)),
        (DocumentKind::Markdown, nest("- ", "", 50_000)),
        (DocumentKind::Markdown, nest("[", "](u)", 50_000)),
        (DocumentKind::Markdown, nest("*a **b ", "", 30_000)),
        (DocumentKind::Json, nest("[", "]", 100_000)),
        (DocumentKind::Json, nest("{\"a\":", "}", 100_000)),
        (DocumentKind::Xml, nest("<a>", "</a>", 100_000)),
        (DocumentKind::Email, nest("Content-Type: message/rfc822\r\n\r\n", "", 20_000)),
        (DocumentKind::Email, nest("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", "", 20_000)),
        (DocumentKind::Pdf, "%PDF-1.7\n1 0 obj\n".to_string() + &nest("[", "]", 100_000)),
        (DocumentKind::Pdf, "%PDF-1.7\n1 0 obj\n".to_string() + &nest("<</A", ">>", 100_000)),
    ];
    for (kind, source) in cases {
        let _ = check(&source[..20.min(source.len())], kind, source.as_bytes());
    }
    for part in ["word/document.xml", "content.xml", "xl/workbook.xml", "ppt/presentation.xml"] {
        let deep = zipped(&[(part, &nest("<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>", 30_000))]);
        for kind in [DocumentKind::Docx, DocumentKind::OpenDocument, DocumentKind::Xlsx, DocumentKind::Pptx] {
            let _ = check(part, kind, &deep);
        }
    }
}

#[test]
fn archives_that_unpack_without_end_are_refused() {
    let options = zip::write::SimpleFileOptions::default();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("word/document.xml", options).unwrap();
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..=(MAX_UNPACKED_BYTES >> 20) {
        writer.write_all(&spaces).unwrap();
    }
    let one = writer.finish().unwrap();
    // The same packed bytes under the other names.
    let mut one = zip::ZipArchive::new(one).unwrap();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in [
        "word/document.xml",
        "content.xml",
        "xl/workbook.xml",
        "ppt/presentation.xml",
        "META-INF/container.xml",
    ] {
        writer.raw_copy_file_rename(one.by_index_raw(0).unwrap(), name).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert!(bytes.len() < 8 << 20);
    for kind in [
        DocumentKind::Docx,
        DocumentKind::OpenDocument,
        DocumentKind::Xlsx,
        DocumentKind::Pptx,
        DocumentKind::Epub,
    ] {
        let outcome = extract("bomb", kind, &bytes);
        assert_eq!(outcome, Err(ExtractError::Bomb { limit: MAX_UNPACKED_BYTES }), "{kind:?}");
    }
}

#[test]
fn entities_that_multiply_are_never_expanded() {
    let level = |n: i32| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10));
    let levels = (1..30).map(level).collect::<Vec<_>>().concat();
    let bomb = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e0 \"ha\">{levels}]><x><p>start &e29; end</p></x>"
    );
    let document = extract("x.xml", DocumentKind::Xml, bomb.as_bytes()).unwrap();
    assert_eq!(document.text(), "start end");
    let docx = zipped(&[(
        "word/document.xml",
        &bomb.replace("<p>", "<w:p><w:r><w:t>").replace("</p>", "</w:t></w:r></w:p>"),
    )]);
    assert!(extract("x.docx", DocumentKind::Docx, &docx).unwrap().text().len() < 100);
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_of_two_gigabytes_is_named_and_not_read() {
    let folder = Folder(std::env::temp_dir().join(format!("hearth-large-{}", std::process::id())));
    fs_err::create_dir_all(&folder.0).unwrap();
    fs_err::write(folder.0.join("a.txt"), "small").unwrap();
    // Its bytes take no room on the disk.
    fs_err::File::create(folder.0.join("b.txt")).unwrap().set_len(2 << 30).unwrap();
    let corpus = read_folder(&folder.0, &Silent).unwrap();
    assert_eq!(corpus.documents.len(), 1);
    assert_eq!(corpus.skipped[0].reason, "2147483648 bytes, more than the limit of 268435456");
}

#[test]
fn ten_thousand_tiny_files_are_read_one_by_one() {
    let folder = Folder(std::env::temp_dir().join(format!("hearth-tiny-{}", std::process::id())));
    for index in 0..10_000 {
        let sub = folder.0.join((index % 100).to_string());
        if index < 100 {
            fs_err::create_dir_all(&sub).unwrap();
        }
        fs_err::write(sub.join(format!("{index}.txt")), format!("file {index}")).unwrap();
    }
    let corpus = read_folder(&folder.0, &Silent).unwrap();
    assert_eq!((corpus.documents.len(), corpus.skipped.len()), (10_000, 0));
}
