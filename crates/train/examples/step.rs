//! Times training steps without the rest of the program: `cargo run --release -p hearth-train --example step -- small 8`.

#![expect(clippy::print_stdout, reason = "this is a program")]

use hearth_kernels::pool::Pool;
use hearth_train::bench::{Shape, run};

fn main() -> hearth_train::Result<()> {
    let mut args = std::env::args().skip(1);
    let shape = if args.next().as_deref() == Some("large") { Shape::Large } else { Shape::Small };
    let steps = args.next().and_then(|steps| steps.parse().ok()).unwrap_or(8);
    let speed = run(shape, steps, &Pool::new(Pool::default_threads()))?;
    println!("{} {speed:?}", shape.name());
    Ok(())
}
