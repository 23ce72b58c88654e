//! Pages that are pictures: the pixels of what is drawn on them, turned upright, for the reader of pictures.
//!
//! Read are JPEG, CCITT fax (groups 3 and 4), JBIG2 and plain pixels in the usual colour spaces. JPEG 2000 isn't.

use image::{DynamicImage, RgbImage};
use lopdf::{Dictionary, Document, Object, Stream};

use super::content::{Drawn, Page};
use super::font::{entry, number};
use super::layout::{self, Paragraph};
use crate::extract::picture;
use crate::picture::{Picture, PictureReader};

/// The largest picture that is decoded. A4 at 600 dots an inch has 35 million pixels.
const MAX_PIXELS: u64 = 80_000_000;

/// What the other filters around a picture's own may unpack to.
const MAX_ENCODED_BYTES: usize = 256 << 20;

/// Smaller pictures on a page are ornaments, in points.
const MIN_SIDE: f64 = 40.0;

/// A page with more text than this needs no reader of pictures.
const MAX_CHARS: usize = 100;

/// A picture that covers this share of a page is the page.
const MIN_COVER: f64 = 0.5;

/// The pictures that hold the page's text, if it has hardly any of its own.
pub(super) fn pictures_to_read(page: &Page, size: (f64, f64)) -> Vec<&Drawn> {
    let large = |drawn: &&Drawn| drawn.width >= MIN_SIDE && drawn.height >= MIN_SIDE;
    let pictures: Vec<&Drawn> = page.pictures.iter().filter(large).collect();
    let cover: f64 = pictures.iter().map(|drawn| drawn.width * drawn.height).sum();
    let num_chars = page.text.chars().filter(|c| !c.is_whitespace()).count();
    let is_scan = num_chars == 0 || num_chars < MAX_CHARS && cover >= MIN_COVER * size.0 * size.1;
    if is_scan { pictures } else { Vec::new() }
}

/// The page's width, height and quarter turns clockwise.
pub(super) fn page_box(document: &Document, page: &Dictionary) -> ((f64, f64), u8) {
    let inherited = |key: &[u8]| {
        let mut node = page;
        // A tree of pages deeper than this is a loop.
        for _ in 0..64 {
            if let Some(value) = entry(document, node, key) {
                return Some(value);
            }
            node = entry(document, node, b"Parent")?.as_dict().ok()?;
        }
        None
    };
    let corners: Vec<f64> = inherited(b"MediaBox")
        .and_then(|object| object.as_array().ok())
        .map(|array| array.iter().filter_map(number).collect())
        .unwrap_or_default();
    let size = match corners.as_slice() {
        [x0, y0, x1, y1] => ((x1 - x0).abs(), (y1 - y0).abs()),
        // A4.
        _ => (595.0, 842.0),
    };
    let turns = inherited(b"Rotate").and_then(number).unwrap_or(0.0) / 90.0;
    (size, (turns as i64).rem_euclid(4) as u8)
}

/// What the reader finds in one picture; the reason if nothing can be read.
pub(super) fn read(
    document: &Document,
    drawn: &Drawn,
    page_turns: u8,
    reader: &dyn PictureReader,
    notes: &mut Vec<String>,
) -> Result<Vec<Paragraph>, String> {
    let stream =
        document.get_object(drawn.id).and_then(Object::as_stream).map_err(|error| error.to_string())?;
    let image = decode(document, stream)?;
    // `drawn.turn` counts against the clock, the page's turn with it.
    let image = match (page_turns + 4 - drawn.turn) % 4 {
        0 => image,
        1 => image.rotate90(),
        2 => image.rotate180(),
        _ => image.rotate270(),
    };
    let sideways = (page_turns + 4 - drawn.turn) % 2 == 1;
    let shown_width = if sideways { drawn.height } else { drawn.width };
    let scale = shown_width / f64::from(image.width().max(1));
    let picture: Picture = picture::on_white(&image);
    drop(image);
    let lines = reader.read(&picture)?;
    Ok(layout::paragraphs_of_picture(&picture::sure(lines, notes), scale))
}

fn decode(document: &Document, stream: &Stream) -> Result<DynamicImage, String> {
    let integer = |keys: [&[u8]; 2]| {
        let found = keys.iter().find_map(|key| entry(document, &stream.dict, key));
        found.and_then(number).unwrap_or(0.0) as u64
    };
    let (width, height) = (integer([b"Width", b"W"]), integer([b"Height", b"H"]));
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        return Err(format!("a picture of {width} x {height} pixels"));
    }
    let (width, height) = (width as u32, height as u32);
    let filters: Vec<&[u8]> = stream.filters().unwrap_or_default();
    let own = filters.iter().position(|filter| {
        matches!(*filter, b"DCTDecode" | b"DCT" | b"CCITTFaxDecode" | b"CCF" | b"JBIG2Decode" | b"JPXDecode")
    });
    let bytes = unpacked(stream, own.unwrap_or(filters.len()), &filters)?;
    let parameters = parameters(document, stream, own.unwrap_or(0));
    match own.map(|index| filters[index]) {
        None => {
            let space = Space::of(document, stream)?;
            space.pixels(&bytes, width, height)
        }
        Some(b"DCTDecode" | b"DCT") => {
            let picture = picture::decode(&bytes).map_err(|error| error.to_string())?;
            let image = RgbImage::from_raw(picture.width, picture.height, picture.rgb);
            image.map(DynamicImage::ImageRgb8).ok_or_else(|| "a JPEG of another size".into())
        }
        Some(b"CCITTFaxDecode" | b"CCF") => {
            let samples = fax(document, parameters, &bytes, width, height)?;
            Space::of(document, stream)?.pixels(&packed(&samples, width), width, height)
        }
        Some(b"JBIG2Decode") => {
            let samples = jbig2(document, parameters, &bytes, width, height)?;
            Space::of(document, stream)?.pixels(&packed(&samples, width), width, height)
        }
        Some(_) => Err("a picture in JPEG 2000, which can't be read yet".into()),
    }
}

/// The picture's data after the filters before its own.
fn unpacked(stream: &Stream, num_filters: usize, filters: &[&[u8]]) -> Result<Vec<u8>, String> {
    if num_filters == 0 {
        return Ok(stream.content.clone());
    }
    let names = filters[..num_filters].iter().map(|name| Object::Name(name.to_vec()));
    let mut dict = stream.dict.clone();
    dict.set("Filter", Object::Array(names.collect()));
    if let Ok(Object::Array(parameters)) = stream.dict.get(b"DecodeParms") {
        dict.set("DecodeParms", Object::Array(parameters.iter().take(num_filters).cloned().collect()));
    }
    let outer = Stream::new(dict, stream.content.clone());
    outer.decompressed_content_with_limit(MAX_ENCODED_BYTES).map_err(|error| error.to_string())
}

fn parameters<'a>(document: &'a Document, stream: &'a Stream, index: usize) -> Option<&'a Dictionary> {
    match entry(document, &stream.dict, b"DecodeParms")? {
        Object::Dictionary(parameters) => Some(parameters),
        Object::Array(all) => document.dereference(all.get(index)?).ok()?.1.as_dict().ok(),
        _ => None,
    }
}

/// Samples of one bit, the rows filled up to whole bytes.
fn packed(samples: &[bool], width: u32) -> Vec<u8> {
    let rows = samples.chunks(width as usize);
    let byte =
        |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at));
    rows.flat_map(|row| row.chunks(8).map(byte)).collect()
}

/// The samples of a fax picture: black is 0 unless the file says that it is 1.
fn fax(
    document: &Document,
    parameters: Option<&Dictionary>,
    bytes: &[u8],
    width: u32,
    height: u32,
) -> Result<Vec<bool>, String> {
    let get = |key: &[u8]| parameters.and_then(|parameters| entry(document, parameters, key));
    let k = get(b"K").and_then(number).unwrap_or(0.0);
    let columns = get(b"Columns").and_then(number).unwrap_or(1728.0) as u16;
    let black_is_1 = get(b"BlackIs1").and_then(|object| object.as_bool().ok()).unwrap_or(false);
    let size = width as usize * height as usize;
    let mut samples: Vec<bool> = Vec::with_capacity(size);
    let (columns, lines) = (columns.max(1), height.min(u32::from(u16::MAX)) as u16);
    let mut push = |transitions: &[u16]| {
        if samples.len() < size {
            let end = samples.len() + width as usize;
            let pels = fax::decoder::pels(transitions, columns).take(width as usize);
            samples.extend(pels.map(|color| (color == fax::Color::Black) == black_is_1));
            samples.resize(end, !black_is_1);
        }
    };
    let input = bytes.iter().copied();
    let read = if k < 0.0 {
        fax::decoder::decode_g4(input, columns, Some(lines), &mut push)
    } else if k == 0.0 {
        fax::decoder::decode_g3(input, &mut push)
    } else {
        return Err("a fax picture of mixed coding, which can't be read yet".into());
    };
    if read.is_none() && samples.is_empty() {
        return Err("a damaged fax picture".into());
    }
    samples.resize(size, !black_is_1);
    Ok(samples)
}

/// Collects the samples of a JBIG2 page, where black is 0 as ISO 32000-1, 7.4.7 wants it.
struct Samples(Vec<bool>);

impl hayro_jbig2::Decoder for Samples {
    fn push_pixel(&mut self, black: bool) {
        self.0.push(!black);
    }

    fn push_pixel_chunk(&mut self, black: bool, chunk_count: u32) {
        self.0.extend(std::iter::repeat_n(!black, chunk_count as usize * 8));
    }

    fn next_line(&mut self) {}
}

fn jbig2(
    document: &Document,
    parameters: Option<&Dictionary>,
    bytes: &[u8],
    width: u32,
    height: u32,
) -> Result<Vec<bool>, String> {
    let damaged = |error: hayro_jbig2::DecodeError| format!("a damaged JBIG2 picture ({error:?})");
    let settings = hayro_jbig2::DecodeSettings::default();
    let globals = parameters.and_then(|parameters| entry(document, parameters, b"JBIG2Globals"));
    let globals = globals.and_then(|object| object.as_stream().ok());
    let globals = globals.map(|stream| {
        stream.get_plain_content_with_limit(MAX_ENCODED_BYTES).unwrap_or_else(|_| stream.content.clone())
    });
    let shared =
        globals.map(|data| hayro_jbig2::Globals::new(&data, &settings)).transpose().map_err(damaged)?;
    let page = hayro_jbig2::Page::new_embedded(bytes, shared.as_ref(), &settings).map_err(damaged)?;
    if page.width() != width || page.height() != height {
        return Err("a JBIG2 picture of another size".into());
    }
    let size = width as usize * height as usize;
    let mut samples = Samples(Vec::with_capacity(size));
    page.decode(&mut samples).map_err(damaged)?;
    samples.0.resize(size, true);
    Ok(samples.0)
}

/// How the samples of a plain picture become colours (ISO 32000-1, 8.6 and 8.9.5).
struct Space {
    bits: u32,
    colors: Colors,
    /// Larger samples mean less ink than usual.
    inverted: bool,
}

enum Colors {
    Gray,
    Rgb,
    Cmyk,
    /// The colours the samples point to.
    Indexed(Vec<[u8; 3]>),
}

impl Space {
    fn of(document: &Document, stream: &Stream) -> Result<Self, String> {
        let get = |key: &[u8]| entry(document, &stream.dict, key);
        let is_mask = get(b"ImageMask").and_then(|object| object.as_bool().ok()).unwrap_or(false);
        let two_colors = stream.filters().is_ok_and(|filters| {
            filters.iter().any(|filter| matches!(*filter, b"CCITTFaxDecode" | b"CCF" | b"JBIG2Decode"))
        });
        let bits = get(b"BitsPerComponent").and_then(number).unwrap_or(8.0);
        let bits = if is_mask || two_colors { 1.0 } else { bits };
        let decode = get(b"Decode").and_then(|object| object.as_array().ok());
        let first = decode.and_then(|array| array.first()).and_then(number).unwrap_or(0.0);
        let last = decode.and_then(|array| array.get(1)).and_then(number).unwrap_or(1.0);
        let mut inverted = first > last;
        let colors = match get(b"ColorSpace") {
            None => Colors::Gray,
            Some(object) => colors(document, object, &mut inverted, 0)?,
        };
        // A larger highest sample than 1 belongs to an index, which isn't inverted.
        inverted &= !matches!(colors, Colors::Indexed(_));
        Ok(Self { bits: bits as u32, colors, inverted })
    }

    fn pixels(&self, bytes: &[u8], width: u32, height: u32) -> Result<DynamicImage, String> {
        if !matches!(self.bits, 1 | 2 | 4 | 8 | 16) {
            return Err(format!("a picture of {} bits a sample", self.bits));
        }
        let samples = match self.colors {
            Colors::Gray | Colors::Indexed(_) => 1,
            Colors::Rgb => 3,
            Colors::Cmyk => 4,
        };
        // Rows begin at whole bytes.
        let row_bytes = (width as usize * samples * self.bits as usize).div_ceil(8);
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for row in bytes.chunks(row_bytes).take(height as usize) {
            for x in 0..width as usize {
                let at = |index: usize| sample(row, x * samples + index, self.bits);
                let scaled = |index: usize| {
                    let value = at(index) * 255 / ((1 << self.bits.min(8)) - 1);
                    if self.inverted { 255 - value as u8 } else { value as u8 }
                };
                rgb.extend(match &self.colors {
                    Colors::Gray => [scaled(0); 3],
                    Colors::Rgb => [scaled(0), scaled(1), scaled(2)],
                    Colors::Cmyk => {
                        let ink = |index: usize| u32::from(255 - scaled(index));
                        [0, 1, 2].map(|index| (ink(index) * ink(3) / 255) as u8)
                    }
                    Colors::Indexed(colors) => colors.get(at(0) as usize).copied().unwrap_or([255; 3]),
                });
            }
        }
        rgb.resize(width as usize * height as usize * 3, 255);
        let image = RgbImage::from_raw(width, height, rgb);
        image.map(DynamicImage::ImageRgb8).ok_or_else(|| "a picture of another size".into())
    }
}

/// One sample; of 16 bits the upper 8.
fn sample(row: &[u8], index: usize, bits: u32) -> u32 {
    match bits {
        8 => u32::from(row.get(index).copied().unwrap_or(255)),
        16 => u32::from(row.get(index * 2).copied().unwrap_or(255)),
        _ => {
            let at = index * bits as usize;
            let byte = row.get(at / 8).copied().unwrap_or(255);
            u32::from(byte) >> (8 - bits as usize - at % 8) & ((1 << bits) - 1)
        }
    }
}

fn colors(document: &Document, space: &Object, inverted: &mut bool, depth: usize) -> Result<Colors, String> {
    let resolve = |object| document.dereference(object).map_or(object, |(_, object)| object);
    let (name, array): (&[u8], &[Object]) = match space {
        Object::Name(name) => (name, &[]),
        Object::Array(array) => {
            let name = array.first().map(resolve).and_then(|name| name.as_name().ok());
            (name.unwrap_or_default(), array)
        }
        _ => return Err("a picture in an unknown colour space".into()),
    };
    match name {
        b"DeviceGray" | b"CalGray" | b"G" => Ok(Colors::Gray),
        b"DeviceRGB" | b"CalRGB" | b"RGB" | b"Lab" => Ok(Colors::Rgb),
        b"DeviceCMYK" | b"CMYK" => Ok(Colors::Cmyk),
        b"ICCBased" => {
            let profile = array.get(1).map(resolve).and_then(|object| object.as_stream().ok());
            match profile.and_then(|stream| entry(document, &stream.dict, b"N")).and_then(number) {
                Some(3.0) => Ok(Colors::Rgb),
                Some(4.0) => Ok(Colors::Cmyk),
                _ => Ok(Colors::Gray),
            }
        }
        b"Separation" => {
            // The tint of one ink: more is darker.
            *inverted = !*inverted;
            Ok(Colors::Gray)
        }
        b"Indexed" | b"I" if depth == 0 => {
            let base = array.get(1).map(resolve).ok_or("a picture without its colours")?;
            let base = colors(document, base, &mut false, depth + 1)?;
            let table = match array.get(3).map(resolve) {
                Some(Object::String(bytes, _)) => bytes.clone(),
                Some(Object::Stream(stream)) => {
                    stream.get_plain_content_with_limit(1 << 16).map_err(|error| error.to_string())?
                }
                _ => return Err("a picture without its colours".into()),
            };
            Ok(Colors::Indexed(match base {
                Colors::Rgb => table.chunks_exact(3).map(|color| [color[0], color[1], color[2]]).collect(),
                Colors::Cmyk => table
                    .chunks_exact(4)
                    .map(|color| {
                        let ink = |index: usize| 255 - u32::from(color[index]);
                        [0, 1, 2].map(|index| (ink(index) * ink(3) / 255) as u8)
                    })
                    .collect(),
                _ => table.iter().map(|&gray| [gray; 3]).collect(),
            }))
        }
        _ => Err(format!("a picture in the colour space `{}`", String::from_utf8_lossy(name))),
    }
}
