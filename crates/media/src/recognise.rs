//! What a line says: the network names the best character for each eighth of the line's height, and repeats and blanks
//! are dropped (Connectionist Temporal Classification, Graves et al. 2006, best path).

use hearth_kernels::pool::Pool;

use crate::geometry::Quad;
use crate::network::{Network, Tensor};
use crate::onnx::Problem;
use crate::picture::Picture;
use crate::{Error, Result};

/// Height of a line as the network sees it.
const HEIGHT: usize = 48;
/// Widths are rounded up to this, so that lines of about one length share a batch.
const WIDTH_STEP: usize = 64;
/// Narrower lines get room on the right, as in the model's training.
const MIN_WIDTH: usize = 320;
/// Longer lines are pressed together: 83 times as long as high.
const MAX_WIDTH: usize = 4000;
/// Columns of a batch: bounds memory.
const BATCH_COLUMNS: usize = 3840;
/// Pixels a line is cut out with, so that enormous letters cost no enormous memory.
const CUT_HEIGHT: f32 = 96.0;
const BLANK: usize = 0;

/// A text, and the mean probability of its characters: 0 where there are none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    pub text: String,
    pub score: f32,
}

/// The characters of the classes from 1 on; class 0 is the blank.
#[derive(Debug)]
pub struct Dictionary(Vec<String>);

impl Dictionary {
    /// From the recogniser's metadata: a character a line. The space, which no line can hold, is the last class.
    pub fn of(network: &Network) -> Result<Self, Problem> {
        let lines = network.metadata.get("character").ok_or("its metadata names no `character`s")?;
        let mut characters: Vec<String> = lines.lines().map(Into::into).collect();
        if characters.is_empty() {
            return Err("its list of characters is empty".into());
        }
        characters.push(" ".into());
        Ok(Self(characters))
    }

    pub fn classes(&self) -> usize {
        self.0.len() + 1
    }

    /// # Shapes
    /// steps `[T, 2]`: class and probability
    pub fn decode(&self, steps: &[f32]) -> Reading {
        let (mut text, mut sum, mut count, mut before) = (String::new(), 0.0, 0, BLANK);
        for step in steps.as_chunks::<2>().0 {
            let class = step[0] as usize;
            if class != before
                && class != BLANK
                && let Some(character) = self.0.get(class - 1)
            {
                text.push_str(character);
                sum += step[1];
                count += 1;
            }
            before = class;
        }
        let score = if count == 0 { 0.0 } else { sum / count as f32 };
        Reading { text, score }
    }
}

/// Reads the lines under `quads`, whose first corners are where their texts begin. In their order.
pub fn read(
    network: &Network,
    dictionary: &Dictionary,
    pool: &Pool,
    picture: &Picture<'_>,
    quads: &[Quad],
) -> Result<Vec<Reading>> {
    let mut readings = vec![Reading::default(); quads.len()];
    let sizes: Vec<[usize; 2]> = quads.iter().map(line_width).collect();
    let mut order: Vec<usize> = (0..quads.len()).filter(|&index| sizes[index][0] > 0).collect();
    order.sort_by_key(|&index| sizes[index][1]);
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        let width = sizes[first][1];
        let same = rest.iter().take_while(|&&index| sizes[index][1] == width).count();
        let (batch, after) = rest.split_at(same.min((BATCH_COLUMNS / width).max(1)));
        rest = after;
        let line = HEIGHT * width * 3;
        let mut input = vec![0.0; batch.len() * line];
        pool.for_each_chunk(&mut input, line, |at, input| {
            let quad = &quads[batch[at]];
            cut(picture, quad).scaled(sizes[batch[at]][0], HEIGHT).normalise(input, width);
        });
        let output = network.run(pool, Tensor::pictures([batch.len(), HEIGHT, width, 3], input))?;
        let &[count, steps, 2] = output.shape.as_slice() else {
            let reason = format!("shape {:?} instead of classes and probabilities", output.shape);
            return Err(Error::Node { node: "the output".into(), op: "the recogniser".into(), reason });
        };
        if count == batch.len() && steps > 0 {
            for (&index, steps) in batch.iter().zip(output.values.chunks_exact(steps * 2)) {
                readings[index] = dictionary.decode(steps);
            }
        }
    }
    Ok(readings)
}

/// Columns of a line at the network's height, and with its padding; 0 for what has no area.
fn line_width(quad: &Quad) -> [usize; 2] {
    let [along, across] = quad.size();
    if !(along >= 1.0 && across >= 1.0) {
        return [0, 0];
    }
    let width = (HEIGHT as f32 * along / across).ceil().clamp(1.0, MAX_WIDTH as f32) as usize;
    [width, width.max(MIN_WIDTH).next_multiple_of(WIDTH_STEP)]
}

fn cut(picture: &Picture<'_>, quad: &Quad) -> Picture<'static> {
    let [along, across] = quad.size();
    let scale = (CUT_HEIGHT / across).min(1.0);
    let longest = (MAX_WIDTH * 2) as f32;
    let side = |side: f32| (side * scale).round().clamp(1.0, longest) as usize;
    picture.cut(quad, side(along), side(across))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(classes: &[usize], expected: &str) {
        let dictionary = Dictionary(["a", "b", "中", " "].map(Into::into).to_vec());
        let steps: Vec<f32> = classes.iter().flat_map(|&class| [class as f32, 0.5]).collect();
        let reading = dictionary.decode(&steps);
        assert_eq!(reading.text, expected, "{classes:?}");
        assert_eq!(reading.score.to_bits(), if expected.is_empty() { 0.0_f32 } else { 0.5 }.to_bits());
    }

    #[test]
    fn repeats_are_one_unless_a_blank_stands_between() {
        check(&[], "");
        check(&[0, 0, 0], "");
        check(&[1], "a");
        check(&[1, 1, 1], "a");
        check(&[1, 0, 1], "aa");
        check(&[0, 1, 1, 2, 2, 0, 2, 4, 3], "abb 中");
        // A class beyond the dictionary is no character.
        check(&[9, 1], "a");
    }

    #[test]
    fn a_score_is_the_mean_over_the_characters_kept() {
        let dictionary = Dictionary(vec!["a".into(), "b".into()]);
        let reading = dictionary.decode(&[1.0, 0.9, 1.0, 0.1, 0.0, 0.2, 2.0, 0.7]);
        assert_eq!(reading.text, "ab");
        assert!((reading.score - 0.8).abs() < 1e-6);
    }

    #[test]
    fn widths_are_bounded_and_in_steps() {
        let width = |along: f32, across: f32| line_width(&Quad::rectangle(0.0, 0.0, along, across));
        assert_eq!(width(100.0, 48.0), [100, 320]);
        assert_eq!(width(96.0, 12.0), [384, 384]);
        assert_eq!(width(97.0, 12.0), [388, 448]);
        assert_eq!(width(1e9, 1.0), [4000, 4032]);
        assert_eq!(width(0.0, 10.0), [0, 0]);
        assert_eq!(width(f32::NAN, 10.0), [0, 0]);
    }
}
