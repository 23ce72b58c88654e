//! Over bases without vectors, so that every rank can be worked out by hand.

use hearth_artifacts::progress::Silent;

use super::*;
use crate::chunk::ChunkConfig;
use crate::document::DocumentKind;
use crate::extract::extract;
use crate::knowledge_base::{Config, FileState, Metadata};

struct Made {
    folder: std::path::PathBuf,
    base: KnowledgeBase,
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.folder);
    }
}

fn made(name: &str, documents: &[(&str, &str)]) -> Made {
    let folder = std::env::temp_dir().join(format!("hearth-retrieve-{name}-{}", std::process::id()));
    let _ = fs_err::remove_dir_all(&folder);
    let config = Config { chunk: ChunkConfig { target_tokens: 8, max_tokens: 16 }, embed_batch: 4 };
    let mut base = KnowledgeBase::create(&folder, &config, None).unwrap();
    let mut writer = base.writer(None, &Silent).unwrap();
    for (path, text) in documents {
        let document = extract(path, DocumentKind::Markdown, text.as_bytes()).unwrap();
        let (root, sha256) = (String::new(), String::new());
        let state = FileState { path: (*path).into(), root, sha256, bytes: 0, modified: 0, skipped: None };
        writer.put(state, vec![document], &Metadata::new()).unwrap();
    }
    writer.finish().unwrap();
    Made { folder, base }
}

const TEXT: &str = "# Pump\n\nThe pump moves water to the upper tank of the house.\n\n\
    Its valve opens at four bar and closes at three.\n\n\
    Drain the hose before the first frost of each winter.\n\n# Lamp\n\n\
    The lamp needs a bulb of sixty watts and no more.\n";

fn texts<'a>(retrieved: &'a Retrieved<'_>) -> Vec<&'a str> {
    retrieved.passages.iter().map(|passage| passage.chunk.text.as_str()).collect()
}

fn options(k: usize, context: Context) -> Options<'static> {
    Options { context, ..Options::new(Method::Bm25, k) }
}

#[test]
fn context_is_the_text_around_the_chunk_as_the_document_has_it() {
    let made = made("context", &[("a.md", TEXT)]);
    let sources = [Source { name: "a", base: &made.base, embedder: None }];
    let document = made.base.documents()[0].text();
    let mut lengths = Vec::new();
    for context in [Context::Chunk, Context::Neighbours, Context::Section] {
        let found = retrieve(&["when does the valve open"], &sources, &options(1, context)).unwrap();
        let passage = &found.passages[0];
        assert!(passage.chunk.text.contains("four bar"), "{context:?}");
        assert_eq!(document[passage.chunk.range.clone()], passage.chunk.text);
        lengths.push(passage.chunk.text.len());
    }
    assert!(lengths[0] < lengths[1] && lengths[1] <= lengths[2], "{lengths:?}");
    let section = retrieve(&["valve"], &sources, &options(1, Context::Section)).unwrap();
    let text = texts(&section)[0];
    assert!(text.contains("upper tank") && text.contains("winter") && !text.contains("bulb"), "{text}");
}

#[test]
fn passages_that_touch_are_joined_and_none_is_given_twice() {
    let made = made("join", &[("a.md", TEXT)]);
    let sources = [Source { name: "a", base: &made.base, embedder: None }];
    let found = retrieve(&["valve hose water"], &sources, &options(5, Context::Neighbours)).unwrap();
    for (index, passage) in found.passages.iter().enumerate() {
        for other in &found.passages[..index] {
            assert!(!touches(passage, other) && !contains(other, passage));
        }
    }
    assert_eq!(found.passages.len(), 1);
}

#[test]
fn near_duplicates_are_dropped_and_the_budget_is_kept() {
    let copy = TEXT.replace("sixty", "sixty-one");
    let made = made("copies", &[("a.md", TEXT), ("b.md", &copy), ("c.md", "Bulb and lamp of another kind.")]);
    let sources = [Source { name: "a", base: &made.base, embedder: None }];
    let all = Options { drop_duplicates: false, ..options(9, Context::Chunk) };
    let query = ["valve opens at four bar lamp bulb"];
    assert_eq!(retrieve(&query, &sources, &all).unwrap().passages.len(), 5);
    let found = retrieve(&query, &sources, &options(9, Context::Chunk)).unwrap();
    assert_eq!(found.passages.len(), 3, "{:?}", texts(&found));
    let tokens = found.passages.iter().map(|passage| passage.chunk.num_tokens);
    let least = tokens.clone().min().unwrap();
    for max_tokens in [0, least, least + 1, tokens.sum::<usize>()] {
        let few = Options { max_tokens, ..options(9, Context::Chunk) };
        let found = retrieve(&query, &sources, &few).unwrap();
        let sum: usize = found.passages.iter().map(|passage| passage.chunk.num_tokens).sum();
        assert!(sum <= max_tokens && (sum > 0) == (max_tokens > 0), "{sum} of {max_tokens}");
    }
}

#[test]
fn several_bases_and_several_queries_are_searched_as_one() {
    let first = made("first", &[("a.md", "The pump is red."), ("b.md", "The lamp is blue.")]);
    let second = made("second", &[("c.md", "A green pump, and a pump beside the pump.")]);
    let sources = [
        Source { name: "one", base: &first.base, embedder: None },
        Source { name: "two", base: &second.base, embedder: None },
    ];
    let found = retrieve(&["pump"], &sources, &options(9, Context::Chunk)).unwrap();
    let mut names: Vec<(&str, &str)> =
        found.passages.iter().map(|passage| (passage.base, &*passage.document.path)).collect();
    names.sort_unstable();
    assert_eq!(names, [("one", "a.md"), ("two", "c.md")]);
    let found = retrieve(&["red pump", "lamp"], &sources, &options(9, Context::Chunk)).unwrap();
    assert_eq!(found.passages.len(), 3);
    assert_eq!(
        found.trace.iter().map(|stage| stage.stage).collect::<Vec<_>>(),
        ["embed", "search", "fuse", "passages"]
    );
}

#[test]
fn a_reranker_moves_what_it_likes_up_and_a_broken_one_is_named() {
    struct Length(f32);
    impl Reranker for Length {
        fn name(&self) -> &'static str {
            "length"
        }
        fn score(&self, _query: &str, passages: &[&str]) -> Result<Vec<f32>, String> {
            Ok(passages.iter().map(|passage| passage.len() as f32 * self.0).collect())
        }
    }
    let made = made(
        "rerank",
        &[("a.md", "pump"), ("b.md", "pump of a house by the sea"), ("c.md", "a pump or two")],
    );
    let sources = [Source { name: "a", base: &made.base, embedder: None }];
    let best = |reranker: Option<&dyn Reranker>| {
        let rerank = reranker.map_or(Rerank::Off, Rerank::Model);
        let options = Options { rerank, ..Options::new(Method::Bm25, 3) };
        let found = retrieve(&["pump"], &sources, &options)?;
        Ok::<_, Error>(found.passages.iter().map(|passage| passage.document.path.clone()).collect::<Vec<_>>())
    };
    assert_eq!(best(None).unwrap(), ["a.md", "c.md", "b.md"]);
    assert_eq!(best(Some(&Length(-1.0))).unwrap(), ["a.md", "c.md", "b.md"]);
    assert_eq!(best(Some(&Length(1.0))).unwrap().len(), 3);
    let error = best(Some(&Length(f32::NAN))).unwrap_err();
    assert!(error.to_string().contains("reranker `length`: 3 scores"), "{error}");
}
