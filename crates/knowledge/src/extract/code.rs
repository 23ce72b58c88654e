//! Source code and settings files → code blocks, cut where the outermost level begins something new.

use super::{Extracted, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

pub(super) const EXTENSIONS: &[&str] = &[
    "py",
    "pyi",
    "rs",
    "js",
    "mjs",
    "jsx",
    "ts",
    "tsx",
    "vue",
    "java",
    "kt",
    "scala",
    "c",
    "h",
    "cc",
    "cpp",
    "cxx",
    "hpp",
    "cu",
    "cs",
    "go",
    "rb",
    "php",
    "pl",
    "lua",
    "swift",
    "m",
    "r",
    "jl",
    "hs",
    "ml",
    "clj",
    "ex",
    "erl",
    "dart",
    "sh",
    "bash",
    "zsh",
    "ps1",
    "bat",
    "sql",
    "proto",
    "graphql",
    "toml",
    "yaml",
    "yml",
    "ini",
    "cfg",
    "conf",
    "properties",
    "css",
    "scss",
    "cmake",
    "tf",
    "nix",
    "asm",
    "s",
    "v",
    "vhd",
    "f90",
    "diff",
    "patch",
];

/// Pieces are joined up to this many bytes; a longer function is one block.
const TARGET_BYTES: usize = 1500;

/// A longer piece is cut at any line, and a longer line anywhere.
const MAX_BYTES: usize = 6000;

pub(super) fn extract(path: &str, bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, None)?;
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let name = path.rsplit('/').next().unwrap_or(path).to_string();
    let blocks = pieces(&source).into_iter().map(|piece| Block::new(BlockKind::Code, piece)).collect();
    Ok(Extracted { title: Some(name), blocks, notes: note.into_iter().collect(), ..Extracted::default() })
}

/// Cuts after an empty line before a line that isn't indented.
pub(super) fn pieces(source: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    // The last place where a new piece may begin.
    let mut boundary = 0;
    let mut after_empty = false;
    for line in source.split_inclusive('\n') {
        let empty = line.trim().is_empty();
        let outermost = !empty && !line.starts_with([' ', '\t', '}', ')', ']']);
        if after_empty && outermost {
            if at - start > TARGET_BYTES && boundary > start {
                pieces.push(&source[start..boundary]);
                start = boundary;
            }
            boundary = at;
        }
        if at + line.len() - start > MAX_BYTES {
            for end in [boundary, at] {
                if end > start {
                    pieces.push(&source[start..end]);
                    start = end;
                }
            }
        }
        after_empty = empty;
        at += line.len();
    }
    if at - start > TARGET_BYTES && boundary > start {
        pieces.push(&source[start..boundary]);
        start = boundary;
    }
    pieces.push(&source[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_source_and_begin_at_the_outermost_level() {
        let function = |index: usize| {
            format!("fn f{index}() {{\n    let x = {index};\n\n    x + {}\n}}\n\n", "1 + ".repeat(60) + "1")
        };
        let source: String = (0..40).map(function).collect();
        let found = pieces(&source);
        assert_eq!(found.concat(), source);
        assert!(
            found.len() > 5
                && found.iter().all(|piece| piece.starts_with("fn f") && piece.len() <= MAX_BYTES)
        );
        let long = "x".repeat(20_000);
        assert_eq!(pieces(&long), [long.as_str()]);
        let lines = "    y = 1\n".repeat(5_000);
        assert_eq!(pieces(&lines).concat(), lines);
        assert!(pieces(&lines).iter().all(|piece| piece.len() <= MAX_BYTES));
        assert_eq!(pieces(""), [""]);
    }

    #[test]
    fn indentation_stays() {
        let extracted = extract("a/b.py", b"def f():\r\n    return 1\r\n").unwrap();
        assert_eq!(extracted.title.as_deref(), Some("b.py"));
        assert_eq!(extracted.blocks, [Block::new(BlockKind::Code, "def f():\n    return 1\n")]);
    }
}
