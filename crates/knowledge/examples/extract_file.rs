//! Shows what one file or folder gives: `cargo run -p hearth-knowledge --example extract_file -- FILE [--time]`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;
use std::time::Instant;

use hearth_artifacts::progress::Silent;
use hearth_knowledge::document::Document;
use hearth_knowledge::extract::{ExtractOptions, extract_all, kind_of};
use hearth_knowledge::folder::read_folder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("the path of a file is missing")?;
    let time_only = args.next().as_deref() == Some("--time");
    if Path::new(&path).is_dir() {
        let start = Instant::now();
        let corpus = read_folder(Path::new(&path), &Silent)?;
        let (read, skipped) = (corpus.documents.len(), corpus.skipped.len());
        println!("{read} documents, {skipped} files skipped in {:.3} s", start.elapsed().as_secs_f64());
        for file in &corpus.skipped {
            println!("skipped {}: {}", file.path.display(), file.reason);
        }
        return Ok(());
    }
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
