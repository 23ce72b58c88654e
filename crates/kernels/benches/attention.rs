//! Attention at the shapes of SmolLM2-135M (9 heads on 3, 64 channels) and Qwen2.5-0.5B (14 on 2), one thread.

use divan::Bencher;
use divan::counter::ItemsCount;
use hearth_kernels::attention::{Keys, KvType, PAGE, PageLayout, Segment, attention};
use hearth_kernels::attention_backward::AttentionShape;
use hearth_kernels::pool::Pool;

fn main() {
    divan::main();
}

/// (heads, key heads, position of the first row, rows)
const CASES: [(usize, usize, usize, usize); 6] =
    [(9, 3, 64, 1), (9, 3, 1024, 1), (14, 2, 1024, 1), (9, 3, 0, 512), (14, 2, 0, 512), (14, 2, 1024, 64)];

#[divan::bench(args = CASES)]
fn f32_pages(bencher: Bencher<'_, '_>, case: (usize, usize, usize, usize)) {
    rows(bencher, KvType::F32, case);
}

#[divan::bench(args = CASES)]
fn f16_pages(bencher: Bencher<'_, '_>, case: (usize, usize, usize, usize)) {
    rows(bencher, KvType::F16, case);
}

#[divan::bench(args = CASES)]
fn q8_0_pages(bencher: Bencher<'_, '_>, case: (usize, usize, usize, usize)) {
    rows(bencher, KvType::Q8_0, case);
}

fn rows(
    bencher: Bencher<'_, '_>,
    kv_type: KvType,
    (heads, kv_heads, position, rows): (usize, usize, usize, usize),
) {
    let shape = AttentionShape {
        num_heads: heads,
        num_kv_heads: kv_heads,
        head_dim: 64,
        scale: 0.125,
        window: None,
        soft_cap: None,
    };
    let layout =
        PageLayout { num_layers: 1, num_kv_heads: kv_heads, head_dim: 64, kv_type, has_bounds: false };
    let pages = vec![vec![0.01_f32; layout.page_len()]; (position + rows).div_ceil(PAGE)];
    let q = vec![0.3_f32; rows * heads * 64];
    let mut out = vec![0.0; q.len()];
    let pool = Pool::new(1);
    // Multiplications: two products over the keys each row sees.
    let keys = rows * position + rows * (rows + 1) / 2;
    bencher.counter(ItemsCount::new(keys * heads * 64 * 2)).bench_local(|| {
        let segment = Segment { pages: pages.iter().map(Vec::as_slice).collect(), position, rows };
        let keys = Keys { layout, layer: 0, most_pages: None };
        attention(&pool, &shape, keys, &[segment], (&q, &mut out), None);
    });
}
