//! Shows what one file or folder gives: `cargo run -p hearth-knowledge --example extract_file -- FILE [--time]`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;
use std::time::Instant;

use hearth_knowledge::document::Document;
use hearth_knowledge::extract::{ExtractOptions, extract_all, kind_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("the path of a file is missing")?;
    let time_only = args.next().as_deref() == Some("--time");
    let kind = kind_of(Path::new(&path)).ok_or("unknown type")?;
    let bytes = fs_err::read(&path)?;
    let start = Instant::now();
    let documents = extract_all(&path, kind, &bytes, &ExtractOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    if time_only {
        let pages: u32 = documents.iter().map(Document::num_pages).sum();
        let bytes: usize = documents.iter().map(|document| document.text().len()).sum();
        println!("{} documents, {pages} pages, {bytes} bytes of text in {seconds:.3} s", documents.len());
        return Ok(());
    }
    for document in &documents {
        println!("# {} ({})", document.title, document.path);
        for block in &document.blocks {
            let page = block.page.map_or(String::new(), |page| format!("p{page} "));
            println!("{page}{:?}: {}", block.kind, block.text);
        }
        for note in &document.notes {
            println!("note: {note}");
        }
    }
    Ok(())
}
