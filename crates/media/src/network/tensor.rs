//! A value of a network. Pictures inside it lie channels last, whatever the graph's shapes say.

use std::sync::Arc;

/// Shape as the graph names it (`[B, C, H, W]` for pictures), and the values.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// Only for four dimensions: the values are in the order `[B, H, W, C]`.
    pub channels_last: bool,
    pub values: Arc<Vec<f32>>,
}

impl Tensor {
    /// Values in the order of the shape.
    pub fn plain(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, channels_last: false, values: Arc::new(values) }
    }

    /// A batch of pictures.
    ///
    /// # Shapes
    /// values `[B, H, W, C]`
    pub fn pictures([batch, height, width, channels]: [usize; 4], values: Vec<f32>) -> Self {
        debug_assert_eq!(batch * height * width * channels, values.len());
        let shape = vec![batch, channels, height, width];
        Self { shape, channels_last: true, values: Arc::new(values) }
    }

    /// The values, copied only if somebody else holds them too.
    pub(super) fn into_values(self) -> Vec<f32> {
        Arc::try_unwrap(self.values).unwrap_or_else(|shared| shared.to_vec())
    }

    pub(super) fn of_shape(shape: Vec<usize>, channels_last: bool, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, channels_last, values: Arc::new(values) }
    }

    /// `[B, C, H, W]` of a picture.
    pub(super) fn dims(&self) -> Option<[usize; 4]> {
        self.shape.as_slice().try_into().ok()
    }

    /// Whether both orders of the values are the same one.
    fn is_indifferent(&self) -> bool {
        self.dims().is_some_and(|[_, channels, height, width]| channels == 1 || height * width == 1)
    }

    pub(super) fn into_plain(self) -> Self {
        let Some([batch, channels, height, width]) = self.dims().filter(|_| self.channels_last) else {
            return self;
        };
        if self.is_indifferent() {
            return Self { channels_last: false, ..self };
        }
        let values = reorder(&self.values, [batch, height * width, channels]);
        Self::of_shape(self.shape, false, values)
    }

    pub(super) fn into_channels_last(self) -> Self {
        let Some([batch, channels, height, width]) = self.dims().filter(|_| !self.channels_last) else {
            return self;
        };
        if self.is_indifferent() {
            return Self { channels_last: true, ..self };
        }
        let values = reorder(&self.values, [batch, channels, height * width]);
        Self::of_shape(self.shape, true, values)
    }
}

/// Each `[R, C]` to `[C, R]`.
fn reorder(values: &[f32], [batch, rows, cols]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    if rows * cols == 0 {
        return out;
    }
    debug_assert_eq!(values.len(), batch * rows * cols);
    for (to, from) in out.chunks_exact_mut(rows * cols).zip(values.chunks_exact(rows * cols)) {
        for (col, to) in to.chunks_exact_mut(rows).enumerate() {
            for (to, &value) in to.iter_mut().zip(from[col..].iter().step_by(cols)) {
                *to = value;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_same() {
        for [b, c, h, w] in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 7, 1, 3], [3, 1, 2, 2], [1, 0, 2, 2]] {
            let values: Vec<f32> = (0..b * c * h * w).map(|value| value as f32).collect();
            let plain = Tensor::plain(vec![b, c, h, w], values.clone());
            let last = plain.into_channels_last();
            for (at, &value) in last.values.iter().enumerate() {
                let (image, y, x, channel) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
                assert_eq!(value as usize, ((image * c + channel) * h + y) * w + x);
            }
            assert_eq!(*last.into_plain().values, values);
        }
    }
}
