//! Metadata values. A file with a vocabulary holds hundreds of thousands of strings, so opening only notes
//! where a value lies, after walking over it once to see that it ends inside the file.

use std::ops::Range;

use super::reader::Reader;
use crate::files::Result;

/// Arrays may hold arrays; no known file goes deeper than two, and the walk is recursive.
const MAX_DEPTH: usize = 4;

/// The value types, numbered as in `enum gguf_metadata_value_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::String,
            Kind::Array,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        ALL.get(number as usize).copied()
    }

    /// Bytes of a value; `None` where it depends on the value.
    fn num_bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

/// Where a checked value lies in the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    kind: Kind,
    range: Range<usize>,
}

/// A metadata value, borrowed from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any of the unsigned and signed integer types.
    Integer(i128),
    /// Either float type.
    Float(f64),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
}

/// A checked array of one kind of value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: u64,
    bytes: &'a [u8],
}

/// Reads a value's type and walks over the value.
pub(super) fn read_place(reader: &mut Reader<'_>, key: &str) -> Result<Place> {
    let what = format!("the value of metadata key `{key}`");
    let kind = read_kind(reader, &what)?;
    let start = reader.position();
    walk(reader, kind, &what, 0)?;
    Ok(Place { kind, range: start..reader.position() })
}

fn read_kind(reader: &mut Reader<'_>, what: &str) -> Result<Kind> {
    let number = reader.u32(what)?;
    Kind::from_number(number)
        .ok_or_else(|| reader.malformed(what.into(), format!("has the unknown type {number}")))
}

fn walk(reader: &mut Reader<'_>, kind: Kind, what: &str, depth: usize) -> Result<()> {
    if let Some(num_bytes) = kind.num_bytes() {
        let bytes = reader.bytes(num_bytes, what)?;
        return check_bools(reader, kind, bytes, what);
    }
    if kind == Kind::String {
        return reader.string(what).map(drop);
    }
    if depth == MAX_DEPTH {
        let problem = format!("is nested deeper than {MAX_DEPTH} arrays");
        return Err(reader.malformed(what.into(), problem));
    }
    let element = read_kind(reader, what)?;
    let len = reader.u64(what)?;
    if let Some(num_bytes) = element.num_bytes() {
        let bytes = reader.bytes(len.saturating_mul(num_bytes), what)?;
        return check_bools(reader, element, bytes, what);
    }
    // The least a string or an array takes is its length.
    reader.check_count(len, 8, what)?;
    (0..len).try_for_each(|_| walk(reader, element, what, depth + 1))
}

fn check_bools(reader: &Reader<'_>, kind: Kind, bytes: &[u8], what: &str) -> Result<()> {
    match bytes.iter().find(|&&byte| kind == Kind::Bool && byte > 1) {
        Some(byte) => Err(reader.malformed(what.into(), format!("holds {byte} as a bool"))),
        None => Ok(()),
    }
}

impl Place {
    /// The type's number, and the bytes after it.
    pub(super) fn raw<'a>(&self, file: &'a [u8]) -> (u32, &'a [u8]) {
        (self.kind as u32, &file[self.range.clone()])
    }

    pub(super) fn value<'a>(&self, file: &'a [u8]) -> Value<'a> {
        decode(self.kind, &file[self.range.clone()]).0
    }
}

fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) =
        bytes.split_first_chunk().expect("the walk at opening saw the value end inside the file");
    (*head, rest)
}

/// Decodes the value at the front of `bytes`, which the walk has checked, and returns what follows it.
fn decode(kind: Kind, bytes: &[u8]) -> (Value<'_>, &[u8]) {
    macro_rules! number {
        ($type:ty, $wrap:expr) => {{
            let (head, rest) = take(bytes);
            ($wrap(<$type>::from_le_bytes(head).into()), rest)
        }};
    }
    match kind {
        Kind::U8 => number!(u8, Value::Integer),
        Kind::I8 => number!(i8, Value::Integer),
        Kind::U16 => number!(u16, Value::Integer),
        Kind::I16 => number!(i16, Value::Integer),
        Kind::U32 => number!(u32, Value::Integer),
        Kind::I32 => number!(i32, Value::Integer),
        Kind::U64 => number!(u64, Value::Integer),
        Kind::I64 => number!(i64, Value::Integer),
        Kind::F32 => number!(f32, Value::Float),
        Kind::F64 => number!(f64, Value::Float),
        Kind::Bool => {
            let ([byte], rest) = take(bytes);
            (Value::Bool(byte == 1), rest)
        }
        Kind::String => {
            let (len, rest) = take(bytes);
            let (text, rest) = rest.split_at(u64::from_le_bytes(len) as usize);
            let text = std::str::from_utf8(text).expect("the walk at opening checked the UTF-8");
            (Value::String(text), rest)
        }
        Kind::Array => {
            let (array, rest) = decode_array(bytes);
            (Value::Array(array), rest)
        }
    }
}

fn decode_array(bytes: &[u8]) -> (Array<'_>, &[u8]) {
    let (number, rest) = take(bytes);
    let (len, rest) = take(rest);
    let kind = Kind::from_number(u32::from_le_bytes(number)).expect("the walk at opening checked the type");
    let len = u64::from_le_bytes(len);
    let end = match kind.num_bytes() {
        Some(num_bytes) => &rest[(len * num_bytes) as usize..],
        None => (0..len).fold(rest, |rest, _| decode(kind, rest).1),
    };
    let bytes = &rest[..rest.len() - end.len()];
    (Array { kind, len, bytes }, end)
}

impl<'a> Array<'a> {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.bytes;
        (0..self.len).map(move |_| {
            let (value, after) = decode(self.kind, rest);
            rest = after;
            value
        })
    }
}

impl Value<'_> {
    /// What a person who reads an error needs to see of the value.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Integer(value) => format!("the integer {value}"),
            Self::Float(value) => format!("the float {value}"),
            Self::Bool(value) => format!("the bool {value}"),
            Self::String(text) => {
                let start: String = text.chars().take(40).collect();
                format!("the string `{start}`")
            }
            Self::Array(array) => format!("an array of {} {:?} values", array.len, array.kind),
        }
    }
}

/// Types that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// For the error message, as in "expected …".
    const EXPECTED: &'static str;

    fn from_value(value: &Value<'a>) -> Option<Self>;
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

macro_rules! integer_from_value {
    ($type:ty, $expected:literal) => {
        impl FromValue<'_> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(value) => (*value).try_into().ok(),
                    _ => None,
                }
            }
        }
    };
}
integer_from_value!(u32, "an integer of 0 to 2^32 - 1");
integer_from_value!(u64, "an integer of 0 to 2^64 - 1");
integer_from_value!(i32, "an integer of -2^31 to 2^31 - 1");

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Float(value) => Some(*value as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

macro_rules! array_from_value {
    ($type:ty, $expected:literal) => {
        impl<'a> FromValue<'a> for Vec<$type> {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value<'a>) -> Option<Self> {
                match value {
                    Value::Array(array) => array.iter().map(|value| FromValue::from_value(&value)).collect(),
                    _ => None,
                }
            }
        }
    };
}
array_from_value!(&'a str, "an array of strings");
array_from_value!(u32, "an array of integers of 0 to 2^32 - 1");
array_from_value!(i32, "an array of integers of -2^31 to 2^31 - 1");
array_from_value!(f32, "an array of floats");
array_from_value!(bool, "an array of bools");
