//! Values that are found, texts that only look alike, and any text at all.

use proptest::prelude::*;

use super::evaluate::evaluate;
use super::*;
use crate::row::Origin;

fn masked(text: &str) -> String {
    let config = Config::default();
    let finder = Finder::new(&config);
    Masker::new(&finder, &config).mask(text).unwrap_or_else(|| text.to_owned())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(masked(text), expected);
}

#[test]
fn values_become_placeholders_and_the_same_value_the_same() {
    check("", "");
    check("mail a.b@example.com, A.B@Example.com and c@d.org.", "mail [EMAIL_1], [EMAIL_1] and [EMAIL_2].");
    check("电话13812345678，或+86 138-1234-5678。", "电话[PHONE_1]，或[PHONE_1]。");
    check("身份证11010519491231002X有效", "身份证[ID_CARD_1]有效");
    check("卡号6222021001116245702转账", "卡号[BANK_CARD_1]转账");
    check("Card 4111 1111 1111 1111.", "Card [BANK_CARD_1].");
    check("from 192.168.0.7:8080 and 2001:db8::7", "from [IP_1]:8080 and [IP_2]");
    check("车牌京A12345、粤B·D12345。", "车牌[PLATE_1]、[PLATE_2]。");
    check("AKIAIOSFODNN7EXAMPLE", "[SECRET_1]");
    check("password = \"hunter2hunter2\"", "password = \"[SECRET_1]\"");
    check("护照号E12345678", "护照号[PASSPORT_1]");
    check("我住在北京市海淀区中关村大街27号3号楼501室。", "我住在[ADDRESS_1]。");
    check("He lives at 221 Baker Street, Austin, TX 73301.", "He lives at [ADDRESS_1].");
    check("姓名：欧阳静怡\n张伟先生您好", "姓名：[NAME_1]\n[NAME_2]先生您好");
    check("Dear Anna Schmidt, Mr. O'Neil", "Dear [NAME_1], Mr. [NAME_2]");
    check("(010) 62781234, 010-62781234-805, +49 30 1234567", "[PHONE_1], [PHONE_2], [PHONE_3]");
}

#[test]
fn what_only_looks_alike_stays() {
    for text in [
        "110105194912310021 and 6222021001116245703 fail their checksums",
        "order 20240513123456, 3.1415926535897932, 12:30:45",
        "version 10.2.3.4, section 1.2.3.4.5, 255.255.255.0",
        "a::b, std::fs::File, C:\\x, logo@2x.png, @user",
        "高级经理和总经理，任课老师，第3页",
        "138123456789, 0138123456789012",
        "Dear Customer, Dear Sir",
    ] {
        check(text, text);
    }
}

#[test]
fn conversations_and_metadata_are_masked_with_the_same_numbers() {
    let config = Config::default();
    let finder = Finder::new(&config);
    let mut masker = Masker::new(&finder, &config);
    let mut row = Row::from_text("write to a@b.org".into(), Origin::line("x", 1));
    row.metadata.set("author", &serde_json::json!({ "mail": ["A@b.org"], "phone": 13_812_345_678_u64 }));
    masker.mask_row(&mut row);
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!(json["text"], "write to [EMAIL_1]");
    assert_eq!(json["author"], serde_json::json!({ "mail": ["[EMAIL_1]"], "phone": "[PHONE_1]" }));
    assert_eq!(masker.details.rows_with_findings, 1);
}

#[test]
fn in_the_scope_of_the_corpus_a_value_has_one_placeholder_everywhere() {
    let config = Config { scope: Scope::Corpus, salt: "s".into(), ..Config::default() };
    let finder = Finder::new(&config);
    let mut masker = Masker::new(&finder, &config);
    let first = masker.mask("a@b.org").unwrap();
    masker.mask("c@d.org");
    assert_eq!(masker.mask("A@B.org").unwrap(), first);
    let other = Config { salt: "t".into(), ..config.clone() };
    assert_ne!(Masker::new(&finder, &other).mask("a@b.org").unwrap(), first);
}

#[test]
fn the_labelled_set_is_found_with_high_precision_and_recall() {
    let finder = Finder::new(&Config::default());
    let evaluation = evaluate(&finder, &labelled::make(7, 4000));
    for (kind, counts) in &evaluation.by_kind {
        println!("{kind} {:.3} {:.3} {counts:?}", counts.precision(), counts.recall());
    }
    for mistake in evaluation.mistakes.iter().take(20) {
        println!("{mistake:?}");
    }
    assert_eq!(evaluation.by_kind.len(), Kind::ALL.len());
    for (kind, counts) in &evaluation.by_kind {
        assert!(counts.precision() >= 0.97, "{kind} {counts:?}");
        assert!(counts.recall() >= 0.95, "{kind} {counts:?}");
    }
}

#[test]
fn a_dot_behind_a_surname_of_two_characters_is_no_part_of_a_name() {
    check("姓名：欧阳·姓名：", "姓名：欧阳·姓名：");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_finder_panic_and_findings_do_not_overlap(
        parts in proptest::collection::vec(
            prop_oneof![
                "\\PC{0,6}",
                "[0-9 .:+()@-]{1,20}",
                Just("姓名：".to_owned()), Just("先生".to_owned()), Just("护照".to_owned()), Just("京A".to_owned()),
                Just("大街".to_owned()), Just("号".to_owned()), Just("-----BEGIN RSA PRIVATE KEY-----".to_owned()),
                Just("-----END ".to_owned()), Just("eyJ".to_owned()), Just("password: ".to_owned()), Just("Dear ".to_owned()),
                Just("欧阳".to_owned()), Just("12 Baker Street, X, IL 62704".to_owned()), Just("·".to_owned()),
            ],
            0..12,
        ),
    ) {
        let text: String = parts.concat();
        let finder = Finder::new(&Config::default());
        let mut found = Vec::new();
        finder.find(&text, &mut found);
        let mut end = 0;
        for item in &found {
            prop_assert!(item.start >= end && item.end > item.start && item.end <= text.len());
            prop_assert!(text.is_char_boundary(item.start) && text.is_char_boundary(item.end));
            end = item.end;
        }
    }
}
