//! Picture files → pixels for the reader of pictures, and its lines → paragraphs in reading order.

use std::collections::BTreeMap;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::pdf::layout;
use super::{ExtractOptions, Extracted};
use crate::document::Block;
use crate::error::ExtractError;
use crate::picture::{Picture, PictureLine};

/// The largest side of a picture. A0 at 300 dots an inch has 14,043.
const MAX_SIDE: u32 = 20_000;

/// What decoding one picture may take.
const MAX_PICTURE_BYTES: u64 = 512 << 20;

/// Lines the reader is less sure of than this are left out and counted.
const MIN_SCORE: f32 = 0.5;

pub(super) fn extract(bytes: &[u8], options: &ExtractOptions<'_>) -> Result<Extracted, ExtractError> {
    let Some(reader) = options.pictures else {
        return Err(ExtractError::Picture);
    };
    let picture = decode(bytes)?;
    let lines = reader.read(&picture).map_err(|reason| ExtractError::PictureReader { reason })?;
    let mut notes = Vec::new();
    let paragraphs = layout::paragraphs_of_picture(&sure(lines, &mut notes), 1.0);
    let blocks = super::pdf::blocks(vec![(1, paragraphs)], &BTreeMap::new());
    let blocks = blocks.into_iter().map(|block| Block { page: None, ..block }).collect();
    Ok(Extracted { blocks, notes, ..Extracted::default() })
}

/// Takes out lines that are hardly more than guessed.
pub(super) fn sure(mut lines: Vec<PictureLine>, notes: &mut Vec<String>) -> Vec<PictureLine> {
    let found = lines.len();
    lines.retain(|line| line.score >= MIN_SCORE && !line.text.trim().is_empty());
    if lines.len() < found {
        notes.push(format!(
            "{} of {found} lines in a picture are hard to read and were left out",
            found - lines.len()
        ));
    }
    lines
}

/// A file's first picture, turned upright.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, ExtractError> {
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(ExtractError::damaged)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PICTURE_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(ExtractError::damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(ExtractError::damaged)?;
    image.apply_orientation(orientation);
    Ok(on_white(&image))
}

/// Transparent pixels show the paper.
pub(super) fn on_white(image: &DynamicImage) -> Picture {
    let (width, height) = (image.width(), image.height());
    let rgb = if image.color().has_alpha() {
        let rgba = image.to_rgba8();
        let blend = |channel: u8, alpha: u8| {
            let alpha = u32::from(alpha);
            ((u32::from(channel) * alpha + 255 * (255 - alpha)) / 255) as u8
        };
        rgba.pixels().flat_map(|pixel| [0, 1, 2].map(|index| blend(pixel[index], pixel[3]))).collect()
    } else {
        image.to_rgb8().into_raw()
    };
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests;
