//! Pictures made here come out as the same pixels, and a reader's lines as text.

use image::{ImageFormat, Rgba, RgbaImage};

use super::*;
use crate::document::DocumentKind;
use crate::extract::{extract, extract_all};
use crate::picture::PictureReader;

/// Says how large the picture is and what colour its first pixel has.
struct Describe;

impl PictureReader for Describe {
    fn read(&self, picture: &Picture) -> Result<Vec<PictureLine>, String> {
        let line = |text: String, y: f32, score: f32| PictureLine {
            text,
            score,
            quad: [[0.0, y], [90.0, y], [90.0, y + 14.0], [0.0, y + 14.0]],
        };
        Ok(vec![
            line(format!("{} by {}", picture.width, picture.height), 0.0, 0.9),
            line(format!("{:?}", &picture.rgb[..3]), 100.0, 0.9),
            line("noise".into(), 200.0, 0.1),
        ])
    }
}

fn file(format: ImageFormat) -> Vec<u8> {
    let image = RgbaImage::from_fn(30, 20, |_, _| Rgba([200, 100, 0, 255]));
    let image = DynamicImage::ImageRgba8(image);
    let image = if format == ImageFormat::Jpeg { image.to_rgb8().into() } else { image };
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn every_format_reaches_the_reader_with_its_pixels() {
    let options = ExtractOptions { pictures: Some(&Describe) };
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff] {
        let documents = extract_all("a/x", DocumentKind::Picture, &file(format), &options).unwrap();
        assert_eq!(documents[0].text(), "30 by 20\n[200, 100, 0]", "{format:?}");
        assert!(documents[0].notes[0].starts_with("1 of 3 lines"));
    }
    assert!(decode(&file(ImageFormat::Jpeg)).is_ok());
}

#[test]
fn transparency_shows_white() {
    let image = DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 51])));
    assert_eq!(on_white(&image).rgb, [204, 204, 204]);
}

#[test]
fn without_a_reader_or_with_a_broken_file_the_reason_is_told() {
    assert_eq!(extract("x.png", DocumentKind::Picture, &file(ImageFormat::Png)), Err(ExtractError::Picture));
    let options = ExtractOptions { pictures: Some(&Describe) };
    let cut = &file(ImageFormat::Png)[..40];
    let outcome = extract_all("x.png", DocumentKind::Picture, cut, &options);
    assert!(matches!(outcome, Err(ExtractError::Damaged { .. })), "{outcome:?}");
}

#[test]
fn a_picture_that_claims_to_be_enormous_is_refused() {
    let mut bytes = file(ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&1_000_000u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&1_000_000u32.to_le_bytes());
    assert!(matches!(decode(&bytes), Err(ExtractError::Damaged { .. })));
}
