//! What a page of keys and values looks like: 64 positions of all layers, as f32, f16 or 8-bit integers.
//!
//! For each layer and head: keys transposed, so that a SIMD lane is a key; values as rows, so that a lane is a channel;
//! for 8 bits a scale for each position and 32 channels, as llama.cpp's `q8_0` has them; and, if wanted, the bounds of
//! each channel over the page's keys (Quest, Tang et al. 2024), which are known once its last position is written.
//! A page is handed around as 32-bit words, f32 by type, whatever it holds.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::PAGE;
use crate::dispatch::LANES;

/// Channels that share a scale.
pub(super) const GROUP: usize = 32;

/// What keys and values are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    F32,
    /// Half the memory and traffic; rounds to 11 bits.
    #[default]
    F16,
    /// A little more than a quarter; 8-bit integers with an f32 scale for each position and 32 channels.
    Q8_0,
}

impl KvType {
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// Where a layer's keys and values lie in a page that holds all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLayout {
    pub num_layers: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub kv_type: KvType,
    /// Keep the bounds of keys that choosing pages needs.
    pub has_bounds: bool,
}

/// One head's keys and values of one layer in one page.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeadPage<'a> {
    /// `[D, 64]` of the page's type.
    pub(super) keys: &'a [f32],
    /// `[D / 32, 64]`, for 8 bits.
    pub(super) key_scales: &'a [f32],
    /// `[64, D]` of the page's type.
    pub(super) values: &'a [f32],
    /// `[D / 32, 64]`, for 8 bits.
    pub(super) value_scales: &'a [f32],
    /// The smallest, then the largest key of each channel, `[2, D]`.
    pub(super) bounds: &'a [f32],
}

impl PageLayout {
    pub(super) fn padded_dim(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Words of one head's keys (or values) without scales.
    fn side_len(self) -> usize {
        let len = self.padded_dim() * PAGE;
        match self.kv_type {
            KvType::F32 => len,
            KvType::F16 => len / 2,
            KvType::Q8_0 => len / 4,
        }
    }

    fn scales_len(self) -> usize {
        match self.kv_type {
            KvType::F32 | KvType::F16 => 0,
            KvType::Q8_0 => self.padded_dim().div_ceil(GROUP) * PAGE,
        }
    }

    fn bounds_len(self) -> usize {
        if self.has_bounds { 2 * self.padded_dim() } else { 0 }
    }

    fn head_len(self) -> usize {
        2 * (self.side_len() + self.scales_len()) + self.bounds_len()
    }

    /// 32-bit words of a page.
    pub fn page_len(self) -> usize {
        self.num_layers * self.num_kv_heads * self.head_len()
    }

    /// Bytes of a page's position, all layers: what a token of context costs.
    pub fn position_bytes(self) -> usize {
        self.page_len() * size_of::<f32>() / PAGE
    }

    fn head_at(self, layer: usize, head: usize) -> usize {
        (layer * self.num_kv_heads + head) * self.head_len()
    }

    pub(super) fn head(self, page: &[f32], layer: usize, head: usize) -> HeadPage<'_> {
        let rest = &page[self.head_at(layer, head)..][..self.head_len()];
        let (keys, rest) = rest.split_at(self.side_len());
        let (key_scales, rest) = rest.split_at(self.scales_len());
        let (values, rest) = rest.split_at(self.side_len());
        let (value_scales, bounds) = rest.split_at(self.scales_len());
        HeadPage { keys, key_scales, values, value_scales, bounds }
    }

    /// Stores the keys and values of one position, `[K·D]` each, in a slot (0..64) of a page.
    pub fn write(self, page: &mut [f32], layer: usize, slot: usize, k: &[f32], v: &[f32]) {
        let dim = self.head_dim;
        for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            let at = self.head_at(layer, head);
            let rest = &mut page[at..at + self.head_len()];
            let (keys, rest) = rest.split_at_mut(self.side_len());
            let (key_scales, rest) = rest.split_at_mut(self.scales_len());
            let (values, rest) = rest.split_at_mut(self.side_len());
            let value_scales = &mut rest[..self.scales_len()];
            self.write_row(k, (keys, key_scales), slot, |channel| channel * PAGE + slot);
            let padded = self.padded_dim();
            self.write_row(v, (values, value_scales), slot, |channel| slot * padded + channel);
            if self.has_bounds && slot == PAGE - 1 {
                self.write_bounds(page, layer, head);
            }
        }
    }

    /// Writes one row of channels to the places that `at` names.
    fn write_row(
        self,
        row: &[f32],
        (side, scales): (&mut [f32], &mut [f32]),
        slot: usize,
        at: impl Fn(usize) -> usize,
    ) {
        match self.kv_type {
            KvType::F32 => {
                for (channel, &value) in row.iter().enumerate() {
                    side[at(channel)] = value;
                }
            }
            KvType::F16 => {
                let side = words_as_mut::<u16>(side);
                for (index, row) in row.chunks(LANES).enumerate() {
                    let mut rounded = [f16::ZERO; LANES];
                    rounded[..row.len()].convert_from_f32_slice(row);
                    for (channel, value) in rounded[..row.len()].iter().enumerate() {
                        side[at(index * LANES + channel)] = value.to_bits();
                    }
                }
            }
            KvType::Q8_0 => {
                let side = words_as_mut::<i8>(side);
                for (group, row) in row.chunks(GROUP).enumerate() {
                    let (scale, inverse) = scale_of(row);
                    scales[group * PAGE + slot] = scale;
                    for (channel, value) in row.iter().enumerate() {
                        side[at(group * GROUP + channel)] = rounded(value * inverse);
                    }
                }
            }
        }
    }

    fn write_bounds(self, page: &mut [f32], layer: usize, head: usize) {
        let padded = self.padded_dim();
        let mut bounds = vec![0.0; 2 * padded];
        let head_page = self.head(page, layer, head);
        for channel in 0..self.head_dim {
            let keys = (0..PAGE).map(|slot| self.key(head_page, channel, slot));
            let [least, most] = keys.fold([f32::INFINITY, f32::NEG_INFINITY], |[least, most], key| {
                [least.min(key), most.max(key)]
            });
            (bounds[channel], bounds[padded + channel]) = (least, most);
        }
        let end = self.head_at(layer, head) + self.head_len();
        page[end - bounds.len()..end].copy_from_slice(&bounds);
    }

    fn key(self, page: HeadPage<'_>, channel: usize, slot: usize) -> f32 {
        let at = channel * PAGE + slot;
        match self.kv_type {
            KvType::F32 => page.keys[at],
            KvType::F16 => f16::from_bits(words_as::<u16>(page.keys)[at]).to_f32(),
            KvType::Q8_0 => {
                f32::from(words_as::<i8>(page.keys)[at]) * page.key_scales[channel / GROUP * PAGE + slot]
            }
        }
    }

    /// Rounds keys or values `[T, K·D]` to what a page would hold of them.
    pub fn round(self, rows: &mut [f32]) {
        match self.kv_type {
            KvType::F32 => {}
            KvType::F16 => {
                for row in rows.chunks_mut(LANES) {
                    let mut rounded = [f16::ZERO; LANES];
                    rounded[..row.len()].convert_from_f32_slice(row);
                    rounded[..row.len()].convert_to_f32_slice(row);
                }
            }
            KvType::Q8_0 => {
                for head in rows.chunks_mut(self.head_dim) {
                    for group in head.chunks_mut(GROUP) {
                        let (scale, inverse) = scale_of(group);
                        for value in group {
                            *value = f32::from(rounded(*value * inverse)) * scale;
                        }
                    }
                }
            }
        }
    }
}

/// The scale of a group and its inverse. A value that isn't finite makes the scale NaN, so that it shows.
fn scale_of(group: &[f32]) -> (f32, f32) {
    let largest = group.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    match group.iter().all(|value| value.is_finite()) {
        true if largest > 0.0 => (largest / 127.0, 127.0 / largest),
        true => (0.0, 0.0),
        false => (f32::NAN, 0.0),
    }
}

fn rounded(value: f32) -> i8 {
    value.round_ties_even() as i8
}

/// Plain integers that words can be read as.
trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for i8 {}

fn words_as<T: Plain>(words: &[f32]) -> &[T] {
    let len = size_of_val(words) / size_of::<T>();
    // SAFETY: any bits are a valid `T`, which is aligned no stricter than f32.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), len) }
}

fn words_as_mut<T: Plain>(words: &mut [f32]) -> &mut [T] {
    let len = size_of_val(words) / size_of::<T>();
    // SAFETY: any bits are a valid `T` and a valid f32; `T` is aligned no stricter.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}
