//! Build, stop, resume, search; with an embedder that hashes words.

use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_artifacts::progress::Silent;

use super::*;
use crate::document::DocumentKind;
use crate::extract::extract;

/// Each word adds 1 at a place given by its hash: texts with common words are near to each other.
struct HashedWords {
    embedded: AtomicUsize,
    /// Fails once this many passages were embedded.
    limit: usize,
}

impl HashedWords {
    fn new(limit: usize) -> Self {
        Self { embedded: AtomicUsize::new(0), limit }
    }

    fn vectors(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let vector = |text: &&str| {
            let mut vector = vec![0.0; self.dim()];
            for word in crate::words::words(text) {
                let hash = word.form.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                vector[hash as usize % self.dim()] += 1.0;
            }
            vector
        };
        texts.iter().map(vector).collect()
    }
}

impl Embedder for HashedWords {
    fn name(&self) -> &'static str {
        "hashed-words"
    }

    fn dim(&self) -> usize {
        256
    }

    fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        Ok(self.vectors(texts))
    }

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        if self.embedded.load(Ordering::Relaxed) + texts.len() > self.limit {
            return Err("out of power".into());
        }
        self.embedded.fetch_add(texts.len(), Ordering::Relaxed);
        Ok(self.vectors(texts))
    }

    fn count_tokens(&self, text: &str) -> usize {
        crate::words::plain_words(text).len()
    }
}

fn corpus(num_documents: usize) -> Corpus {
    let documents = (0..num_documents).map(|index| {
        let text = format!(
            "# Part {index}\n\nThe part with number {index} weighs {} grams.\n\n# 编号{index}\n\n该零件重{}克。",
            index * 17,
            index * 17
        );
        extract(&format!("part-{index}.md"), DocumentKind::Markdown, text.as_bytes()).unwrap()
    });
    Corpus::new(documents.collect(), Vec::new())
}

fn config() -> Config {
    Config { chunk: ChunkConfig { target_tokens: 40, max_tokens: 80 }, embed_batch: 4 }
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hearth-kb-{name}-{}", std::process::id()));
        let _ = fs_err::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

fn ids(hits: &[Hit<'_>]) -> Vec<u32> {
    hits.iter().map(|hit| hit.chunk.id.0).collect()
}

#[test]
fn a_stopped_build_leaves_no_base_and_goes_on_with_what_it_has() {
    let folder = Folder::new("resume");
    let failing = HashedWords::new(9);
    let error = KnowledgeBase::build(&corpus(10), &config(), &failing, &Silent, &folder.0).unwrap_err();
    assert_eq!(error.to_string(), "embedder `hashed-words`: out of power");
    assert!(matches!(KnowledgeBase::open(&folder.0), Err(Error::Missing { .. })));
    let second = HashedWords::new(usize::MAX);
    let base = KnowledgeBase::build(&corpus(10), &config(), &second, &Silent, &folder.0).unwrap();
    assert_eq!(base.chunks().len(), 20);
    assert_eq!(second.embedded.load(Ordering::Relaxed), 20 - 8);

    // The same vectors as without the stop.
    let whole = Folder::new("whole");
    let other = KnowledgeBase::build(&corpus(10), &config(), &second, &Silent, &whole.0).unwrap();
    assert_eq!(base.vectors, other.vectors);
}

#[test]
fn a_rebuild_embeds_only_what_changed_and_the_old_base_stays_until_then() {
    let folder = Folder::new("rebuild");
    let first = HashedWords::new(usize::MAX);
    let base = KnowledgeBase::build(&corpus(5), &config(), &first, &Silent, &folder.0).unwrap();
    assert!(base.is_current(&corpus(5).hash(), &config(), "hashed-words"));
    assert!(!base.is_current(&corpus(6).hash(), &config(), "hashed-words"));
    assert!(!base.is_current(&corpus(5).hash(), &config(), "other"));
    let failing = HashedWords::new(0);
    KnowledgeBase::build(&corpus(6), &config(), &failing, &Silent, &folder.0).unwrap_err();
    assert_eq!(KnowledgeBase::open(&folder.0).unwrap().documents().len(), 5);
    let again = HashedWords::new(usize::MAX);
    KnowledgeBase::build(&corpus(6), &config(), &again, &Silent, &folder.0).unwrap();
    assert_eq!(again.embedded.load(Ordering::Relaxed), 2);
    assert_eq!(KnowledgeBase::open(&folder.0).unwrap().documents().len(), 6);
}

#[test]
fn every_method_finds_the_part_and_hybrid_tells_the_ranks() {
    let folder = Folder::new("search");
    let embedder = HashedWords::new(usize::MAX);
    let base = KnowledgeBase::build(&corpus(12), &config(), &embedder, &Silent, &folder.0).unwrap();
    for method in [Method::Bm25, Method::Dense, Method::Hybrid] {
        let hits = base.search("the part that weighs 119 grams", method, 3, &embedder).unwrap();
        assert_eq!(hits[0].document.path, "part-7.md", "{method:?}");
        assert_eq!(hits[0].rank, 1);
    }
    let hits = base.search("该零件重119克", Method::Hybrid, 5, &embedder).unwrap();
    assert_eq!(hits[0].document.path, "part-7.md");
    assert_eq!(hits[0].bm25_rank, Some(1));
    let twice = base.search("该零件重119克", Method::Hybrid, 5, &embedder).unwrap();
    assert_eq!(ids(&hits), ids(&twice));
    assert!(base.search("", Method::Bm25, 5, &embedder).unwrap().is_empty());
}

#[test]
fn fusion_equals_the_sums_worked_out_by_hand() {
    let bm25 = [(3, 9.0), (1, 8.0), (2, 7.0)];
    let dense = [(1, 0.9), (4, 0.8)];
    let fused = fuse(&[&bm25, &dense]);
    let order: Vec<u32> = fused.iter().map(|&(id, _)| id).collect();
    assert_eq!(order, [1, 3, 4, 2]);
    assert!((fused[0].1 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-12);
    assert!((fused[1].1 - 1.0 / 61.0).abs() < 1e-12);
}

#[test]
fn a_base_of_another_format_or_embedder_is_refused() {
    let folder = Folder::new("format");
    let embedder = HashedWords::new(usize::MAX);
    let mut base = KnowledgeBase::build(&corpus(1), &config(), &embedder, &Silent, &folder.0).unwrap();
    base.embedder = "other".into();
    let error = base.search("x", Method::Dense, 1, &embedder).unwrap_err();
    assert!(error.to_string().contains("built with embedder `other`"), "{error}");
    let file = folder.0.join(crate::store::FILE);
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("UPDATE settings SET value = '99' WHERE name = 'format_version'", []).unwrap();
    drop(connection);
    let error = KnowledgeBase::open(&folder.0).unwrap_err();
    assert!(error.to_string().contains("has format version 99"), "{error}");
    fs_err::write(&file, "not a database").unwrap();
    assert!(KnowledgeBase::open(&folder.0).is_err());
}

#[test]
fn a_base_is_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<KnowledgeBase>();
}
