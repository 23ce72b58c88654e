//! The real detector and recogniser, `pp-ocr-v6-small`, on pages drawn here with a font of five by seven dots.
//!
//! The model is pulled once into `$HEARTH_HOME`, or into a folder below the build folder that stays. Where no source can
//! be reached the tests say so and end.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]
#![expect(clippy::print_stdout, reason = "what was skipped is said")]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use hearth_artifacts::home::Home;
use hearth_artifacts::progress::Silent;
use hearth_hub::{Hub, HubConfig};
use hearth_kernels::pool::Pool;
use hearth_media::{Error, OcrLine, OcrModel};

/// Rows of five dots from the top; the highest bit is the left one.
const GLYPHS: [(char, [u8; 7]); 19] = [
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [30, 17, 17, 17, 17, 17, 30]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('N', [17, 25, 21, 19, 17, 17, 17]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('Y', [17, 17, 10, 4, 4, 4, 4]),
    ('2', [14, 17, 1, 2, 4, 8, 31]),
    ('3', [31, 2, 4, 2, 1, 17, 14]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    (' ', [0; 7]),
];
const DOT: usize = 4;
const LINES: [&str; 4] =
    ["THE KILN FURNACE", "HEATED CLAY 2347", "LATER CURED AND FLAT", "CHALK TURNED DARK"];

/// RGB, width, height.
#[derive(Clone)]
struct Page(Vec<u8>, usize, usize);

impl Page {
    fn blank(width: usize, height: usize) -> Self {
        Self(vec![255; width * height * 3], width, height)
    }

    /// Each text at its place, in ink of one grey.
    fn of(texts: &[(&str, usize, usize)]) -> Self {
        let mut page = Self::blank(640, 400);
        for &(text, left, top) in texts {
            for (index, character) in text.chars().enumerate() {
                let (_, rows) = GLYPHS.iter().find(|glyph| glyph.0 == character).unwrap();
                for (dot, row) in (0..35).map(|dot| (dot, rows[dot / 5])) {
                    if row >> (4 - dot % 5) & 1 == 1 {
                        page.square(left + (index * 6 + dot % 5) * DOT, top + dot / 5 * DOT);
                    }
                }
            }
        }
        page
    }

    fn square(&mut self, left: usize, top: usize) {
        for at in 0..DOT * DOT {
            let start = ((top + at / DOT) * self.1 + left + at % DOT) * 3;
            self.0[start..start + 3].fill(30);
        }
    }

    /// A quarter turn clockwise.
    fn turned(&self) -> Self {
        let mut page = Self::blank(self.2, self.1);
        for (at, pixel) in self.0.chunks_exact(3).enumerate() {
            let (x, y) = (self.2 - 1 - at / self.1, at % self.1);
            page.0[(y * self.2 + x) * 3..][..3].copy_from_slice(pixel);
        }
        page
    }

    fn read(&self, model: &OcrModel) -> Vec<OcrLine> {
        model.read(&self.0, self.1 as u32, self.2 as u32).unwrap()
    }
}

fn page() -> Page {
    let places: Vec<_> = LINES.iter().enumerate().map(|(index, text)| (*text, 60, 50 + index * 80)).collect();
    Page::of(&places)
}

static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let home = std::env::var_os("HEARTH_HOME")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hearth-home"), PathBuf::from);
    match Hub::new(&Home::at(home), HubConfig::from_env()).pull("pp-ocr-v6-small", &Silent) {
        Ok(local) => Some(local.path),
        Err(error @ (hearth_hub::Error::AllSourcesFailed { .. } | hearth_hub::Error::Offline { .. })) => {
            println!("skipped: the OCR model can't be pulled here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
});

/// One for all tests of the process, which then take turns instead of crowding the cores.
static MODEL: LazyLock<Option<OcrModel>> = LazyLock::new(|| open(2));

fn open(threads: usize) -> Option<OcrModel> {
    let folder = FOLDER.as_ref()?;
    Some(OcrModel::open_with(folder, Arc::new(Pool::new(threads))).unwrap())
}

fn texts(lines: &[OcrLine]) -> Vec<String> {
    // How wide a gap is a space is the font's matter.
    lines.iter().map(|line| line.text.replace(' ', "")).collect()
}

fn expected() -> Vec<String> {
    LINES.iter().map(|line| line.replace(' ', "")).collect()
}

#[test]
fn a_page_gives_its_lines_where_they_stand() {
    let Some(model) = MODEL.as_ref() else { return };
    let lines = page().read(model);
    assert_eq!(texts(&lines), expected());
    for (index, line) in lines.iter().enumerate() {
        assert!(line.score > 0.85 && line.score <= 1.0, "{line:?}");
        let (top, bottom) = (50.0 + 80.0 * index as f32, 78.0 + 80.0 * index as f32);
        let right = 60.0 + (LINES[index].len() * 24) as f32;
        let corners = [[60.0, top], [right, top], [right, bottom], [60.0, bottom]];
        for (found, corner) in line.quad.iter().zip(corners) {
            assert!((found[0] - corner[0]).hypot(found[1] - corner[1]) < 16.0, "{found:?} vs. {corner:?}");
        }
    }
}

#[test]
fn a_page_on_its_side_or_head_is_read_as_if_upright() {
    let Some(model) = MODEL.as_ref() else { return };
    let mut page = page();
    for quarters in 1..4 {
        page = page.turned();
        let lines = page.read(model);
        assert_eq!(texts(&lines), expected(), "{quarters} quarters");
        // Text begins where the page's upper left corner has gone.
        let [x, y] = lines[0].quad[0];
        let begins = [x > page.1 as f32 / 2.0, y > page.2 as f32 / 2.0];
        assert_eq!(begins, [[true, false], [true, true], [false, true]][quarters - 1], "{x} {y}");
    }
}

#[test]
fn threads_change_no_bit() {
    let (Some(one), Some(two)) = (open(1), MODEL.as_ref()) else { return };
    assert_eq!(page().read(&one), page().read(two));
}

#[test]
fn pictures_without_text_have_no_lines() {
    let Some(model) = MODEL.as_ref() else { return };
    for (width, height) in [(0, 0), (0, 9), (1, 1), (1, 900), (900, 1), (300, 200)] {
        assert_eq!(Page::blank(width, height).read(model), [], "{width}x{height}");
    }
    let noise = (0..200 * 100 * 3_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(Page(noise, 200, 100).read(model), []);
}

#[test]
fn bytes_of_another_size_are_refused() {
    let Some(model) = MODEL.as_ref() else { return };
    let error = model.read(&[0; 30], 4, 3).unwrap_err();
    assert!(matches!(error, Error::PictureSize { bytes: 30, expected: 36, .. }), "{error}");
}

#[test]
fn a_huge_picture_is_read_too() {
    let Some(model) = MODEL.as_ref() else { return };
    let small = page();
    let mut page = Page::blank(6400, 4000);
    for (at, pixel) in page.0.chunks_exact_mut(3).enumerate() {
        let from = (at / 6400 / 10 * small.1 + at % 6400 / 10) * 3;
        pixel.copy_from_slice(&small.0[from..from + 3]);
    }
    assert_eq!(texts(&page.read(model)), expected());
}

#[test]
fn damaged_and_missing_files_are_named() {
    let Some(folder) = FOLDER.as_ref() else { return };
    let (detector, recogniser) = ("PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx");
    let whole = fs_err::read(folder.join(detector)).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let check = |expected: &str| {
        let error = OcrModel::open(scratch.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("found nothing");
    fs_err::copy(folder.join(recogniser), scratch.path().join(recogniser)).unwrap();
    check("PP-OCRv6_rec_small.onnx");
    for bytes in [&whole[..whole.len() / 2], b"dear reader", b""] {
        fs_err::write(scratch.path().join(detector), bytes).unwrap();
        check(detector);
    }
    // Two detectors: the second has no dictionary.
    fs_err::write(scratch.path().join(detector), &whole).unwrap();
    fs_err::write(scratch.path().join(recogniser), &whole).unwrap();
    check("names no `character`s");
}
