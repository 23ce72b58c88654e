//! A file as bytes: unpacked, counted, and bounded against files that unpack without end.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Context;
use super::plan::Packing;
use crate::Result;

/// Text packs ten to one, logs a hundred to one. What unpacks to more than this is no text.
const MAX_RATIO: u64 = 1000;
/// Up to here nobody asks for the ratio.
const FREE_BYTES: u64 = 256 << 20;
/// A zstd frame may ask for no larger window: 128 MiB, what `zstd` itself unpacks without being told to.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER_BYTES: usize = 256 << 10;

/// Counts what is read of the file itself.
struct Counted<'a> {
    file: io::Take<fs_err::File>,
    total: &'a AtomicU64,
    here: std::rc::Rc<std::cell::Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.total.fetch_add(read as u64, Ordering::Relaxed);
        self.here.set(self.here.get() + read as u64);
        Ok(read)
    }
}

/// Stops what unpacks without end.
struct Guarded<R> {
    inner: R,
    packed: std::rc::Rc<std::cell::Cell<u64>>,
    unpacked: u64,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.unpacked += read as u64;
        if self.unpacked > FREE_BYTES && self.unpacked / MAX_RATIO > self.packed.get() {
            return Err(io::Error::other(format!(
                "{} bytes unpack to more than {}, over {MAX_RATIO} times as many: no text does",
                self.packed.get(),
                self.unpacked
            )));
        }
        Ok(read)
    }
}

/// Opens a piece of a file for reading, unpacked.
pub(super) fn open<'a>(context: &Context<'a>) -> Result<Box<dyn BufRead + 'a>> {
    let mut file = fs_err::File::open(&context.file.path)?;
    let piece = context.piece;
    if piece.start > 0 {
        file.seek(SeekFrom::Start(piece.start))?;
    }
    let here = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = Counted {
        file: file.take(piece.end - piece.start),
        total: context.read_bytes,
        here: std::rc::Rc::clone(&here),
    };
    let unpacked: Box<dyn Read + 'a> = match context.file.packing {
        Packing::None => return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, counted))),
        Packing::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted)))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(counted)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    let guarded = Guarded { inner: unpacked, packed: here, unpacked: 0 };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, guarded)))
}

/// How the next line was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It lies in the buffer, without its end.
    Whole,
    /// It has this many bytes, more than are allowed; the buffer holds how it begins.
    TooLong(u64),
    End,
}

/// Reads a line into `buffer`; one that is longer than `max` is read past without being held.
pub(super) fn next_line(reader: &mut dyn BufRead, buffer: &mut Vec<u8>, max: u64) -> io::Result<Line> {
    buffer.clear();
    let mut length = 0u64;
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(match length {
                0 => Line::End,
                _ if length > max => Line::TooLong(length),
                _ => Line::Whole,
            });
        }
        let end = memchr::memchr(b'\n', available);
        let taken = end.unwrap_or(available.len());
        let room = (max as usize).saturating_sub(buffer.len());
        buffer.extend_from_slice(&available[..taken.min(room)]);
        length += taken as u64;
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(if length > max { Line::TooLong(length) } else { Line::Whole });
        }
    }
}

/// All of a file, up to `max` bytes; `None` where it holds more.
pub(super) fn read_whole(reader: &mut dyn BufRead, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}
