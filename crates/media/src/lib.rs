//! Pictures to text: `hearth ocr`, and what the knowledge base reads scans with.
//!
//! [`OcrModel`] is opened from a folder with a detector and a recogniser in ONNX files (PP-OCR, Baidu) and turns a
//! picture into lines with their places. Modules in the order in which data flows:
//!
//! * [`picture`] — RGB bytes; scaling, turning, cutting out crooked rectangles
//! * [`onnx`] — the container of the models
//! * [`network`] — a graph of it, channels last, over the kernels' convolutions
//! * [`geometry`] — hulls, smallest rectangles, perspective
//! * [`detect`] — where lines of text are (`DBNet`, Liao et al. 2020)
//! * [`recognise`] — what a line says (CTC, Graves et al. 2006)
//! * [`order`] — which way up the page is, and the order of its lines
//! * [`ocr`] — all of it
//!
//! Left out: decoding of picture files (the caller's), layout of pages, handwriting, scripts the dictionary lacks.

pub mod detect;
mod error;
pub mod geometry;
pub mod network;
pub mod ocr;
pub mod onnx;
pub mod order;
pub mod picture;
pub mod recognise;

pub use error::{Error, Result};
pub use ocr::{OcrLine, OcrModel};
