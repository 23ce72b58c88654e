//! Build, stop, resume, search; with an embedder that hashes words.

use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_artifacts::progress::Silent;

use super::*;
use crate::document::DocumentKind;
use crate::extract::extract;
use crate::filter::Filter;

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
    assert!(base.is_current(&corpus(5), &config(), "hashed-words"));
    assert!(!base.is_current(&corpus(6), &config(), "hashed-words"));
    assert!(!base.is_current(&corpus(5), &config(), "other"));
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
    let bm25 = [(3, 9.0f32), (1, 8.0), (2, 7.0)];
    let dense = [(1, 0.9f32), (4, 0.8)];
    let fused = search::fuse(&[&bm25, &dense]);
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
    base.embedder = Some("other".into());
    let error = base.search("x", Method::Dense, 1, &embedder).unwrap_err();
    assert!(error.to_string().contains("built with embedder `other`"), "{error}");
    let file = folder.0.join(crate::store::FILE);
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("UPDATE settings SET value = '99' WHERE name = 'format_version'", []).unwrap();
    let error = KnowledgeBase::open(&folder.0).unwrap_err();
    assert!(error.to_string().contains("has format version 99"), "{error}");
    let error = KnowledgeBase::build(&corpus(1), &config(), &embedder, &Silent, &folder.0).unwrap_err();
    assert!(error.to_string().contains("has format version 99"), "{error}");
    // What an older program built is made anew, since its documents are at hand.
    connection.execute("UPDATE settings SET value = '1' WHERE name = 'format_version'", []).unwrap();
    drop(connection);
    assert!(KnowledgeBase::open(&folder.0).is_err());
    KnowledgeBase::build(&corpus(1), &config(), &embedder, &Silent, &folder.0).unwrap();
    fs_err::write(&file, "not a database").unwrap();
    assert!(KnowledgeBase::open(&folder.0).is_err());
}

#[test]
fn a_base_is_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<KnowledgeBase>();
}

fn state(path: &str) -> FileState {
    FileState {
        path: path.into(),
        root: "root".into(),
        sha256: String::new(),
        bytes: 0,
        modified: 0,
        skipped: None,
    }
}

/// Every method's documents, chunks and scores for some queries, without ids, which tell the order of changes.
fn found(base: &KnowledgeBase, embedder: &HashedWords) -> Vec<(String, String, i64)> {
    let queries = ["part that weighs 34 grams", "该零件重119克", "编号3", "number 5"];
    let methods = [Method::Bm25, Method::Dense, Method::Hybrid];
    let mut all = Vec::new();
    for (query, method) in queries.iter().flat_map(|query| methods.map(|method| (query, method))) {
        let hits = base.search(query, method, 50, embedder).unwrap();
        let mut hits: Vec<_> = hits
            .iter()
            .filter(|_| method != Method::Hybrid)
            .map(|hit| (hit.document.path.clone(), hit.chunk.text.clone(), (hit.score * 1e4) as i64))
            .collect();
        hits.sort();
        all.extend(hits);
    }
    all
}

#[test]
fn a_base_that_was_changed_step_by_step_finds_what_one_made_anew_finds() {
    let (folder, whole) = (Folder::new("steps"), Folder::new("anew"));
    let embedder = HashedWords::new(usize::MAX);
    let all = corpus(9).documents;
    let mut base = KnowledgeBase::create(&folder.0, &config(), Some(&embedder)).unwrap();
    let none = Metadata::new();
    let mut writer = base.writer(Some(&embedder), &Silent).unwrap();
    for document in all.iter().rev() {
        // What will be replaced, and a second document of the file that will be gone.
        let old = Document { path: document.path.clone(), ..all[(document.id.0 as usize + 1) % 9].clone() };
        let second = Document { path: format!("{}#2", document.path), ..document.clone() };
        writer.put(state(&document.path), vec![old, second], &none).unwrap();
        writer.flush().unwrap();
    }
    for document in &all {
        writer.put(state(&document.path), vec![document.clone()], &none).unwrap();
    }
    assert!(writer.remove("part-4.md").unwrap());
    assert!(!writer.remove("part-4.md").unwrap());
    let changes = writer.finish().unwrap();
    assert_eq!((changes.added, changes.changed, changes.removed), (18, 9, 10));
    let kept: Vec<Document> = all.into_iter().filter(|document| document.path != "part-4.md").collect();
    let kept = Corpus::new(kept, Vec::new());
    let anew = KnowledgeBase::build(&kept, &config(), &embedder, &Silent, &whole.0).unwrap();
    assert_eq!(found(&base, &embedder), found(&anew, &embedder));
    // As the file has it, too.
    assert_eq!(found(&KnowledgeBase::open(&folder.0).unwrap(), &embedder), found(&anew, &embedder));
}

#[test]
fn a_reader_takes_over_what_a_writer_kept() {
    let folder = Folder::new("refresh");
    let embedder = HashedWords::new(usize::MAX);
    let mut base = KnowledgeBase::build(&corpus(4), &config(), &embedder, &Silent, &folder.0).unwrap();
    let mut reader = KnowledgeBase::open(&folder.0).unwrap();
    assert!(!reader.refresh().unwrap());
    let mut writer = base.writer(Some(&embedder), &Silent).unwrap();
    let second = KnowledgeBase::open(&folder.0).unwrap().writer(Some(&embedder), &Silent).map(|_| ());
    assert!(matches!(second, Err(Error::Artifacts(hearth_artifacts::Error::Locked { .. }))));
    writer.put(state("part-7.md"), vec![corpus(8).documents[7].clone()], &Metadata::new()).unwrap();
    writer.remove("part-0.md").unwrap();
    writer.finish().unwrap();
    assert_eq!(reader.documents().len(), 4);
    assert!(reader.refresh().unwrap());
    assert_eq!(found(&reader, &embedder), found(&base, &embedder));
    assert_eq!(reader.documents().last().unwrap().path, "part-7.md");

    // A base that was built anew is another epoch: its ids mean something else.
    KnowledgeBase::build(&corpus(2), &config(), &embedder, &Silent, &folder.0).unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.documents().len(), 2);
}

#[test]
fn an_exported_base_is_imported_whole_or_not_at_all() {
    let (folder, other) = (Folder::new("export"), Folder::new("import"));
    let embedder = HashedWords::new(usize::MAX);
    let base = KnowledgeBase::build(&corpus(5), &config(), &embedder, &Silent, &folder.0).unwrap();
    let file = folder.0.join("five.hearth-kb");
    base.export(&file).unwrap();
    assert!(matches!(base.export(&file), Err(Error::Exists { .. })));
    let copy = KnowledgeBase::import(&file, &other.0).unwrap();
    assert_eq!(found(&copy, &embedder), found(&base, &embedder));
    assert!(copy.is_current(&corpus(5), &config(), "hashed-words"));
    assert!(matches!(KnowledgeBase::import(&file, &other.0), Err(Error::Exists { .. })));
    drop(copy);
    fs_err::remove_dir_all(&other.0).unwrap();
    let bytes = fs_err::read(&file).unwrap();
    for length in [0, 100, 4096, bytes.len() / 2, bytes.len() - 1] {
        fs_err::write(&file, &bytes[..length]).unwrap();
        let error = KnowledgeBase::import(&file, &other.0).expect_err("a cut file");
        assert!(error.to_string().contains("five.hearth-kb"), "{length} of {} bytes: {error}", bytes.len());
        assert!(matches!(KnowledgeBase::open(&other.0), Err(Error::Missing { .. })));
    }
}

#[test]
fn filters_and_a_base_without_vectors() {
    let folder = Folder::new("filter");
    let mut base = KnowledgeBase::create(&folder.0, &config(), None).unwrap();
    let mut writer = base.writer(None, &Silent).unwrap();
    for (index, document) in corpus(6).documents.into_iter().enumerate() {
        let metadata = Metadata::from([("year".to_owned(), (2020 + index % 2).to_string())]);
        writer.put(state(&document.path), vec![document], &metadata).unwrap();
    }
    writer.finish().unwrap();
    let paths = |filter: &str| -> Vec<String> {
        let filter = Filter::parse(filter).unwrap();
        let query = Query { filter, ..Query::new("the part weighs grams", Method::Bm25, 9) };
        let hits = base.find(&Query { k: 20, ..query }, None).unwrap();
        let paths: std::collections::BTreeSet<_> = hits.iter().map(|hit| hit.document.path.clone()).collect();
        paths.into_iter().collect()
    };
    assert_eq!(paths("").len(), 6);
    assert_eq!(paths("year=2021"), ["part-1.md", "part-3.md", "part-5.md"]);
    assert_eq!(paths("year=2021,path!=part-3.md,kind=markdown"), ["part-1.md", "part-5.md"]);
    assert_eq!(paths("year=1999"), [""; 0]);
    let error = base.find(&Query::new("part", Method::Dense, 1), None).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn another_embedder_takes_over_only_when_it_has_everything() {
    struct Doubled(HashedWords);
    impl Embedder for Doubled {
        fn name(&self) -> &'static str {
            "doubled"
        }
        fn dim(&self) -> usize {
            512
        }
        fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
            Ok(self.0.vectors(texts).into_iter().map(|vector| [vector.clone(), vector].concat()).collect())
        }
        fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
            self.0.embed_passages(texts)?;
            self.embed_queries(texts)
        }
        fn count_tokens(&self, text: &str) -> usize {
            self.0.count_tokens(text)
        }
    }
    let folder = Folder::new("reembed");
    let embedder = HashedWords::new(usize::MAX);
    let mut base = KnowledgeBase::build(&corpus(5), &config(), &embedder, &Silent, &folder.0).unwrap();
    let before = found(&base, &embedder);
    let failing = Doubled(HashedWords::new(6));
    base.re_embed(&failing, &Silent).unwrap_err();
    assert_eq!(found(&KnowledgeBase::open(&folder.0).unwrap(), &embedder), before);
    let other = Doubled(HashedWords::new(usize::MAX));
    base.re_embed(&other, &Silent).unwrap();
    assert_eq!(other.0.embedded.load(Ordering::Relaxed), 10 - 4);
    assert_eq!(base.embedder(), Some("doubled"));
    assert_eq!(base.search("编号3", Method::Dense, 1, &other).unwrap()[0].document.path, "part-3.md");
    assert!(base.search("编号3", Method::Dense, 1, &embedder).is_err());
}
