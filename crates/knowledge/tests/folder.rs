//! A folder with good, broken and hostile files gives its documents and says why the others are missing.

#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "this file holds nothing but tests"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use hearth_artifacts::progress::{Event, Progress, Silent};
use hearth_knowledge::document::{BlockKind, Corpus, Document, DocumentKind};
use hearth_knowledge::extract::extract;
use hearth_knowledge::folder::read_folder;
use hearth_knowledge::{Error, ExtractError};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hearth-folder-{name}-{}", std::process::id()));
        let _ = fs_err::remove_dir_all(&path);
        fs_err::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
        self
    }

    fn read(&self) -> Corpus {
        read_folder(&self.0, &Silent).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn pdf(name: &str) -> Result<Document, ExtractError> {
    extract(name, DocumentKind::Pdf, &fixture(name))
}

#[track_caller]
fn check_blocks(document: &Document, expected: &[(BlockKind, u32, &str)]) {
    let blocks: Vec<_> = document.blocks.iter().map(|b| (b.kind, b.page.unwrap(), b.text.as_str())).collect();
    assert_eq!(blocks, expected);
}

#[test]
fn an_english_pdf_gives_headings_lists_tables_and_pages() {
    let document = pdf("english.pdf").unwrap();
    assert_eq!(document.title, "Kestrel pump manual");
    assert_eq!(document.notes, ["6 running heads, feet and page numbers left out"]);
    check_blocks(
        &document,
        &[
            (BlockKind::Heading(1), 1, "Kestrel pump"),
            (BlockKind::Heading(2), 1, "Safety"),
            (
                BlockKind::Paragraph,
                1,
                "Disconnect the mains cable before you open the housing. \
                 The motor stays hot for about 25 minutes.",
            ),
            (BlockKind::ListItem, 1, "- Wear gloves."),
            (BlockKind::ListItem, 1, "- Keep children away."),
            (BlockKind::Heading(2), 2, "Technical data"),
            (BlockKind::TableHeader, 2, "Quantity | Value"),
            (BlockKind::TableRow, 2, "Mass | 3.4 kg"),
            (BlockKind::TableRow, 2, "Voltage | 230 V"),
            (BlockKind::Paragraph, 3, "The warranty ends after 37 months."),
        ],
    );
}

#[test]
fn a_chinese_pdf_without_embedded_fonts_is_read() {
    check_blocks(
        &pdf("chinese.pdf").unwrap(),
        &[
            (BlockKind::Heading(1), 1, "红隼水泵"),
            (
                BlockKind::Paragraph,
                1,
                "打开外壳之前请拔下电源线。电机在停机后约二十五分钟内仍然很热。额定电压为230 V。",
            ),
            (BlockKind::Paragraph, 1, "保修期为37个月。"),
        ],
    );
}

#[test]
fn columns_and_turned_pages_are_read_in_order() {
    check_blocks(
        &pdf("columns.pdf").unwrap(),
        &[
            (
                BlockKind::Paragraph,
                1,
                "The left column tells about the inlet valve and goes on to its end over here, \
                 where the outlet valve is described at last.",
            ),
            (BlockKind::Paragraph, 2, "This page is turned, but it reads all the same."),
        ],
    );
}

#[test]
fn protected_and_broken_pdfs_say_what_they_are() {
    assert_eq!(pdf("encrypted.pdf"), Err(ExtractError::Encrypted));
    assert!(matches!(pdf("truncated.pdf"), Err(ExtractError::Damaged { .. })));
    let nothing = extract("x.pdf", DocumentKind::Pdf, b"%PDF-1.7 nothing at all");
    assert!(matches!(nothing, Err(ExtractError::Damaged { .. })));
}

#[test]
fn a_pdf_cut_or_changed_anywhere_never_panics() {
    let bytes = fixture("english.pdf");
    for cut in (0..bytes.len()).step_by(97) {
        let _ = extract("x.pdf", DocumentKind::Pdf, &bytes[..cut]);
        let mut changed = bytes.clone();
        changed[cut] ^= 0x15;
        let outcome = extract("x.pdf", DocumentKind::Pdf, &changed);
        assert!(!matches!(outcome, Err(ExtractError::Panicked { .. })), "byte {cut}");
    }
}

#[test]
fn one_broken_file_never_stops_the_rest_and_each_is_named() {
    let folder = Folder::new("mixed");
    folder
        .write("b/two.md", "# Two\n\ntext")
        .write("a.txt", "plain")
        .write("手册.txt", "中文")
        .write("empty.txt", " \n")
        .write("picture.png", "x")
        .write("noise.txt", [0u8, 1, 2, 3])
        .write("broken.docx", "PK")
        .write("secret.pdf", fixture("encrypted.pdf"))
        .write(".hidden/x.md", "# no");
    let corpus = folder.read();
    let paths: Vec<_> = corpus.documents.iter().map(|document| document.path.as_str()).collect();
    assert_eq!(paths, ["a.txt", "b/two.md", "手册.txt"]);
    assert_eq!(corpus.documents[2].id.0, 2);
    let skipped: Vec<_> =
        corpus.skipped.iter().map(|file| format!("{}: {}", file.path.display(), file.reason)).collect();
    assert_eq!(skipped[0], ".hidden: hidden file");
    assert!(skipped[1].starts_with("broken.docx: damaged: "), "{}", skipped[1]);
    assert_eq!(
        skipped[2..],
        [
            "empty.txt: no text inside",
            "noise.txt: binary data, not text",
            "picture.png: a picture, and there is no reader of pictures (OCR)",
            "secret.pdf: protected by a password",
        ]
    );
    assert_eq!(folder.read(), corpus);
    assert_eq!(folder.read().hash(), corpus.hash());
    folder.write("a.txt", "other");
    assert_ne!(folder.read().hash(), corpus.hash());
}

#[test]
fn a_folder_without_documents_says_what_is_read() {
    let folder = Folder::new("empty");
    let message = read_folder(&folder.0, &Silent).unwrap_err().to_string();
    assert!(message.contains("PDF (.pdf)") && message.contains("(0 files skipped)"), "{message}");
    folder.write("x.exe", "x");
    let message = read_folder(&folder.0, &Silent).unwrap_err().to_string();
    assert!(message.contains("`x.exe`: unknown type `exe`"), "{message}");
    let missing = read_folder(&folder.0.join("missing"), &Silent);
    assert!(matches!(missing, Err(Error::NotAFolder { .. })));
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_and_names_that_are_no_unicode_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;

    let outside = Folder::new("outside");
    outside.write("secret.md", "# Secret");
    let folder = Folder::new("links");
    folder.write("sub/a.md", "# A");
    fs_err::os::unix::fs::symlink(&folder.0, folder.0.join("sub/up")).unwrap();
    fs_err::os::unix::fs::symlink(&outside.0, folder.0.join("out")).unwrap();
    fs_err::os::unix::fs::symlink(folder.0.join("nowhere"), folder.0.join("dead.md")).unwrap();
    let gbk_name = std::ffi::OsStr::from_bytes(b"\xca\xd6\xb2\xe1.txt");
    let mut file = fs_err::File::create(folder.0.join(gbk_name)).unwrap();
    file.write_all(b"text").unwrap();
    let corpus = folder.read();
    assert_eq!(corpus.documents.len(), 2);
    assert_eq!(corpus.documents[0].path, "sub/a.md");
    assert!(corpus.documents[1].title.contains('\u{fffd}'));
    assert_eq!(corpus.skipped.len(), 3);
}

#[test]
fn a_stop_is_heard_between_two_files() {
    struct Stop;
    impl Progress for Stop {
        fn event(&self, _event: Event<'_>) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let folder = Folder::new("stop");
    folder.write("a.txt", "text");
    assert!(matches!(read_folder(&folder.0, &Stop), Err(Error::Cancelled)));
}
