//! RGB bytes: scaling, bordering, cutting out crooked rectangles, and what networks take.

use std::borrow::Cow;

use crate::geometry::{Point, Quad, perspective};
use crate::{Error, Result};

const RGB: usize = 3;

/// Rows of RGB bytes, top to bottom.
#[derive(Debug, Clone)]
pub struct Picture<'a> {
    pub rgb: Cow<'a, [u8]>,
    pub width: usize,
    pub height: usize,
}

impl<'a> Picture<'a> {
    /// # Errors
    /// If the bytes aren't `width * height * 3`.
    pub fn new(rgb: &'a [u8], width: u32, height: u32) -> Result<Self> {
        let expected = u128::from(width) * u128::from(height) * RGB as u128;
        if rgb.len() as u128 != expected {
            return Err(Error::PictureSize { width, height, bytes: rgb.len(), expected });
        }
        Ok(Self { rgb: Cow::Borrowed(rgb), width: width as usize, height: height as usize })
    }

    fn owned(rgb: Vec<u8>, width: usize, height: usize) -> Picture<'static> {
        debug_assert_eq!(rgb.len(), width * height * RGB);
        Picture { rgb: Cow::Owned(rgb), width, height }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.rgb[y * self.width * RGB..][..self.width * RGB]
    }

    fn pixel(&self, x: usize, y: usize) -> [u8; RGB] {
        let at = (y * self.width + x) * RGB;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// To `width` x `height`: halved by means as long as it is twice too large, then bilinear, so that thin
    /// strokes of large scans don't fall between the samples.
    pub fn scaled(&self, width: usize, height: usize) -> Picture<'_> {
        if (self.width, self.height) == (width, height) {
            return Picture { rgb: Cow::Borrowed(&self.rgb), width, height };
        }
        let by = [self.width / width.max(1), self.height / height.max(1)];
        if by[0] >= 2 || by[1] >= 2 {
            let halved = self.shrunk(by.map(|by| by.clamp(1, 64)));
            return halved.bilinear(width, height);
        }
        self.bilinear(width, height)
    }

    /// Means of blocks of `across` x `down`; what is left at the right and lower edge is dropped.
    fn shrunk(&self, [across, down]: [usize; 2]) -> Picture<'static> {
        let (width, height) = (self.width / across, self.height / down);
        let mut rgb = Vec::with_capacity(width * height * RGB);
        let mut sums = vec![0_u32; width * RGB];
        let half = (across * down / 2) as u32;
        for y in 0..height {
            sums.fill(0);
            for line in 0..down {
                let row = &self.row(y * down + line)[..width * across * RGB];
                for (sums, block) in sums.chunks_exact_mut(RGB).zip(row.chunks_exact(across * RGB)) {
                    for (at, &value) in block.iter().enumerate() {
                        sums[at % RGB] += u32::from(value);
                    }
                }
            }
            rgb.extend(sums.iter().map(|&sum| ((sum + half) / (across * down) as u32) as u8));
        }
        Self::owned(rgb, width, height)
    }

    /// Centres of pixels stay centres; the edge goes on beyond itself.
    fn bilinear(&self, width: usize, height: usize) -> Picture<'static> {
        let spots = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
            let scale = from as f32 / to as f32;
            let spot = |at: usize| {
                let place = ((at as f32 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f32);
                (place as usize, (place as usize + 1).min(from - 1), place.fract())
            };
            (0..to).map(spot).collect()
        };
        let (columns, rows) = (spots(self.width, width), spots(self.height, height));
        let mut rgb = Vec::with_capacity(width * height * RGB);
        let mut mixed = vec![0.0_f32; self.width * RGB];
        for (above, below, share) in rows {
            for ((mixed, &above), &below) in mixed.iter_mut().zip(self.row(above)).zip(self.row(below)) {
                *mixed = f32::from(above) + (f32::from(below) - f32::from(above)) * share;
            }
            for &(left, right, share) in &columns {
                for channel in 0..RGB {
                    let (a, b) = (mixed[left * RGB + channel], mixed[right * RGB + channel]);
                    rgb.push((a + (b - a) * share + 0.5) as u8);
                }
            }
        }
        Self::owned(rgb, width, height)
    }

    /// With `across` more columns on both sides and `down` more rows above and below, in the mean colour of the edge.
    pub fn bordered(&self, across: usize, down: usize) -> Picture<'static> {
        let colour = self.edge_colour();
        let (width, height) = (self.width + 2 * across, self.height + 2 * down);
        let mut rgb = colour.repeat(width * height);
        for y in 0..self.height {
            let start = ((y + down) * width + across) * RGB;
            rgb[start..start + self.width * RGB].copy_from_slice(self.row(y));
        }
        Self::owned(rgb, width, height)
    }

    fn edge_colour(&self) -> [u8; RGB] {
        let (mut sums, mut count) = ([0_u64; RGB], 0);
        let mut add = |pixel: [u8; RGB]| {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(value));
            count += 1;
        };
        for x in 0..self.width {
            add(self.pixel(x, 0));
            add(self.pixel(x, self.height - 1));
        }
        for y in 0..self.height {
            add(self.pixel(0, y));
            add(self.pixel(self.width - 1, y));
        }
        sums.map(|sum| (sum / count.max(1)) as u8)
    }

    /// What lies under `quad`, straightened to `width` x `height`, bilinear.
    pub fn cut(&self, quad: &Quad, width: usize, height: usize) -> Picture<'static> {
        let map = perspective(width as f32, height as f32, quad);
        let limit = [(self.width - 1) as f32, (self.height - 1) as f32];
        let mut rgb = Vec::with_capacity(width * height * RGB);
        for y in 0..height {
            for x in 0..width {
                let Point { x, y } = map.apply(x as f32 + 0.5, y as f32 + 0.5);
                // NaN from a quad without area becomes 0.
                let (x, y) = ((x - 0.5).max(0.0).min(limit[0]), (y - 0.5).max(0.0).min(limit[1]));
                let (left, top) = (x as usize, y as usize);
                let (right, low) = ((left + 1).min(self.width - 1), (top + 1).min(self.height - 1));
                let (across, down) = (x.fract(), y.fract());
                let corners =
                    [(left, top), (right, top), (left, low), (right, low)].map(|(x, y)| self.pixel(x, y));
                for channel in 0..RGB {
                    let [a, b, c, d] = corners.map(|pixel| f32::from(pixel[channel]));
                    let (upper, lower) = (a + (b - a) * across, c + (d - c) * across);
                    rgb.push((upper + (lower - upper) * down + 0.5) as u8);
                }
            }
        }
        Self::owned(rgb, width, height)
    }

    /// Into `out` from -1 to 1, in the order blue, green, red that the models were trained with.
    ///
    /// # Shapes
    /// out `[H, out_width, 3]`; columns beyond the picture stay as they are
    pub fn normalise(&self, out: &mut [f32], out_width: usize) {
        for (to, y) in out.chunks_exact_mut(out_width * RGB).zip(0..self.height) {
            for (to, from) in to.chunks_exact_mut(RGB).zip(self.row(y).chunks_exact(RGB)) {
                for channel in 0..RGB {
                    to[channel] = f32::from(from[RGB - 1 - channel]) / 127.5 - 1.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8 * 4, y as u8 * 4, 100])).collect()
    }

    #[test]
    fn bytes_that_are_no_such_picture_are_refused() {
        for (bytes, width, height) in [(0, 1, 1), (3, 0, 0), (11, 2, 2), (3, u32::MAX, u32::MAX)] {
            let rgb = vec![0; bytes];
            assert!(Picture::new(&rgb, width, height).is_err(), "{bytes} for {width}x{height}");
        }
        assert!(Picture::new(&[1, 2, 3], 1, 1).is_ok());
        assert!(Picture::new(&[], 0, 7).is_ok());
    }

    #[test]
    fn one_colour_stays_that_colour_at_any_size() {
        let rgb = [7_u8, 80, 200].repeat(6 * 5);
        let picture = Picture::new(&rgb, 6, 5).unwrap();
        for (width, height) in [(1, 1), (3, 2), (6, 5), (13, 40)] {
            let scaled = picture.scaled(width, height);
            assert_eq!((scaled.width, scaled.height), (width, height));
            assert!(scaled.rgb.chunks(3).all(|pixel| pixel == [7, 80, 200]));
        }
        let bordered = picture.bordered(2, 3);
        assert_eq!(bordered.rgb, [7_u8, 80, 200].repeat(10 * 11));
    }

    #[test]
    fn a_straight_cut_is_a_copy() {
        let rgb = gradient(20, 15);
        let picture = Picture::new(&rgb, 20, 15).unwrap();
        let quad = Quad::rectangle(4.0, 3.0, 11.0, 8.0);
        let cut = picture.cut(&quad, 7, 5);
        for y in 0..5 {
            for x in 0..7 {
                assert_eq!(cut.pixel(x, y), picture.pixel(x + 4, y + 3), "{x} {y}");
            }
        }
    }

    #[test]
    fn a_cut_from_the_next_corner_is_turned_by_a_quarter() {
        let rgb = gradient(20, 15);
        let picture = Picture::new(&rgb, 20, 15).unwrap();
        let quad = Quad::rectangle(4.0, 3.0, 11.0, 8.0);
        let (straight, turned) = (picture.cut(&quad, 7, 5), picture.cut(&quad.turned(1), 5, 7));
        for y in 0..7 {
            for x in 0..5 {
                assert_eq!(turned.pixel(x, y), straight.pixel(6 - y, x), "{x} {y}");
            }
        }
    }
}
