//! Attention at the shapes of SmolLM2-135M (9 heads on 3, 64 channels) and Qwen2.5-0.5B (14 on 2), one thread.

use divan::Bencher;
use divan::counter::ItemsCount;
use hearth_kernels::attention::{PAGE, PageLayout, Segment, attention};
use hearth_kernels::attention_backward::AttentionShape;
use hearth_kernels::pool::Pool;

fn main() {
    divan::main();
}

/// (heads, key heads, position of the first row, rows)
const CASES: [(usize, usize, usize, usize); 6] =
    [(9, 3, 64, 1), (9, 3, 1024, 1), (14, 2, 1024, 1), (9, 3, 0, 512), (14, 2, 0, 512), (14, 2, 1024, 64)];

#[divan::bench(args = CASES)]
fn rows(bencher: Bencher<'_, '_>, (heads, kv_heads, position, rows): (usize, usize, usize, usize)) {
    let shape = AttentionShape {
        num_heads: heads,
        num_kv_heads: kv_heads,
        head_dim: 64,
        scale: 0.125,
        window: None,
        soft_cap: None,
    };
    let layout = PageLayout { num_layers: 1, num_kv_heads: kv_heads, head_dim: 64 };
    let pages = vec![vec![0.01_f32; layout.page_len()]; (position + rows).div_ceil(PAGE)];
    let q = vec![0.3_f32; rows * heads * 64];
    let mut out = vec![0.0; q.len()];
    let pool = Pool::new(1);
    // Multiplications: two products over the keys each row sees.
    let keys = rows * position + rows * (rows + 1) / 2;
    bencher.counter(ItemsCount::new(keys * heads * 64 * 2)).bench_local(|| {
        let segment = Segment { pages: pages.iter().map(Vec::as_slice).collect(), position, rows };
        attention(&pool, &shape, (layout, 0), &[segment], (&q, &mut out), None);
    });
}
