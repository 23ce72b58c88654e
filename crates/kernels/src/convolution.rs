//! Convolutions over pictures whose channels lie side by side: `[B, H, W, C]`.
//!
//! A window at one place of the picture is `KH·KW` runs of C values, so a convolution is the product of those
//! runs with a packed filter, and no picture of windows (im2col) is ever written: only the padded rows under one row
//! of windows are. Each output is one chain of fused multiply-adds that starts with the bias and goes over the
//! window row by row, then over the channels; it is the same on every instruction set and any number of threads.

use crate::cpu::Level;
use crate::dispatch::level;
use crate::elementwise;
use crate::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};
use crate::pool::Pool;

const STRIP: usize = 16;
/// Places of windows that are computed side by side, so that each filter value is read once for all of them.
const ROWS: usize = 6;
/// Strips of outputs side by side: 6 × 4 accumulators stay in the registers of AVX-512.
const STRIPS: usize = 4;
/// Places a task takes where the picture is one long row (1 × 1 windows).
const BLOCK: usize = 96;

/// The window that goes over the picture, and the zeros around it. Pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub before: [usize; 2],
    pub after: [usize; 2],
}

impl Window {
    pub const POINT: Self = Self { size: [1, 1], stride: [1, 1], before: [0, 0], after: [0, 0] };

    /// Height and width of what comes out; `None` where the window is larger than the padded picture.
    pub fn output(&self, picture: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let room = (picture[axis] + self.before[axis] + self.after[axis]).checked_sub(self.size[axis])?;
            Some(room / self.stride[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Where in the padded rows under a row of windows each of the window's places begins.
    fn taps(&self, width: usize, channels: usize) -> Vec<usize> {
        let row = self.padded(width) * channels;
        let [height, across] = self.size;
        (0..height * across).map(|tap| tap / across * row + tap % across * channels).collect()
    }

    fn padded(&self, width: usize) -> usize {
        self.before[1] + width + self.after[1]
    }

    /// Copies the picture's rows under output row `y` into `rows`, with zeros around them.
    fn gather(&self, picture: &[f32], [height, width, channels]: [usize; 3], y: usize, rows: &mut [f32]) {
        rows.fill(0.0);
        let length = width * channels;
        for (tap, row) in rows.chunks_exact_mut(self.padded(width) * channels).enumerate() {
            let from = (y * self.stride[0] + tap).checked_sub(self.before[0]).filter(|&from| from < height);
            if let Some(from) = from {
                let start = self.before[1] * channels;
                row[start..start + length].copy_from_slice(&picture[from * length..(from + 1) * length]);
            }
        }
    }
}

/// What is done to each output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    /// With the error function.
    Gelu,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
}

impl Activation {
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
            Self::Gelu => elementwise::gelu(values),
            Self::Silu => elementwise::silu(values),
        }
    }
}

/// A filter that mixes all channels, packed for the width of the registers.
#[derive(Debug, Clone)]
pub struct Filter {
    /// `[N / 16, KH, KW, C, 16]`, the last strip filled up with zeros.
    strips: Vec<f32>,
    /// `[N / 16, 16]`.
    bias: Vec<f32>,
    outputs: usize,
    channels: usize,
    window: Window,
}

impl Filter {
    /// # Shapes
    /// weights `[N, C, KH, KW]`, bias `[N]`
    pub fn new(weights: &[f32], bias: &[f32], channels: usize, window: Window) -> Self {
        let (outputs, taps) = (bias.len(), window.size[0] * window.size[1]);
        assert_eq!(weights.len(), outputs * channels * taps, "{outputs} outputs of {channels} channels");
        let (count, k) = (outputs.div_ceil(STRIP), taps * channels);
        let mut strips = vec![0.0; count * k * STRIP];
        for (index, &weight) in weights.iter().enumerate() {
            let (output, channel, tap) = (index / (channels * taps), index / taps % channels, index % taps);
            strips[(output / STRIP * k + tap * channels + channel) * STRIP + output % STRIP] = weight;
        }
        let mut padded = bias.to_vec();
        padded.resize(count * STRIP, 0.0);
        Self { strips, bias: padded, outputs, channels, window }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    pub fn window(&self) -> &Window {
        &self.window
    }
}

/// A filter for each channel alone.
#[derive(Debug, Clone)]
pub struct DepthFilter {
    /// `[KH, KW, C]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    window: Window,
}

impl DepthFilter {
    /// # Shapes
    /// weights `[C, 1, KH, KW]`, bias `[C]`
    pub fn new(weights: &[f32], bias: &[f32], window: Window) -> Self {
        let (channels, taps) = (bias.len(), window.size[0] * window.size[1]);
        assert_eq!(weights.len(), channels * taps, "{channels} channels, {taps} weights each");
        let weights = (0..channels * taps).map(|i| weights[i % channels * taps + i / channels]).collect();
        Self { weights, bias: bias.to_vec(), window }
    }

    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    pub fn window(&self) -> &Window {
        &self.window
    }
}

/// # Shapes
/// x `[B, H, W, C]`, out `[B, OH, OW, N]`
pub fn convolve(
    pool: &Pool,
    x: &[f32],
    [batch, height, width]: [usize; 3],
    filter: &Filter,
    activation: Activation,
    out: &mut [f32],
) {
    let (channels, outputs, window) = (filter.channels, filter.outputs, &filter.window);
    let [out_height, out_width] = window.output([height, width]).expect("the picture holds a window");
    assert_eq!(x.len(), batch * height * width * channels, "[{batch}, {height}, {width}, {channels}]");
    assert_eq!(out.len(), batch * out_height * out_width * outputs, "[{batch}, {out_height}, {out_width}]");
    if *window == Window::POINT {
        return pool.for_each_chunk(out, BLOCK * outputs, |block, out| {
            let places = out.len() / outputs;
            let from = &x[block * BLOCK * channels..][..places * channels];
            Places { from, step: channels, taps: &[0], filter }.compute(out);
            activation.apply(out);
        });
    }
    let taps = window.taps(width, channels);
    let picture = height * width * channels;
    pool.for_each_chunk(out, out_width * outputs, |row, out| {
        let mut rows = vec![0.0; window.size[0] * window.padded(width) * channels];
        let (image, y) = (row / out_height, row % out_height);
        window.gather(&x[image * picture..][..picture], [height, width, channels], y, &mut rows);
        Places { from: &rows, step: window.stride[1] * channels, taps: &taps, filter }.compute(out);
        activation.apply(out);
    });
}

/// # Shapes
/// x `[B, H, W, C]`, out `[B, OH, OW, C]`
pub fn convolve_each_channel(
    pool: &Pool,
    x: &[f32],
    [batch, height, width]: [usize; 3],
    filter: &DepthFilter,
    activation: Activation,
    out: &mut [f32],
) {
    let (channels, window) = (filter.channels(), &filter.window);
    let [out_height, out_width] = window.output([height, width]).expect("the picture holds a window");
    assert_eq!(x.len(), batch * height * width * channels, "[{batch}, {height}, {width}, {channels}]");
    assert_eq!(out.len(), batch * out_height * out_width * channels, "[{batch}, {out_height}, {out_width}]");
    let taps = window.taps(width, channels);
    let picture = height * width * channels;
    pool.for_each_chunk(out, out_width * channels, |row, out| {
        let mut rows = vec![0.0; window.size[0] * window.padded(width) * channels];
        let (image, y) = (row / out_height, row % out_height);
        window.gather(&x[image * picture..][..picture], [height, width, channels], y, &mut rows);
        EachChannel { from: &rows, step: window.stride[1] * channels, taps: &taps, filter }.compute(out);
        activation.apply(out);
    });
}

/// A run of windows: window `p`'s value (tap, channel) is at `p * step + taps[tap] + channel`.
struct Places<'a> {
    from: &'a [f32],
    step: usize,
    taps: &'a [usize],
    filter: &'a Filter,
}

impl Places<'_> {
    /// # Shapes
    /// out `[places, N]`
    fn compute(&self, out: &mut [f32]) {
        let (outputs, channels) = (self.filter.outputs, self.filter.channels);
        let places = out.len() / outputs;
        let last = (places - 1) * self.step + self.taps.iter().max().unwrap_or(&0) + channels;
        assert!(last <= self.from.len(), "{last} of {}", self.from.len());
        match level() {
            // SAFETY: the level was detected, and all places lie inside `from` by the assertion above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { places_avx512(self, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { places_avx2(self, out) },
            // SAFETY: as above.
            _ => unsafe { self.run::<[f32; 16]>(out) },
        }
    }

    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, out: &mut [f32]) {
        let strips = self.filter.outputs.div_ceil(STRIP);
        let mut strip = 0;
        while strip < strips {
            let count = match strips - strip {
                // SAFETY: that many strips are left; the caller's promise.
                1 => unsafe { self.strips::<L, 1>(strip, out) },
                // SAFETY: that many strips are left; the caller's promise.
                2 => unsafe { self.strips::<L, 2>(strip, out) },
                // SAFETY: that many strips are left; the caller's promise.
                3 => unsafe { self.strips::<L, 3>(strip, out) },
                // SAFETY: that many strips are left; the caller's promise.
                _ => unsafe { self.strips::<L, STRIPS>(strip, out) },
            };
            strip += count;
        }
    }

    /// S strips of all places. Returns S.
    #[inline(always)]
    unsafe fn strips<L: Lanes, const S: usize>(&self, strip: usize, out: &mut [f32]) -> usize {
        let outputs = self.filter.outputs;
        let places = out.len() / outputs;
        let start = strip * STRIP;
        // The last strip may be narrower than its registers: then results go through `scratch`.
        let width = (S * STRIP).min(outputs - start);
        let mut scratch = [0.0; ROWS * STRIPS * STRIP];
        let mut place = 0;
        while place < places {
            let rows = if place + ROWS <= places { ROWS } else { 1 };
            let (to, to_row) = match width == S * STRIP {
                true => (out[place * outputs + start..].as_mut_ptr(), outputs),
                false => (scratch.as_mut_ptr(), S * STRIP),
            };
            match rows {
                // SAFETY: six places are left, and S strips of each or the scratch to write to.
                ROWS => unsafe { self.tile::<L, ROWS, S>(place, strip, to, to_row) },
                // SAFETY: one place is left, and S strips of it or the scratch to write to.
                _ => unsafe { self.tile::<L, 1, S>(place, strip, to, to_row) },
            }
            if width < S * STRIP {
                for (row, from) in scratch.chunks_exact(S * STRIP).take(rows).enumerate() {
                    out[(place + row) * outputs + start..][..width].copy_from_slice(&from[..width]);
                }
            }
            place += rows;
        }
        S
    }

    /// M places times S strips, stored at `to` with `to_row` values from place to place.
    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
    unsafe fn tile<L: Lanes, const M: usize, const S: usize>(
        &self,
        place: usize,
        strip: usize,
        to: *mut f32,
        to_row: usize,
    ) {
        let channels = self.filter.channels;
        let strip_len = self.taps.len() * channels * STRIP;
        // SAFETY: places lie inside `from`, strips inside the filter, and `to` is writable as the caller promised.
        unsafe {
            let mut acc = [[L::splat(0.0); S]; M];
            for s in 0..S {
                let bias = L::load(self.filter.bias.as_ptr().add((strip + s) * STRIP));
                for row in &mut acc {
                    row[s] = bias;
                }
            }
            let mut b = self.filter.strips.as_ptr().add(strip * strip_len);
            for &tap in self.taps {
                let a = self.from.as_ptr().add(place * self.step + tap);
                for channel in 0..channels {
                    let mut weights = [L::splat(0.0); S];
                    for (s, weights) in weights.iter_mut().enumerate() {
                        *weights = L::load(b.add(s * strip_len));
                    }
                    b = b.add(STRIP);
                    for (m, row) in acc.iter_mut().enumerate() {
                        let value = L::splat(*a.add(m * self.step + channel));
                        for (s, acc) in row.iter_mut().enumerate() {
                            *acc = value.fma(weights[s], *acc);
                        }
                    }
                }
            }
            for (m, row) in acc.iter().enumerate() {
                for (s, acc) in row.iter().enumerate() {
                    acc.store(to.add(m * to_row + s * STRIP));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn places_avx512(places: &Places<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise; this function is compiled for AVX-512 F.
    unsafe { places.run::<Avx512Lanes>(out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn places_avx2(places: &Places<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise; this function is compiled for AVX2 and FMA.
    unsafe { places.run::<Avx2Lanes>(out) }
}

/// As [`Places`], for a filter of each channel alone.
struct EachChannel<'a> {
    from: &'a [f32],
    step: usize,
    taps: &'a [usize],
    filter: &'a DepthFilter,
}

impl EachChannel<'_> {
    /// # Shapes
    /// out `[places, C]`
    fn compute(&self, out: &mut [f32]) {
        let channels = self.filter.channels();
        let places = out.len() / channels;
        let last = (places - 1) * self.step + self.taps.iter().max().unwrap_or(&0) + channels;
        assert!(last <= self.from.len(), "{last} of {}", self.from.len());
        match level() {
            // SAFETY: the level was detected, and all places lie inside `from` by the assertion above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { each_channel_avx512(self, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { each_channel_avx2(self, out) },
            // SAFETY: as above.
            _ => unsafe { self.run::<[f32; 16]>(out) },
        }
    }

    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, out: &mut [f32]) {
        const TOGETHER: usize = 4;
        let channels = self.filter.channels();
        let places = out.len() / channels;
        let whole = channels / STRIP * STRIP;
        for channel in (0..whole).step_by(STRIP) {
            let mut place = 0;
            while place + TOGETHER <= places {
                // SAFETY: four places are left, and sixteen channels of each; the caller's promise.
                unsafe { self.tile::<L, TOGETHER>(place, channel, out) };
                place += TOGETHER;
            }
            while place < places {
                // SAFETY: one place is left, and sixteen channels of it; the caller's promise.
                unsafe { self.tile::<L, 1>(place, channel, out) };
                place += 1;
            }
        }
        for (place, out) in out.chunks_exact_mut(channels).enumerate() {
            for (channel, out) in out.iter_mut().enumerate().skip(whole) {
                *out = self.filter.bias[channel];
                for (tap, &at) in self.taps.iter().enumerate() {
                    let value = self.from[place * self.step + at + channel];
                    *out = value.mul_add(self.filter.weights[tap * channels + channel], *out);
                }
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
    unsafe fn tile<L: Lanes, const M: usize>(&self, place: usize, channel: usize, out: &mut [f32]) {
        let channels = self.filter.channels();
        // SAFETY: M places and sixteen channels of each lie inside `from`, the filter and `out`.
        unsafe {
            let mut acc = [L::load(self.filter.bias.as_ptr().add(channel)); M];
            let mut weights = self.filter.weights.as_ptr().add(channel);
            for &tap in self.taps {
                let weight = L::load(weights);
                weights = weights.wrapping_add(channels);
                let a = self.from.as_ptr().add(place * self.step + tap + channel);
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = L::load(a.add(m * self.step)).fma(weight, *acc);
                }
            }
            for (m, acc) in acc.iter().enumerate() {
                acc.store(out.as_mut_ptr().add((place + m) * channels + channel));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn each_channel_avx512(task: &EachChannel<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise; this function is compiled for AVX-512 F.
    unsafe { task.run::<Avx512Lanes>(out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn each_channel_avx2(task: &EachChannel<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise; this function is compiled for AVX2 and FMA.
    unsafe { task.run::<Avx2Lanes>(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;

    fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// The definition: one chain from the bias over the window, then the channels; `groups` 1 or C.
    fn reference(
        x: &[f32],
        [b, h, w, c]: [usize; 4],
        weights: &[f32],
        bias: &[f32],
        window: &Window,
        own: bool,
    ) -> Vec<f32> {
        let ([kh, kw], n) = (window.size, bias.len());
        let [oh, ow] = window.output([h, w]).unwrap();
        let inner = if own { 1 } else { c };
        let mut out = Vec::new();
        for place in 0..b * oh * ow {
            let (image, y, x0) = (place / (oh * ow), place / ow % oh, place % ow);
            for (output, &bias) in bias.iter().enumerate() {
                let mut sum = bias;
                for tap in 0..kh * kw {
                    for channel in 0..inner {
                        let row = (y * window.stride[0] + tap / kw).wrapping_sub(window.before[0]);
                        let col = (x0 * window.stride[1] + tap % kw).wrapping_sub(window.before[1]);
                        let from = if own { output } else { channel };
                        let inside = row < h && col < w;
                        let value = if inside { x[((image * h + row) * w + col) * c + from] } else { 0.0 };
                        sum = value.mul_add(weights[(output * inner + channel) * kh * kw + tap], sum);
                    }
                }
                out.push(sum);
            }
        }
        assert_eq!(out.len(), b * oh * ow * n);
        out
    }

    const WINDOWS: [Window; 5] = [
        Window::POINT,
        Window { size: [3, 3], stride: [1, 1], before: [1, 1], after: [1, 1] },
        Window { size: [3, 3], stride: [2, 1], before: [1, 1], after: [1, 1] },
        Window { size: [2, 2], stride: [1, 1], before: [0, 0], after: [1, 1] },
        Window { size: [1, 7], stride: [1, 1], before: [0, 3], after: [0, 3] },
    ];

    #[test]
    fn every_window_gives_the_reference_chain_at_every_level() {
        for (seed, window) in (1..).zip(WINDOWS) {
            for [b, h, w, c, n] in [[1, 3, 3, 1, 1], [2, 4, 9, 3, 17], [1, 5, 14, 5, 80], [1, 3, 8, 16, 112]]
            {
                let x = values(b * h * w * c, seed);
                let weights = values(n * c * window.size[0] * window.size[1], seed + 7);
                let bias = values(n, seed + 9);
                let expected = reference(&x, [b, h, w, c], &weights, &bias, &window, false);
                let filter = Filter::new(&weights, &bias, c, window);
                for threads in [1, 2] {
                    let pool = Pool::new(threads);
                    let mut out = vec![0.0; expected.len()];
                    convolve(&pool, &x, [b, h, w], &filter, Activation::None, &mut out);
                    assert_eq!(out, expected, "{window:?}, {threads} threads");
                }
                let pool = Pool::new(1);
                let out = at_every_level(|| {
                    let mut out = vec![0.0; expected.len()];
                    convolve(&pool, &x, [b, h, w], &filter, Activation::None, &mut out);
                    out
                });
                assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn a_filter_of_each_channel_gives_the_reference_chain_at_every_level() {
        for (seed, window) in (1..).zip(WINDOWS) {
            for [b, h, w, c] in [[1, 3, 3, 1], [2, 4, 9, 16], [1, 5, 14, 37]] {
                let x = values(b * h * w * c, seed);
                let weights = values(c * window.size[0] * window.size[1], seed + 7);
                let bias = values(c, seed + 9);
                let expected = reference(&x, [b, h, w, c], &weights, &bias, &window, true);
                let filter = DepthFilter::new(&weights, &bias, window);
                let pool = Pool::new(1);
                let out = at_every_level(|| {
                    let mut out = vec![0.0; expected.len()];
                    convolve_each_channel(&pool, &x, [b, h, w], &filter, Activation::None, &mut out);
                    out
                });
                assert_eq!(out, expected, "{window:?}");
            }
        }
    }

    #[test]
    fn a_window_larger_than_the_picture_has_no_output() {
        let window = Window { size: [3, 2], stride: [3, 2], before: [0, 0], after: [0, 0] };
        assert_eq!(window.output([3, 9]), Some([1, 4]));
        assert_eq!(window.output([2, 9]), None);
        assert_eq!(window.output([0, 0]), None);
    }
}
