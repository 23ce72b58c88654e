//! Operators that move, join and cut dimensions, and the softmax over the last one.

use hearth_kernels::elementwise;

use super::{Result, Tensor, axis_of, zeros};

pub(super) fn concat(parts: Vec<Tensor>, axis: i64) -> Result<Tensor> {
    let rank = parts[0].shape.len();
    let axis = axis_of(axis, rank)?;
    let is_pictures = rank == 4 && axis == 1;
    let parts: Vec<Tensor> = parts
        .into_iter()
        .map(|part| if is_pictures { part.into_channels_last() } else { part.into_plain() })
        .collect();
    let mut shape = parts[0].shape.clone();
    shape[axis] = 0;
    for part in &parts {
        let fits = part.shape.len() == rank && (0..rank).all(|at| at == axis || part.shape[at] == shape[at]);
        if !fits {
            return Err(format!("shapes {:?} and {:?} don't join along {axis}", parts[0].shape, part.shape));
        }
        shape[axis] += part.shape[axis];
    }
    // Channels of pictures lie last: there each place is a row.
    let inner = if is_pictures { 1 } else { shape[axis + 1..].iter().product() };
    let width = shape[axis] * inner;
    let mut out = zeros(&shape)?;
    let mut start = 0;
    for part in &parts {
        let length = part.shape[axis] * inner;
        if length > 0 {
            for (to, from) in out.chunks_exact_mut(width).zip(part.values.chunks_exact(length)) {
                to[start..start + length].copy_from_slice(from);
            }
        }
        start += length;
    }
    Ok(Tensor::of_shape(shape, is_pictures, out))
}

pub(super) fn transpose(x: &Tensor, order: &[i64]) -> Result<Tensor> {
    let rank = x.shape.len();
    let order = order.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>>>()?;
    if (0..rank).any(|axis| !order.contains(&axis)) || order.len() != rank {
        return Err(format!("order {order:?} of {rank} dimensions"));
    }
    let steps: Vec<usize> = (0..rank).map(|axis| x.shape[axis + 1..].iter().product()).collect();
    let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
    let mut out = Vec::with_capacity(x.values.len());
    let mut place = vec![0; rank];
    for _ in 0..x.values.len() {
        out.push(x.values[order.iter().zip(&place).map(|(&axis, &at)| steps[axis] * at).sum::<usize>()]);
        for axis in (0..rank).rev() {
            place[axis] += 1;
            if place[axis] < shape[axis] {
                break;
            }
            place[axis] = 0;
        }
    }
    Ok(Tensor::plain(shape, out))
}

pub(super) fn squeeze(x: Tensor, axes: &[i64]) -> Result<Tensor> {
    let rank = x.shape.len();
    let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>>>()?;
    if let Some(&axis) = axes.iter().find(|&&axis| x.shape[axis] != 1) {
        return Err(format!("axis {axis} of shape {:?} isn't 1", x.shape));
    }
    let kept = |axis: &usize| if axes.is_empty() { x.shape[*axis] != 1 } else { !axes.contains(axis) };
    let shape = (0..rank).filter(kept).map(|axis| x.shape[axis]).collect();
    Ok(Tensor::of_shape(shape, false, x.into_values()))
}

pub(super) fn unsqueeze(x: Tensor, axes: &[i64]) -> Result<Tensor> {
    let mut shape = x.shape.clone();
    let rank = shape.len() + axes.len();
    let mut axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    for axis in axes {
        shape.insert(axis.min(shape.len()), 1);
    }
    Ok(Tensor::of_shape(shape, false, x.into_values()))
}

/// `starts`, `ends`, `axes` and steps, of which only 1 is run.
pub(super) fn slice(x: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
    let [starts, ends, rest @ ..] = inputs else { return Err("starts or ends are missing".into()) };
    if rest.get(1).is_some_and(|steps| steps.values.iter().any(|&step| step as i64 != 1)) {
        return Err("steps other than 1 aren't run".into());
    }
    let mut x = x.clone();
    for (index, (&start, &end)) in starts.values.iter().zip(ends.values.iter()).enumerate() {
        let axis =
            rest.first().map_or(index as i64, |axes| axes.values.get(index).map_or(0, |&axis| axis as i64));
        let axis = axis_of(axis, x.shape.len())?;
        let size = x.shape[axis];
        let clamp = |at: f32| (if at < 0.0 { at + size as f32 } else { at }).clamp(0.0, size as f32) as usize;
        let (start, end) = (clamp(start), clamp(end));
        let count = end.saturating_sub(start);
        let inner: usize = x.shape[axis + 1..].iter().product();
        let mut values = Vec::new();
        for block in x.values.chunks_exact((size * inner).max(1)) {
            values.extend_from_slice(&block[start * inner..(start + count) * inner]);
        }
        let mut shape = x.shape.clone();
        shape[axis] = count;
        x = Tensor::plain(shape, values);
    }
    Ok(x)
}

/// 0 keeps the size at its place, -1 is what is left.
pub(super) fn reshape(x: Tensor, wanted: &Tensor) -> Result<Tensor> {
    let mut shape = Vec::new();
    let mut open = None;
    for (at, &size) in wanted.values.iter().enumerate() {
        shape.push(match size {
            0.0 => *x.shape.get(at).ok_or_else(|| format!("dimension {at} of shape {:?}", x.shape))?,
            size if size < 0.0 => {
                open = Some(at);
                1
            }
            size => size as usize,
        });
    }
    let known = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)).unwrap_or(0);
    if let Some(open) = open
        && known > 0
    {
        shape[open] = x.values.len() / known;
    }
    match shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)) {
        Some(count) if count == x.values.len() => Ok(Tensor::of_shape(shape, false, x.into_values())),
        _ => Err(format!("shape {:?} doesn't become {:?}", x.shape, wanted.values)),
    }
}

pub(super) fn softmax(x: Tensor, axis: i64) -> Result<Tensor> {
    let rank = x.shape.len();
    let axis = axis_of(axis, rank)?;
    let last = x.shape[axis];
    if axis != rank - 1 || last == 0 {
        return Err(format!("a softmax over axis {axis} of shape {:?} isn't run", x.shape));
    }
    let (shape, mut values) = (x.shape.clone(), x.into_values());
    for row in values.chunks_exact_mut(last) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for value in row.iter_mut() {
            *value -= top;
        }
        elementwise::exp_lanes(row);
        let sum: f32 = row.iter().sum();
        for value in row.iter_mut() {
            *value /= sum;
        }
    }
    Ok(Tensor::plain(shape, values))
}
