//! Metrics as tables: answer, accepted answers, expected score.

use super::*;

fn accepted(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn check(metric: fn(&str, &[String]) -> f64, cases: &[(&str, &[&str], f64)]) {
    for (answer, list, expected) in cases {
        let found = metric(answer, &accepted(list));
        assert!((found - expected).abs() < 1e-9, "{answer:?} against {list:?}: {found}, expected {expected}");
    }
}

#[test]
fn exact_match_ignores_case_punctuation_and_articles() {
    check(
        exact_match,
        &[
            ("", &["x"], 0.0),
            ("…!", &["x"], 0.0),
            ("…!", &["?"], 0.0),
            ("x", &[], 0.0),
            ("The Red Lamp.", &["red lamp"], 1.0),
            ("red lamp now", &["red lamp"], 0.0),
            ("30 minutes", &["half an hour", "30 minutes"], 1.0),
            ("30min", &["30 min"], 1.0),
            ("E-17", &["E17"], 1.0),
            ("1,200 hours", &["1200 hours"], 1.0),
            ("4.5 V", &["45 V"], 0.0),
            ("-20 °C", &["20 °C"], 0.0),
            ("−20℃", &["-20 °C"], 1.0),
            ("12%", &["12"], 0.0),
            ("don't", &["dont"], 1.0),
            ("A", &["a"], 1.0),
            ("30 minutes [1]", &["30 minutes"], 1.0),
            ("三十分钟。", &["三十分钟"], 1.0),
            ("３０ 分钟", &["30分钟"], 1.0),
            ("“蓝色”指示灯！", &["蓝色指示灯"], 1.0),
            ("蓝色指示灯【2】【3】", &["蓝色指示灯"], 1.0),
            ("绿色", &["蓝色"], 0.0),
        ],
    );
}

#[test]
fn f1_counts_words_in_english_and_characters_in_chinese() {
    check(
        token_f1,
        &[
            ("", &["x"], 0.0),
            ("。。", &["x"], 0.0),
            ("x", &["?"], 0.0),
            ("red lamp", &["red lamp"], 1.0),
            ("the red", &["red lamp"], 2.0 / 3.0),
            // One of four words, all of one: precision 1/4, recall 1.
            ("it takes thirty minutes", &["minutes"], 0.4),
            // A repeated word counts once.
            ("red red", &["red"], 2.0 / 3.0),
            ("green", &["blue", "green"], 1.0),
            // Four characters, two of them wanted.
            ("每半年换", &["半年"], 2.0 / 3.0),
            ("蓝色", &["绿色"], 0.5),
            // A mix: 按, Menu, 键 against Menu.
            ("按Menu键", &["Menu"], 0.5),
            ("[1]", &["1"], 0.0),
        ],
    );
}

#[test]
fn contains_keeps_words_and_numbers_whole() {
    check(
        contains,
        &[
            ("", &["x"], 0.0),
            ("anything", &["", "。"], 0.0),
            ("It takes 15 minutes.", &["5"], 0.0),
            ("It takes 15 minutes.", &["5 minutes"], 0.0),
            ("It takes 5 minutes.", &["5"], 1.0),
            ("It needs 4.5 V.", &["5"], 0.0),
            ("It needs 4.5 V.", &["4.5V", "4,5 V"], 1.0),
            ("It ended at 5.", &["5"], 1.0),
            ("version 2.4.1", &["2.4"], 0.0),
            ("Error E5 is shown", &["5"], 0.0),
            ("Error E-5 is shown", &["5"], 0.0),
            ("Error E-5 is shown", &["E5"], 1.0),
            ("5V", &["5"], 1.0),
            ("store it at -20 °C", &["20 °C"], 0.0),
            ("between 10-20 °C", &["20 °C"], 1.0),
            ("1,200 hours", &["200"], 0.0),
            ("the report port", &["port"], 1.0),
            ("the report", &["port"], 0.0),
            ("答案是十五分钟", &["五分钟"], 0.0),
            ("答案是十五分钟", &["十五分钟"], 1.0),
            ("保修期为3万小时", &["3"], 0.0),
            ("保修期为３６个月。", &["36个月"], 1.0),
            ("保修期为136个月。", &["36个月"], 0.0),
            ("约5分钟", &["5分钟"], 1.0),
            ("按 Menu 键", &["menu键"], 1.0),
            // An article alone has to be the whole answer: it occurs in any sentence.
            ("A.", &["a"], 1.0),
            ("a lamp", &["A"], 0.0),
            ("see [12]", &["12"], 0.0),
            ("see [note 12]", &["12"], 1.0),
        ],
    );
}

#[test]
fn a_citation_hits_when_it_names_the_source() {
    let hit = |cited: &[&str], source: &str| citation_hit(cited.iter().copied(), source) > 0.0;
    assert!(!hit(&[], "a.md"));
    assert!(hit(&["b.md", "a.md"], "a.md"));
    assert!(hit(&["docs/a.md"], "a.md"));
    assert!(hit(&["a.md"], "handbook/docs/a.md"));
    assert!(hit(&["docs\\a.md"], "./docs/a.md"));
    assert!(!hit(&["data.md"], "a.md"));
    assert!(!hit(&["a.md.bak"], "a.md"));
    assert!(!hit(&[""], "a.md"));
    assert!(hit(&["安装/维护.pdf"], "维护.pdf"));
}

#[test]
fn only_numbers_in_brackets_are_citation_marks() {
    for (text, expected) in [
        ("", ""),
        ("a [1] b [2, 3]", "a  b "),
        ("[x] [", "[x] ["),
        ("【1】【甲】", "【甲】"),
        ("array[] [ ]", "array[] [ ]"),
        ("[[1]]", "[]"),
    ] {
        assert_eq!(strip_citation_marks(text), expected, "{text}");
    }
}

#[test]
fn scores_agree_with_each_other() {
    let answers = ["30 min", "半小时", "the blue lamp", "E17", "-4.5 %"];
    for answer in answers {
        let list = accepted(&[answer]);
        assert!(exact_match(answer, &list) > 0.999, "{answer}");
        assert!(token_f1(answer, &list) > 0.999, "{answer}");
        assert!(contains(answer, &list) > 0.999, "{answer}");
        let longer = format!("so: {answer} — yes");
        assert!(contains(&longer, &list) > 0.999, "{longer}");
        assert!(token_f1(&longer, &list) < 1.0, "{longer}");
    }
}
