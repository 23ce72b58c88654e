//! A PDF font as far as text needs it: how long its codes are, what they mean, how wide they are.
//!
//! The meaning comes from `ToUnicode`, else from the encoding: the one-byte ones with their differences, and those
//! predefined for Chinese, Japanese and Korean whose codes are themselves a known character encoding.

mod base14;

use std::collections::HashMap;

use encoding_rs::Encoding;
use lopdf::{Dictionary, Document, Object};

use super::MAX_STREAM_BYTES;
use super::cmap::CMap;

/// One shown code.
pub(super) struct Shown<'a> {
    /// What it means; `None` if the font doesn't say.
    pub(super) text: Option<std::borrow::Cow<'a, str>>,
    /// In units of the type's size.
    pub(super) width: f64,
    /// A one-byte code 32, to which word spacing applies.
    pub(super) is_space_code: bool,
}

#[derive(Debug)]
enum Codes {
    /// One byte; the meaning of each.
    Simple(Vec<Option<String>>),
    /// Two bytes, or what the `CMap`'s code spaces say.
    Composite(Vec<(usize, u32, u32)>),
    /// The codes are characters of this encoding.
    Known(&'static Encoding),
}

#[derive(Debug)]
pub(super) struct Font {
    codes: Codes,
    to_unicode: CMap,
    widths: HashMap<u32, f64>,
    default_width: f64,
    pub(super) bold: bool,
}

impl Font {
    pub(super) fn load(document: &Document, dictionary: &Dictionary) -> Self {
        let to_unicode = entry(document, dictionary, b"ToUnicode").map_or_else(CMap::default, |object| {
            let stream = object.as_stream().ok();
            let program =
                stream.and_then(|stream| stream.decompressed_content_with_limit(MAX_STREAM_BYTES).ok());
            CMap::parse(&program.unwrap_or_default())
        });
        let name = dictionary.get(b"BaseFont").and_then(Object::as_name).unwrap_or_default();
        let name = String::from_utf8_lossy(name).to_lowercase();
        let mut font = Self {
            codes: Codes::Composite(Vec::new()),
            to_unicode,
            widths: HashMap::new(),
            default_width: 0.5,
            bold: ["bold", "black", "heavy", "semibold"].iter().any(|word| name.contains(word)),
        };
        let subtype = dictionary.get(b"Subtype").and_then(Object::as_name).unwrap_or_default();
        if subtype == b"Type0" {
            font.load_composite(document, dictionary);
        } else {
            font.load_simple(document, dictionary, subtype == b"Type3", &name);
        }
        font
    }

    /// Takes a string apart into its codes.
    pub(super) fn decode<'a>(&'a self, bytes: &[u8], mut show: impl FnMut(Shown<'a>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.code_length(rest).clamp(1, rest.len());
            let (code, after) = rest.split_at(length);
            rest = after;
            let number = code.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
            show(Shown {
                text: self.text(code, number),
                width: self.width(code, number),
                is_space_code: code == b" ",
            });
        }
    }

    fn text(&self, code: &[u8], number: u32) -> Option<std::borrow::Cow<'_, str>> {
        if let Some(text) = self.to_unicode.text(number) {
            return Some(text.into());
        }
        match &self.codes {
            Codes::Simple(meanings) => meanings[number as usize & 0xff].as_deref().map(Into::into),
            Codes::Known(encoding) => encoding
                .decode_without_bom_handling_and_without_replacement(code)
                .map(|text| text.into_owned().into()),
            Codes::Composite(_) => None,
        }
    }

    fn width(&self, code: &[u8], number: u32) -> f64 {
        match &self.codes {
            // Widths are given by character id, which these codes aren't; ASCII is half as wide as the rest.
            Codes::Known(_) if number < 0x80 || code.len() == 1 => self.default_width / 2.0,
            Codes::Known(_) => self.default_width,
            _ => self.widths.get(&number).copied().unwrap_or(self.default_width),
        }
    }

    fn code_length(&self, bytes: &[u8]) -> usize {
        match &self.codes {
            Codes::Simple(_) => 1,
            Codes::Composite(spaces) => {
                let fits = |length: usize| {
                    let Some(code) = bytes.get(..length) else {
                        return false;
                    };
                    let code = code.iter().fold(0u32, |code, &byte| code << 8 | u32::from(byte));
                    spaces.iter().any(|&(n, first, last)| n == length && (first..=last).contains(&code))
                };
                (1..=4).find(|&length| fits(length)).unwrap_or(2)
            }
            Codes::Known(encoding) if encoding.name().starts_with("UTF-16") => {
                if (0xd8..0xdc).contains(&bytes[0]) { 4 } else { 2 }
            }
            Codes::Known(_) => match bytes {
                [0..=0x80, ..] => 1,
                // GB18030's long codes have a digit second; no other encoding here has.
                [_, b'0'..=b'9', ..] => 4,
                _ => 2,
            },
        }
    }

    fn load_composite(&mut self, document: &Document, dictionary: &Dictionary) {
        self.default_width = 1.0;
        let encoding = entry(document, dictionary, b"Encoding");
        if let Some(name) = encoding.and_then(|object| object.as_name().ok()) {
            if let Some(known) = known_encoding(name) {
                self.codes = Codes::Known(known);
            }
        } else if let Some(stream) = encoding.and_then(|object| object.as_stream().ok()) {
            let program = stream.decompressed_content_with_limit(MAX_STREAM_BYTES).unwrap_or_default();
            self.codes = Codes::Composite(CMap::parse(&program).code_spaces);
        }
        let descendant = entry(document, dictionary, b"DescendantFonts")
            .and_then(|object| object.as_array().ok())
            .and_then(|fonts| fonts.first())
            .and_then(|object| document.dereference(object).ok())
            .and_then(|(_, object)| object.as_dict().ok());
        let Some(descendant) = descendant else {
            return;
        };
        if let Some(width) = entry(document, descendant, b"DW").and_then(number) {
            self.default_width = width / 1000.0;
        }
        let array = entry(document, descendant, b"W").and_then(|object| object.as_array().ok());
        self.load_cid_widths(document, array.map_or(&[], Vec::as_slice));
    }

    /// `first [w w …]` or `first last w`.
    fn load_cid_widths(&mut self, document: &Document, array: &[Object]) {
        let resolve = |object| document.dereference(object).map_or(object, |(_, object)| object);
        let mut rest = array;
        while let [first, second, after @ ..] = rest {
            let Some(first) = number(resolve(first)) else {
                return;
            };
            let first = first as u32;
            if let Ok(widths) = resolve(second).as_array() {
                for (offset, width) in widths.iter().enumerate() {
                    let width = number(resolve(width)).unwrap_or(1000.0);
                    self.widths.insert(first.saturating_add(offset as u32), width / 1000.0);
                }
                rest = after;
            } else if let ([width, after @ ..], Some(last)) = (after, number(resolve(second))) {
                let width = number(resolve(width)).unwrap_or(1000.0) / 1000.0;
                for cid in first..=(last as u32).min(first.saturating_add(0xffff)) {
                    self.widths.insert(cid, width);
                }
                rest = after;
            } else {
                return;
            }
        }
    }

    fn load_simple(&mut self, document: &Document, dictionary: &Dictionary, type3: bool, name: &str) {
        let encoding = dictionary.get_font_encoding_with_limit(document, MAX_STREAM_BYTES).ok();
        let meaning = |byte: u8| {
            let text = encoding.as_ref()?.bytes_to_string(&[byte]).ok()?;
            Some(text).filter(|text| !text.is_empty() && !text.contains('\u{fffd}'))
        };
        self.codes = Codes::Simple((0..=255).map(meaning).collect());
        // Widths are thousandths of the size, but in a Type 3 font units of its own matrix.
        let matrix = entry(document, dictionary, b"FontMatrix").and_then(|object| object.as_array().ok());
        let scale = matrix.and_then(|matrix| number(matrix.first()?)).filter(|_| type3);
        let scale = scale.unwrap_or(0.001);
        let first = entry(document, dictionary, b"FirstChar").and_then(number).unwrap_or(0.0) as u32;
        let array = entry(document, dictionary, b"Widths").and_then(|object| object.as_array().ok());
        if array.is_none() && !type3 {
            let known = (0..=255).filter_map(|code| Some((u32::from(code), base14::width(name, code)?)));
            self.widths.extend(known);
        }
        for (offset, width) in array.into_iter().flatten().enumerate().take(256) {
            let width = document.dereference(width).ok().and_then(|(_, object)| number(object));
            if let Some(width) = width {
                self.widths.insert(first.saturating_add(offset as u32), width * scale);
            }
        }
    }
}

/// The encodings predefined in ISO 32000-1, table 118, whose codes `encoding_rs` reads. `Identity-H` is none of them.
fn known_encoding(name: &[u8]) -> Option<&'static Encoding> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_suffix("-H").or_else(|| name.strip_suffix("-V")).unwrap_or(name);
    match name {
        _ if name.contains("UCS2") || name.contains("UTF16") => Some(encoding_rs::UTF_16BE),
        "GB-EUC" | "GBK-EUC" | "GBKp-EUC" | "GBK2K" | "GBpc-EUC" => Some(encoding_rs::GB18030),
        "B5pc" | "HKscs-B5" | "ETen-B5" | "ETenms-B5" => Some(encoding_rs::BIG5),
        "83pv-RKSJ" | "90ms-RKSJ" | "90msp-RKSJ" | "90pv-RKSJ" => Some(encoding_rs::SHIFT_JIS),
        "EUC" => Some(encoding_rs::EUC_JP),
        "KSC-EUC" | "KSCms-UHC" | "KSCms-UHC-HW" | "KSCpc-EUC" => Some(encoding_rs::EUC_KR),
        _ => None,
    }
}

pub(super) fn entry<'a>(
    document: &'a Document,
    dictionary: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Object> {
    let object = dictionary.get(key).ok()?;
    document.dereference(object).ok().map(|(_, object)| object)
}

pub(super) fn number(object: &Object) -> Option<f64> {
    match object {
        Object::Integer(value) => Some(*value as f64),
        Object::Real(value) => Some(f64::from(*value)),
        _ => None,
    }
}
