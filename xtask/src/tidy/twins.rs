//! English and Chinese pages say the same: each `README.md` has its `README.zh-CN.md` with the same outline.
//!
//! The outline is the levels of the headings in order, and the number of code blocks.

use crate::repo::{Repo, file_name};

const ENGLISH: &str = "README.md";
const CHINESE: &str = "README.zh-CN.md";

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let mut findings = Vec::new();
    if repo.text(ENGLISH).is_none() {
        findings.push(format!("there is no `{ENGLISH}`"));
    }
    for (path, text) in repo.with_extension(&["md"]) {
        match file_name(path) {
            ENGLISH => {
                let twin = path.replace(ENGLISH, CHINESE);
                findings.extend(match repo.text(&twin) {
                    None => Some(format!("{path} has no twin `{twin}`")),
                    Some(other) => difference(text, other).map(|what| format!("{path} and its twin: {what}")),
                });
            }
            CHINESE if repo.text(&path.replace(CHINESE, ENGLISH)).is_none() => {
                findings.push(format!("{path} has no English twin"));
            }
            _ => {}
        }
    }
    findings
}

fn difference(english: &str, chinese: &str) -> Option<String> {
    let ((first, first_blocks), (second, second_blocks)) = (outline(english), outline(chinese));
    if first != second {
        return Some(format!("headings of levels {first:?} and {second:?}"));
    }
    let differ = first_blocks != second_blocks;
    differ.then(|| format!("{first_blocks} and {second_blocks} code blocks"))
}

/// Levels of the headings, and the number of code blocks.
fn outline(text: &str) -> (Vec<usize>, usize) {
    let (mut levels, mut num_fences) = (Vec::new(), 0_usize);
    for line in text.lines() {
        let level = line.chars().take_while(|&c| c == '#').count();
        if line.starts_with("```") {
            num_fences += 1;
        } else if num_fences.is_multiple_of(2) && level > 0 && line[level..].starts_with(' ') {
            levels.push(level);
        }
    }
    (levels, num_fences / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn pages_of_this_repository_have_their_twins() {
        on::this_repository(check);
    }

    #[test]
    fn missing_twins_and_other_outlines_are_found() {
        let english = "# a\n## b\n```sh\n# no heading\n```\n";
        let with = |chinese: &str, expected: &[&str]| {
            on::files(check, &[(ENGLISH, english), (CHINESE, chinese)], expected);
        };
        with("# 甲\n## 乙\n```sh\n# 注\n```\n", &[]);
        with("# 甲\n```\n```\n", &["[1, 2] and [1]"]);
        with("# 甲\n## 乙\n", &["1 and 0 code blocks"]);
        on::files(check, &[(ENGLISH, english)], &["README.md has no twin"]);
        on::files(check, &[(CHINESE, "")], &["there is no", "has no English twin"]);
    }
}
