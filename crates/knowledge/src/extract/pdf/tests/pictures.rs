//! Pages that are pictures, in each way a PDF can hold one; all show a black square in the upper left corner.

use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use lopdf::{Dictionary, Object, Stream, dictionary};

use super::maker::{Maker, text_at};
use crate::document::DocumentKind;
use crate::error::ExtractError;
use crate::extract::{ExtractOptions, extract, extract_all};
use crate::picture::{Picture, PictureLine, PictureReader};

const WIDTH: u32 = 60;
const HEIGHT: u32 = 80;

fn is_black(x: u32, y: u32) -> bool {
    x < WIDTH / 2 && y < HEIGHT / 2
}

/// Says which corners are black, clockwise from the upper left.
struct Corners;

impl PictureReader for Corners {
    fn read(&self, picture: &Picture) -> Result<Vec<PictureLine>, String> {
        let (right, bottom) = (picture.width - 5, picture.height - 5);
        let dark = |(x, y): (u32, u32)| {
            let at = ((y * picture.width + x) * 3) as usize;
            if picture.rgb[at..at + 3].iter().all(|&channel| channel < 60) { "black" } else { "white" }
        };
        let corners = [(5, 5), (right, 5), (right, bottom), (5, bottom)].map(dark);
        let quad = [[0.0, 0.0], [50.0, 0.0], [50.0, 9.0], [0.0, 9.0]];
        Ok(vec![PictureLine { text: corners.join(" "), score: 1.0, quad }])
    }
}

const UPRIGHT: &str = "black white white white";
const MATRIX: &str = "595 0 0 842 0 0";

fn picture(entries: impl Into<Option<Dictionary>>, content: Vec<u8>) -> Stream {
    let mut dict = dictionary! { "Type" => "XObject", "Subtype" => "Image", "Width" => i64::from(WIDTH), "Height" => i64::from(HEIGHT) };
    dict.extend(&entries.into().unwrap_or_default());
    Stream::new(dict, content)
}

fn samples(bytes_of: impl Fn(bool) -> Vec<u8>) -> Vec<u8> {
    (0..HEIGHT)
        .flat_map(|y| (0..WIDTH).map(move |x| (x, y)))
        .flat_map(|(x, y)| bytes_of(is_black(x, y)))
        .collect()
}

fn bits(black: u8) -> Vec<u8> {
    let row = |y: u32| {
        let bit = move |x: u32| if x >= WIDTH { 0 } else { u8::from(is_black(x, y)) ^ (1 - black) };
        (0..WIDTH.div_ceil(8)).map(move |byte| (0..8).fold(0, |value, at| value << 1 | bit(byte * 8 + at)))
    };
    (0..HEIGHT).flat_map(row).collect()
}

fn fax() -> Vec<u8> {
    let mut encoder = fax::encoder::Encoder::new(fax::VecWriter::new());
    for y in 0..HEIGHT {
        let pels = (0..WIDTH).map(|x| if is_black(x, y) { fax::Color::Black } else { fax::Color::White });
        encoder.encode_line(pels, WIDTH as u16).unwrap();
    }
    encoder.finish().unwrap().finish()
}

/// A page information segment and a generic region in the fax coding (ITU-T T.88, 7.4.8 and 7.4.6).
fn jbig2() -> Vec<u8> {
    let segment = |number: u32, kind: u8, data: Vec<u8>| {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.extend([kind, 0, 1]);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let size = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    let page = [size.clone(), vec![0; 11]].concat();
    let region = [size, vec![0; 9], vec![1], fax()].concat();
    [segment(0, 48, page), segment(1, 38, region)].concat()
}

#[track_caller]
fn check(picture: Stream, matrix: &str, rotate: i64, expected: &str) {
    let bytes = Maker::default().picture(picture, matrix, rotate).bytes();
    let options = ExtractOptions { pictures: Some(&Corners) };
    let documents = extract_all("x.pdf", DocumentKind::Pdf, &bytes, &options).unwrap();
    assert_eq!(documents[0].text(), expected);
    assert_eq!(documents[0].blocks[0].page, Some(1));
}

fn gray() -> Stream {
    picture(
        dictionary! { "ColorSpace" => "DeviceGray", "BitsPerComponent" => 8 },
        samples(|black| vec![if black { 0 } else { 255 }]),
    )
}

#[test]
fn plain_pixels_of_every_colour_space() {
    check(gray(), MATRIX, 0, UPRIGHT);
    let mut packed = gray();
    packed.compress().unwrap();
    check(packed, MATRIX, 0, UPRIGHT);
    let rgb = samples(|black| if black { vec![0, 0, 0] } else { vec![255, 250, 240] });
    check(
        picture(dictionary! { "ColorSpace" => "DeviceRGB", "BitsPerComponent" => 8 }, rgb),
        MATRIX,
        0,
        UPRIGHT,
    );
    let cmyk = samples(|black| if black { vec![0, 0, 0, 255] } else { vec![0; 4] });
    check(
        picture(dictionary! { "ColorSpace" => "DeviceCMYK", "BitsPerComponent" => 8 }, cmyk),
        MATRIX,
        0,
        UPRIGHT,
    );
    let index = vec![
        "Indexed".into(),
        "DeviceRGB".into(),
        1.into(),
        Object::string_literal(vec![255, 255, 255, 0, 0, 0]),
    ];
    let entries = dictionary! { "ColorSpace" => index, "BitsPerComponent" => 1 };
    check(picture(entries, bits(1)), MATRIX, 0, UPRIGHT);
    check(
        picture(dictionary! { "ColorSpace" => "DeviceGray", "BitsPerComponent" => 1 }, bits(0)),
        MATRIX,
        0,
        UPRIGHT,
    );
    let inverted = dictionary! { "ImageMask" => true, "Decode" => vec![1.into(), 0.into()] };
    check(picture(inverted, bits(1)), MATRIX, 0, UPRIGHT);
}

#[test]
fn jpeg_fax_and_jbig2() {
    let image = GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([if is_black(x, y) { 0 } else { 255 }]));
    let mut jpeg = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageLuma8(image).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let entries =
        dictionary! { "Filter" => "DCTDecode", "ColorSpace" => "DeviceGray", "BitsPerComponent" => 8 };
    check(picture(entries, jpeg.into_inner()), MATRIX, 0, UPRIGHT);
    let parameters = dictionary! { "K" => -1, "Columns" => i64::from(WIDTH), "Rows" => i64::from(HEIGHT) };
    check(
        picture(dictionary! { "Filter" => "CCITTFaxDecode", "DecodeParms" => parameters }, fax()),
        MATRIX,
        0,
        UPRIGHT,
    );
    // Two ways to say that a 1 is black, which undo each other.
    let parameters = || dictionary! { "K" => -1, "Columns" => i64::from(WIDTH), "BlackIs1" => true };
    let inverted = dictionary! { "Filter" => "CCITTFaxDecode", "DecodeParms" => parameters(), "ColorSpace" => "DeviceGray" };
    check(picture(inverted.clone(), fax()), MATRIX, 0, "white black black black");
    let mut twice = inverted;
    twice.set("Decode", vec![1.into(), 0.into()]);
    check(picture(twice, fax()), MATRIX, 0, UPRIGHT);
    check(picture(dictionary! { "Filter" => "JBIG2Decode" }, jbig2()), MATRIX, 0, UPRIGHT);
}

#[test]
fn a_turned_page_or_picture_is_read_upright() {
    // The page is shown turned clockwise; the square goes from the upper left to the upper right.
    check(gray(), MATRIX, 90, "white black white white");
    check(gray(), MATRIX, 180, "white white black white");
    check(gray(), MATRIX, 270, "white white white black");
    // The picture is drawn turned against the clock.
    check(gray(), "0 842 -595 0 595 0", 0, "white white white black");
    check(gray(), "0 842 -595 0 595 0", 90, UPRIGHT);
}

#[test]
fn pages_with_text_stay_and_the_others_are_read_or_named() {
    let maker =
        || Maker::default().page(&text_at(50, 700, "The first page has text.")).picture(gray(), MATRIX, 0);
    let options = ExtractOptions { pictures: Some(&Corners) };
    let documents = extract_all("x.pdf", DocumentKind::Pdf, &maker().bytes(), &options).unwrap();
    let blocks: Vec<_> = documents[0].blocks.iter().map(|block| (block.page, block.text.as_str())).collect();
    assert_eq!(blocks, [(Some(1), "The first page has text."), (Some(2), UPRIGHT)]);
    let without = extract("x.pdf", DocumentKind::Pdf, &maker().bytes()).unwrap();
    assert_eq!(without.text(), "The first page has text.");
    assert_eq!(without.notes, ["no text, or hardly any, on pages [2] (scans?)"]);
    let only = Maker::default().picture(gray(), MATRIX, 0).bytes();
    assert_eq!(extract("x.pdf", DocumentKind::Pdf, &only), Err(ExtractError::Scan));
}

#[test]
fn pages_that_hold_nothing_but_the_same_line_keep_it() {
    let mut maker = Maker::default();
    for _ in 0..4 {
        maker = maker.picture(gray(), MATRIX, 0);
    }
    let options = ExtractOptions { pictures: Some(&Corners) };
    let documents = extract_all("x.pdf", DocumentKind::Pdf, &maker.bytes(), &options).unwrap();
    assert_eq!(documents[0].text(), [UPRIGHT; 4].join("\n"));
}

#[test]
fn a_picture_that_cannot_be_decoded_says_so() {
    let mut huge = gray();
    huge.dict.set("Width", 1_000_000);
    huge.dict.set("Height", 1_000_000);
    let bytes = Maker::default().page(&text_at(50, 700, "text")).picture(huge, MATRIX, 0).bytes();
    let options = ExtractOptions { pictures: Some(&Corners) };
    let documents = extract_all("x.pdf", DocumentKind::Pdf, &bytes, &options).unwrap();
    assert!(documents[0].notes[0].starts_with("page 2: a picture of 1000000 x"), "{:?}", documents[0].notes);
    let wavelets = Maker::default()
        .picture(picture(dictionary! { "Filter" => "JPXDecode" }, vec![1]), MATRIX, 0)
        .bytes();
    let outcome = extract_all("x.pdf", DocumentKind::Pdf, &wavelets, &options);
    assert!(matches!(outcome, Err(ExtractError::PictureReader { reason }) if reason.contains("JPEG 2000")));
}
