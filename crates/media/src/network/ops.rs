//! What the steps of a network compute.
//!
//! Pictures stay channels last as long as nothing but convolutions, pools and elementwise operators touches them; an
//! operator that moves dimensions works on values in the order of their shape.

mod dimensions;

use std::fmt;

use hearth_kernels::convolution::{self, Activation, DepthFilter, Filter, Window};
use hearth_kernels::elementwise;
use hearth_kernels::gemm::{Accumulate, gemm_nn};
use hearth_kernels::pool::Pool;

use super::Tensor;
use dimensions::{concat, reshape, slice, softmax, squeeze, transpose, unsqueeze};

type Result<T, E = String> = std::result::Result<T, E>;

/// More values than this come out of no sane graph over a picture of bounded size.
const MAX_VALUES: usize = 1 << 28;
/// Values an elementwise task takes.
const GRAIN: usize = 1 << 14;
/// Rows a classifier scores at once: their scores stay in the cache.
const SCORED: usize = 12;

#[derive(Debug)]
pub(super) enum Op {
    Convolve {
        filter: Filter,
        activation: Activation,
    },
    ConvolveEach {
        filter: DepthFilter,
        activation: Activation,
    },
    /// A convolution transposed whose windows tile the output.
    Upsample {
        filter: Filter,
        size: [usize; 2],
        activation: Activation,
    },
    /// Best class and its probability for each row of a softmax over classes: `[…, C]` to `[…, 2]`.
    Classify {
        filter: Filter,
    },
    MatMul,
    Unary(Unary),
    Binary(Binary),
    MaxPool(Window),
    AveragePool(Window),
    Mean {
        axes: Vec<i64>,
        keep: bool,
    },
    Repeat {
        times: [usize; 2],
    },
    Concat {
        axis: i64,
    },
    Transpose {
        order: Vec<i64>,
    },
    Squeeze {
        axes: Vec<i64>,
    },
    Unsqueeze {
        axes: Vec<i64>,
    },
    Slice,
    Reshape,
    Shape,
    Softmax {
        axis: i64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Unary {
    Relu,
    Sigmoid,
    Sqrt,
    HardSigmoid { slope: f32, shift: f32 },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self:?}");
        f.write_str(text.split([' ', '(']).next().unwrap_or_default())
    }
}

impl Op {
    pub(super) fn run(&self, pool: &Pool, mut inputs: Vec<Tensor>) -> Result<Tensor> {
        if inputs.is_empty() {
            return Err("it has no input".into());
        }
        let x = inputs.remove(0);
        match self {
            Self::Convolve { filter, activation } => convolve(pool, x, filter, *activation),
            Self::ConvolveEach { filter, activation } => convolve_each(pool, x, filter, *activation),
            Self::Upsample { filter, size, activation } => upsample(pool, x, filter, *size, *activation),
            Self::Classify { filter } => classify(pool, &x.into_plain(), filter),
            Self::MatMul => mat_mul(pool, &x.into_plain(), &second(inputs)?.into_plain()),
            Self::Unary(unary) => Ok(unary.run(pool, x)),
            Self::Binary(binary) => binary.run(pool, x, second(inputs)?),
            Self::MaxPool(window) => fold_windows(pool, x, window, f32::NEG_INFINITY, f32::max, 1.0),
            Self::AveragePool(window) => {
                let share = 1.0 / (window.size[0] * window.size[1]) as f32;
                fold_windows(pool, x, window, 0.0, |sum, value| sum + value, share)
            }
            Self::Mean { axes, keep } => mean(x, axes, *keep),
            Self::Repeat { times } => repeat(pool, x, *times),
            Self::Concat { axis } => {
                inputs.insert(0, x);
                concat(inputs, *axis)
            }
            Self::Transpose { order } => transpose(&x.into_plain(), order),
            Self::Squeeze { axes } => squeeze(x.into_plain(), axes),
            Self::Unsqueeze { axes } => unsqueeze(x.into_plain(), axes),
            Self::Slice => slice(&x.into_plain(), &inputs),
            Self::Reshape => reshape(x.into_plain(), &second(inputs)?),
            Self::Shape => {
                let shape: Vec<f32> = x.shape.iter().map(|&size| size as f32).collect();
                Ok(Tensor::plain(vec![shape.len()], shape))
            }
            Self::Softmax { axis } => softmax(x.into_plain(), *axis),
        }
    }
}

fn second(mut inputs: Vec<Tensor>) -> Result<Tensor> {
    if inputs.is_empty() { Err("an input is missing".into()) } else { Ok(inputs.remove(0)) }
}

fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let index = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < rank)
        .ok_or_else(|| format!("axis {axis} of {rank} dimensions"))
}

/// Memory for an output, if its size is sane.
fn zeros(shape: &[usize]) -> Result<Vec<f32>> {
    let count = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match count.filter(|&count| count <= MAX_VALUES) {
        Some(count) => Ok(vec![0.0; count]),
        None => Err(format!("an output of shape {shape:?} is too large")),
    }
}

/// A picture's values, channels last, and `[B, H, W, C]`.
fn picture(x: Tensor) -> Result<(Tensor, [usize; 4])> {
    let [batch, channels, height, width] =
        x.dims().ok_or_else(|| format!("shape {:?} isn't that of pictures", x.shape))?;
    if x.values.is_empty() {
        return Err(format!("shape {:?} holds nothing", x.shape));
    }
    Ok((x.into_channels_last(), [batch, height, width, channels]))
}

fn output_of(window: &Window, [height, width]: [usize; 2]) -> Result<[usize; 2]> {
    window.output([height, width]).ok_or_else(|| format!("a window of {:?} in {height}x{width}", window.size))
}

fn check_channels(expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(format!("{got} channels where {expected} are expected")) }
}

fn convolve(pool: &Pool, x: Tensor, filter: &Filter, activation: Activation) -> Result<Tensor> {
    let (x, [batch, height, width, channels]) = picture(x)?;
    check_channels(filter.channels(), channels)?;
    let [rows, cols] = output_of(filter.window(), [height, width])?;
    let mut out = zeros(&[batch, rows, cols, filter.outputs()])?;
    convolution::convolve(pool, &x.values, [batch, height, width], filter, activation, &mut out);
    Ok(Tensor::pictures([batch, rows, cols, filter.outputs()], out))
}

fn convolve_each(pool: &Pool, x: Tensor, filter: &DepthFilter, activation: Activation) -> Result<Tensor> {
    let (x, [batch, height, width, channels]) = picture(x)?;
    check_channels(filter.channels(), channels)?;
    let [rows, cols] = output_of(filter.window(), [height, width])?;
    let mut out = zeros(&[batch, rows, cols, channels])?;
    convolution::convolve_each_channel(pool, &x.values, [batch, height, width], filter, activation, &mut out);
    Ok(Tensor::pictures([batch, rows, cols, channels], out))
}

fn upsample(
    pool: &Pool,
    x: Tensor,
    filter: &Filter,
    [down, across]: [usize; 2],
    activation: Activation,
) -> Result<Tensor> {
    let (x, [batch, height, width, channels]) = picture(x)?;
    check_channels(filter.channels(), channels)?;
    let count = filter.outputs() / (down * across);
    let shape = [batch, height * down, width * across, count];
    let mut out = zeros(&shape)?;
    let row_len = width * across * count;
    // A task is a row of the input: the tiles of all its places, dealt out to the rows they cover.
    pool.for_each_chunk(&mut out, down * row_len, |row, out| {
        let mut tiles = vec![0.0; width * filter.outputs()];
        let from = &x.values[row * width * channels..][..width * channels];
        convolution::convolve(pool, from, [1, 1, width], filter, activation, &mut tiles);
        for (place, tile) in tiles.chunks_exact(filter.outputs()).enumerate() {
            for (line, values) in tile.chunks_exact(across * count).enumerate() {
                out[line * row_len + place * across * count..][..across * count].copy_from_slice(values);
            }
        }
    });
    Ok(Tensor::pictures(shape, out))
}

/// # Shapes
/// x `[…, C]`, out `[…, 2]`: index of the best class, and its probability
fn classify(pool: &Pool, x: &Tensor, filter: &Filter) -> Result<Tensor> {
    let (channels, classes) = (filter.channels(), filter.outputs());
    check_channels(channels, x.shape.last().copied().unwrap_or(0))?;
    let rows = x.values.len() / channels;
    let mut out = vec![0.0; rows * 2];
    pool.for_each_chunk(&mut out, SCORED * 2, |chunk, out| {
        let count = out.len() / 2;
        let from = &x.values[chunk * SCORED * channels..][..count * channels];
        let mut scores = vec![0.0; count * classes];
        convolution::convolve(pool, from, [1, 1, count], filter, Activation::None, &mut scores);
        for (out, scores) in out.chunks_exact_mut(2).zip(scores.chunks_exact_mut(classes)) {
            // The first of the best, and NaN nowhere: a NaN makes the sum below NaN, which the caller looks at.
            let (mut best, mut top) = (0, scores[0]);
            for (class, &score) in scores.iter().enumerate() {
                if score > top {
                    (best, top) = (class, score);
                }
            }
            for score in scores.iter_mut() {
                *score -= top;
            }
            elementwise::exp_lanes(scores);
            (out[0], out[1]) = (best as f32, 1.0 / scores.iter().sum::<f32>());
        }
    });
    let mut shape = x.shape.clone();
    shape.pop();
    shape.push(2);
    Ok(Tensor::plain(shape, out))
}

/// # Shapes
/// a `[…, M, K]`, b `[K, N]` or `[…, K, N]`
fn mat_mul(pool: &Pool, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let bad = || format!("shapes {:?} and {:?} don't multiply", a.shape, b.shape);
    let (&[ref batch @ .., m, k], &[ref others @ .., inner, n]) = (a.shape.as_slice(), b.shape.as_slice())
    else {
        return Err(bad());
    };
    if k != inner || k == 0 || !(others.is_empty() || others == batch) {
        return Err(bad());
    }
    let shape = [batch, &[m, n]].concat();
    let mut out = zeros(&shape)?;
    if out.is_empty() {
        return Ok(Tensor::plain(shape, out));
    }
    if others.is_empty() {
        gemm_nn(pool, &a.values, &b.values, &mut out, k, Accumulate::Overwrite);
    } else {
        pool.for_each_chunk(&mut out, m * n, |index, out| {
            let (a, b) = (&a.values[index * m * k..][..m * k], &b.values[index * k * n..][..k * n]);
            gemm_nn(pool, a, b, out, k, Accumulate::Overwrite);
        });
    }
    Ok(Tensor::plain(shape, out))
}

impl Unary {
    fn run(self, pool: &Pool, x: Tensor) -> Tensor {
        let (shape, channels_last) = (x.shape.clone(), x.channels_last);
        let mut values = x.into_values();
        pool.for_each_chunk(&mut values, GRAIN, |_, values| match self {
            Self::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
            Self::Sigmoid => elementwise::logistic(values),
            Self::Sqrt => values.iter_mut().for_each(|value| *value = value.sqrt()),
            Self::HardSigmoid { slope, shift } => {
                for value in values.iter_mut() {
                    *value = (*value * slope + shift).clamp(0.0, 1.0);
                }
            }
        });
        Tensor::of_shape(shape, channels_last, values)
    }
}

impl Binary {
    #[inline]
    fn apply(self, out: &mut [f32], with: impl Iterator<Item = f32>) {
        let pairs = out.iter_mut().zip(with);
        match self {
            Self::Add => pairs.for_each(|(out, value)| *out += value),
            Self::Sub => pairs.for_each(|(out, value)| *out -= value),
            Self::Mul => pairs.for_each(|(out, value)| *out *= value),
            Self::Div => pairs.for_each(|(out, value)| *out /= value),
            Self::Pow => pairs.for_each(|(out, value)| *out = out.powf(value)),
        }
    }

    fn run(self, pool: &Pool, a: Tensor, b: Tensor) -> Result<Tensor> {
        let commutes = matches!(self, Self::Add | Self::Mul);
        if commutes && a.values.len() < b.values.len() {
            return self.run(pool, b, a);
        }
        if b.values.len() == 1 {
            let value = b.values[0];
            return Ok(self.in_place(pool, a, GRAIN, |_, _| value));
        }
        if a.shape == b.shape {
            let (a, b) = match a.channels_last == b.channels_last {
                true => (a, b),
                false => (a.into_plain(), b.into_plain()),
            };
            let (shape, channels_last) = (a.shape.clone(), a.channels_last);
            let mut values = a.into_values();
            pool.for_each_chunk(&mut values, GRAIN, |chunk, values| {
                let other = &b.values[chunk * GRAIN..][..values.len()];
                self.apply(values, other.iter().copied());
            });
            return Ok(Tensor::of_shape(shape, channels_last, values));
        }
        // One value for each channel of each picture, or of all pictures.
        if let (Some([batch, channels, height, width]), Some([others, same, 1, 1])) = (a.dims(), b.dims())
            && same == channels
            && (others == batch || others == 1)
        {
            let a = a.into_channels_last();
            let picture = height * width;
            let (shape, mut values) = (a.shape.clone(), a.into_values());
            pool.for_each_chunk(&mut values, channels, |place, values| {
                let start = place / picture % others * channels;
                self.apply(values, b.values[start..start + channels].iter().copied());
            });
            return Ok(Tensor::of_shape(shape, true, values));
        }
        let (a, b) = (a.into_plain(), b.into_plain());
        let last = a.shape.last().copied().unwrap_or(1).max(1);
        // One value for each place of the last dimension, or one for each row of it.
        if b.shape.as_slice() == [last] {
            return Ok(self.in_place(pool, a, last, |_, at| b.values[at]));
        }
        if b.shape.last() == Some(&1) && b.shape[..b.shape.len() - 1] == a.shape[..a.shape.len() - 1] {
            return Ok(self.in_place(pool, a, last, |row, _| b.values[row]));
        }
        Err(format!("shapes {:?} and {:?} don't go together", a.shape, b.shape))
    }

    /// `a` in chunks, each value with what `other` says for its chunk and place.
    fn in_place(
        self,
        pool: &Pool,
        a: Tensor,
        chunk: usize,
        other: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Tensor {
        let (shape, channels_last) = (a.shape.clone(), a.channels_last);
        let mut values = a.into_values();
        pool.for_each_chunk(&mut values, chunk, |index, values| {
            self.apply(values, (0..).map(|at| other(index, at)));
        });
        Tensor::of_shape(shape, channels_last, values)
    }
}

/// Folds the values under each window, without what lies outside the picture; then multiplies.
fn fold_windows(
    pool: &Pool,
    x: Tensor,
    window: &Window,
    start: f32,
    fold: impl Fn(f32, f32) -> f32 + Sync,
    share: f32,
) -> Result<Tensor> {
    let (x, [batch, height, width, channels]) = picture(x)?;
    let [rows, cols] = output_of(window, [height, width])?;
    let mut out = zeros(&[batch, rows, cols, channels])?;
    pool.for_each_chunk(&mut out, cols * channels, |row, out| {
        let (image, y) = (row / rows, row % rows);
        for (x0, out) in out.chunks_exact_mut(channels).enumerate() {
            out.fill(start);
            for tap in 0..window.size[0] * window.size[1] {
                let from_y = (y * window.stride[0] + tap / window.size[1]).wrapping_sub(window.before[0]);
                let from_x = (x0 * window.stride[1] + tap % window.size[1]).wrapping_sub(window.before[1]);
                if from_y < height && from_x < width {
                    let from =
                        &x.values[((image * height + from_y) * width + from_x) * channels..][..channels];
                    out.iter_mut().zip(from).for_each(|(out, &value)| *out = fold(*out, value));
                }
            }
            for out in out {
                *out *= share;
            }
        }
    });
    Ok(Tensor::pictures([batch, rows, cols, channels], out))
}

/// Over the places of each picture, or over the last dimension.
fn mean(x: Tensor, axes: &[i64], keep: bool) -> Result<Tensor> {
    let rank = x.shape.len();
    let mut axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    if rank == 4 && axes == [2, 3] && keep {
        let (x, [batch, height, width, channels]) = picture(x)?;
        let mut sums = vec![0.0_f64; batch * channels];
        for (image, sums) in sums.chunks_exact_mut(channels).enumerate() {
            let places = &x.values[image * height * width * channels..][..height * width * channels];
            for place in places.chunks_exact(channels) {
                sums.iter_mut().zip(place).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        let means = sums.iter().map(|sum| (sum / (height * width) as f64) as f32).collect();
        return Ok(Tensor::pictures([batch, 1, 1, channels], means));
    }
    let x = x.into_plain();
    if axes != [rank - 1] || x.values.is_empty() {
        return Err(format!("a mean over axes {axes:?} of {rank} dimensions isn't run"));
    }
    let mut shape = x.shape.clone();
    let last = shape.pop().unwrap_or(1);
    if keep {
        shape.push(1);
    }
    let means = x.values.chunks_exact(last).map(|row| row.iter().sum::<f32>() / last as f32).collect();
    Ok(Tensor::plain(shape, means))
}

/// Each place of a picture becomes a block of equal ones.
fn repeat(pool: &Pool, x: Tensor, [down, across]: [usize; 2]) -> Result<Tensor> {
    let (x, [batch, height, width, channels]) = picture(x)?;
    let shape = [batch, height * down, width * across, channels];
    let mut out = zeros(&shape)?;
    pool.for_each_chunk(&mut out, width * across * channels, |row, out| {
        let from = &x.values[row / down * width * channels..][..width * channels];
        for (place, out) in out.chunks_exact_mut(channels).enumerate() {
            out.copy_from_slice(&from[place / across * channels..][..channels]);
        }
    });
    Ok(Tensor::pictures(shape, out))
}
