//! A picture to its lines: detect, find out which way up the text is, read, order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_kernels::pool::Pool;

use crate::geometry::Quad;
use crate::network::Network;
use crate::picture::Picture;
use crate::recognise::{Dictionary, Reading};
use crate::{Error, Result, detect, order, recognise};

/// Lines that are read with less certainty are noise.
const MIN_SCORE: f32 = 0.5;
/// A line read with more certainty stands the right way up.
const SURE: f32 = 0.85;
/// Boxes higher than this are read turned by a quarter, as upright columns and pages that lie on their side are.
const TALL: f32 = 1.5;
/// Boxes lower than this may also hold one narrow upright letter.
const LETTER: f32 = 3.0;
/// As many of the longest lines tell whether the page is upside down.
const SAMPLE: usize = 6;

/// A line of text in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct OcrLine {
    pub text: String,
    /// Mean probability of the characters, from 0.5 to 1.
    pub score: f32,
    /// In pixels of the picture: the corners `[x, y]` clockwise, from the one where the text begins.
    pub quad: [[f32; 2]; 4],
}

/// A text detector and recogniser.
#[derive(Debug)]
pub struct OcrModel {
    detector: Network,
    recogniser: Network,
    dictionary: Dictionary,
    pool: Arc<Pool>,
}

impl OcrModel {
    /// From a folder that holds two ONNX files whose names contain `det` and `rec`. Uses all cores.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, Arc::new(Pool::new(Pool::default_threads())))
    }

    pub fn open_with(folder: &Path, pool: Arc<Pool>) -> Result<Self> {
        let (detector_path, recogniser_path) = find(folder)?;
        let detector = load(&detector_path)?;
        let recogniser = load(&recogniser_path)?;
        let bad = |reason| Error::BadModel { path: recogniser_path.clone(), reason };
        let dictionary = Dictionary::of(&recogniser).map_err(bad)?;
        Ok(Self { detector, recogniser, dictionary, pool })
    }

    /// The lines of a picture of `width * height` RGB pixels, in reading order.
    ///
    /// Transparency is the caller's: blend a picture with an alpha channel over white first, or text that is drawn on
    /// nothing is black on black. Scans may lie on their side or upside down. Pictures of any size are read in bounded memory:
    /// larger ones are shrunk to 1760 pixels for finding the lines, which are then cut out at full size.
    ///
    /// # Errors
    /// If the bytes aren't such a picture, or the model's file isn't what it seemed to be.
    pub fn read(&self, rgb: &[u8], width: u32, height: u32) -> Result<Vec<OcrLine>> {
        let picture = Picture::new(rgb, width, height)?;
        let boxes = detect::detect(&self.detector, &self.pool, &picture)?;
        let mut lines: Vec<(Quad, Reading)> = self.read_turned(&picture, boxes)?;
        lines.retain(|(_, reading)| reading.score >= MIN_SCORE && !reading.text.trim().is_empty());
        let quads: Vec<Quad> = lines.iter().map(|line| line.0).collect();
        let line = |index: usize| OcrLine {
            text: lines[index].1.text.trim().into(),
            score: lines[index].1.score,
            quad: lines[index].0.0.map(|corner| [corner.x, corner.y]),
        };
        Ok(order::reading_order(&quads).into_iter().map(line).collect())
    }

    fn read_quads(&self, picture: &Picture<'_>, quads: &[Quad]) -> Result<Vec<Reading>> {
        recognise::read(&self.recogniser, &self.dictionary, &self.pool, picture, quads)
    }

    /// Reads each box the way up that gives the surest text. Only what is unsure is read twice.
    fn read_turned(&self, picture: &Picture<'_>, boxes: Vec<Quad>) -> Result<Vec<(Quad, Reading)>> {
        let mut quads: Vec<Quad> =
            boxes.into_iter().map(|quad| if is_tall(&quad) { quad.turned(1) } else { quad }).collect();
        let mut readings = self.read_quads(picture, &quads)?;
        if self.is_upside_down(picture, &quads, &readings)? {
            for quad in &mut quads {
                *quad = quad.turned(2);
            }
            readings = self.read_quads(picture, &quads)?;
        }
        let mut lines: Vec<(Quad, Reading)> = quads.into_iter().zip(readings).collect();
        for quarters in [2, 3] {
            let unsure = |(quad, reading): &(Quad, Reading)| {
                reading.score < SURE && (quarters == 2 || is_letter(quad))
            };
            let again: Vec<usize> = (0..lines.len()).filter(|&index| unsure(&lines[index])).collect();
            let turned: Vec<Quad> = again.iter().map(|&index| lines[index].0.turned(quarters)).collect();
            let readings = self.read_quads(picture, &turned)?;
            for ((index, quad), reading) in again.into_iter().zip(turned).zip(readings) {
                if reading.score > lines[index].1.score && !reading.text.trim().is_empty() {
                    lines[index] = (quad, reading);
                }
            }
        }
        Ok(lines)
    }

    /// Whether the longest lines, where they aren't read with certainty, are read better from their other end.
    fn is_upside_down(&self, picture: &Picture<'_>, quads: &[Quad], readings: &[Reading]) -> Result<bool> {
        let mut sample: Vec<usize> = (0..quads.len()).collect();
        sample.sort_by(|&a, &b| quads[b].size()[0].total_cmp(&quads[a].size()[0]));
        sample.truncate(SAMPLE);
        let straight: f32 = sample.iter().map(|&index| readings[index].score).sum();
        if straight >= SURE * sample.len() as f32 {
            return Ok(false);
        }
        let turned: Vec<Quad> = sample.iter().map(|&index| quads[index].turned(2)).collect();
        let turned = self.read_quads(picture, &turned)?;
        Ok(turned.iter().map(|reading| reading.score).sum::<f32>() > straight)
    }
}

fn is_tall(quad: &Quad) -> bool {
    let [along, across] = quad.size();
    across >= TALL * along
}

/// Whether a box that is read along its longer side may hold one upright letter instead.
fn is_letter(quad: &Quad) -> bool {
    let [along, across] = quad.size();
    let [a, b, ..] = quad.0;
    let runs_down = (b.y - a.y).abs() > (b.x - a.x).abs();
    runs_down && along >= TALL * across && along < LETTER * across
}

/// The detector's and the recogniser's file.
fn find(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let mut names: Vec<String> = fs_err::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    let with = |part: &str| {
        let fits = |name: &&String| {
            let lower = name.to_lowercase();
            Path::new(&lower).extension().is_some_and(|extension| extension == "onnx") && lower.contains(part)
        };
        names.iter().find(fits).map(|name| folder.join(name))
    };
    match (with("det"), with("rec")) {
        (Some(detector), Some(recogniser)) => Ok((detector, recogniser)),
        _ => {
            let found = if names.is_empty() { "nothing".into() } else { names.join(", ") };
            Err(Error::NoModel { path: folder.into(), found })
        }
    }
}

fn load(path: &Path) -> Result<Network> {
    let bytes = fs_err::read(path)?;
    Network::parse(&bytes).map_err(|reason| Error::BadModel { path: path.into(), reason })
}
