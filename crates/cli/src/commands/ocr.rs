//! `hearth ocr`: the text of pictures, line by line; with `--json` an object a picture, with places and scores.
//!
//! A picture that can't be read is named and the others are read all the same; the exit code then is 1.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hearth_media::{OcrLine, OcrModel};
use image::{ImageDecoder, ImageReader, Limits, RgbImage, RgbaImage};
use serde_json::json;

use super::Context;
use crate::args::OcrArgs;

/// A page of A2 at 600 dots per inch has 139 million pixels; what is larger is an attack or a mistake.
const MAX_PIXELS: u64 = 200_000_000;

pub(super) fn run(context: &Context, args: &OcrArgs) -> Result<()> {
    let folder = match Path::new(&args.model).is_dir() {
        true => PathBuf::from(&args.model),
        false => context.machine.pull(&args.model, &context.terminal)?.path,
    };
    if !folder.is_dir() {
        bail!(
            "`{}` is no OCR model\nhint: `hearth pull pp-ocr-v6-small` pulls one; `--model` also takes a folder",
            args.model
        );
    }
    let model = OcrModel::open_with(&folder, Arc::clone(&context.machine.pool))?;
    let mut failed = 0;
    for path in &args.images {
        match read(&model, path) {
            Ok((picture, lines)) => print(context, path, &picture, &lines, args.images.len() > 1),
            Err(error) => {
                context.terminal.say(&format!("error: {error:#}"));
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} pictures weren't read", args.images.len()),
    }
}

fn read(model: &OcrModel, path: &Path) -> Result<(RgbImage, Vec<OcrLine>)> {
    let picture = decode(path).with_context(|| format!("`{}` can't be read as a picture", path.display()))?;
    let lines = model.read(&picture, picture.width(), picture.height());
    let lines = lines.with_context(|| format!("`{}`", path.display()))?;
    Ok((picture, lines))
}

/// Opaque, and the right way up by what the camera noted.
fn decode(path: &Path) -> Result<RgbImage> {
    let mut reader = ImageReader::new(BufReader::new(fs_err::File::open(path)?)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 4);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        bail!("it has {width}x{height} pixels, more than {MAX_PIXELS}");
    }
    let orientation = decoder.orientation()?;
    let mut picture = image::DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    match picture.color().has_alpha() {
        true => Ok(over_white(&picture.into_rgba8())),
        false => Ok(picture.into_rgb8()),
    }
}

fn over_white(picture: &RgbaImage) -> RgbImage {
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (to, from) in opaque.pixels_mut().zip(picture.pixels()) {
        let [channels @ .., alpha] = from.0.map(u32::from);
        to.0 = channels.map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    opaque
}

fn print(context: &Context, path: &Path, picture: &RgbImage, lines: &[OcrLine], is_one_of_many: bool) {
    if context.json {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| json!({ "text": line.text, "score": line.score, "quad": line.quad }))
            .collect();
        let (width, height) = picture.dimensions();
        context.print_json(&json!({ "image": path, "width": width, "height": height, "lines": lines }));
        return;
    }
    if is_one_of_many {
        context.print(&format!("== {}", path.display()));
    }
    for line in lines {
        context.print(&line.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_transparent_is_white() {
        let picture = RgbaImage::from_raw(3, 1, vec![0, 0, 0, 0, 10, 20, 30, 255, 0, 100, 200, 128]).unwrap();
        assert_eq!(over_white(&picture).into_raw(), [255, 255, 255, 10, 20, 30, 127, 177, 227]);
    }

    #[test]
    fn a_file_that_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.png");
        for bytes in [b"".as_slice(), b"dear reader", b"\x89PNG\r\n\x1a\n"] {
            fs_err::write(&path, bytes).unwrap();
            assert!(decode(&path).is_err());
        }
        assert!(decode(&folder.path().join("none.png")).unwrap_err().to_string().contains("none.png"));
    }
}
