//! Passports, postal addresses and names: what has no checksum, found where words announce it.
//!
//! Reach: names behind a label (`姓名：`, `Name:`), a form of address (`Mr.`, `先生`) or an introduction (`我叫`, `my name is`);
//! Chinese addresses with street and number, English ones with number and street; passports behind the word.

use super::Kind;
use super::find::Found;

#[derive(Debug, Clone, Copy)]
enum Side {
    /// A Chinese name behind a label.
    LabelChinese,
    /// A Latin or Chinese name behind a label or a title.
    LabelLatin,
    /// A Chinese name before a form of address.
    Honorific,
    Passport,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) word: &'static str,
    pub(super) kind: Kind,
    side: Side,
}

const fn name(word: &'static str, side: Side) -> Rule {
    Rule { word, kind: Kind::Name, side }
}

const fn passport(word: &'static str) -> Rule {
    Rule { word, kind: Kind::Passport, side: Side::Passport }
}

pub(super) const RULES: [Rule; 47] = [
    name("姓名", Side::LabelChinese),
    name("联系人", Side::LabelChinese),
    name("收件人", Side::LabelChinese),
    name("收货人", Side::LabelChinese),
    name("户主", Side::LabelChinese),
    name("持卡人", Side::LabelChinese),
    name("申请人", Side::LabelChinese),
    name("负责人", Side::LabelChinese),
    name("法定代表人", Side::LabelChinese),
    name("患者", Side::LabelChinese),
    name("我叫", Side::LabelChinese),
    name("我的名字是", Side::LabelChinese),
    name("名叫", Side::LabelChinese),
    name("先生", Side::Honorific),
    name("女士", Side::Honorific),
    name("小姐", Side::Honorific),
    name("老师", Side::Honorific),
    name("医生", Side::Honorific),
    name("教授", Side::Honorific),
    name("经理", Side::Honorific),
    name("律师", Side::Honorific),
    name("同学", Side::Honorific),
    name("博士", Side::Honorific),
    name("Mr. ", Side::LabelLatin),
    name("Mrs. ", Side::LabelLatin),
    name("Ms. ", Side::LabelLatin),
    name("Miss ", Side::LabelLatin),
    name("Dr. ", Side::LabelLatin),
    name("Prof. ", Side::LabelLatin),
    name("Mr ", Side::LabelLatin),
    name("Mrs ", Side::LabelLatin),
    name("Ms ", Side::LabelLatin),
    name("my name is ", Side::LabelLatin),
    name("My name is ", Side::LabelLatin),
    name("Name: ", Side::LabelLatin),
    name("name: ", Side::LabelLatin),
    name("Contact: ", Side::LabelLatin),
    name("Patient: ", Side::LabelLatin),
    name("Cardholder: ", Side::LabelLatin),
    name("Dear ", Side::LabelLatin),
    name("Herr ", Side::LabelLatin),
    name("Frau ", Side::LabelLatin),
    name("Monsieur ", Side::LabelLatin),
    name("Madame ", Side::LabelLatin),
    passport("护照"),
    passport("passport"),
    passport("Passport"),
];

/// The commonest surnames; together nine in ten people of China bear one of them.
const SURNAMES: &str = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施牛樊葛邢安齐庞颜倪章鲁柯";
const DOUBLE_SURNAMES: [&str; 8] = ["欧阳", "司马", "上官", "诸葛", "东方", "皇甫", "尉迟", "慕容"];
/// Characters that no given name holds, but the words around names do.
const NOT_IN_NAMES: &str =
    "的了是在和与及或有不我你他她它们这那请为被把对从到于地上下来去说要会可也就都很吗呢吧，。、；：";
/// English words that stand behind titles and labels and are no names.
const NOT_NAMES: [&str; 18] = [
    "Sir",
    "Madam",
    "Customer",
    "All",
    "Friend",
    "Friends",
    "Colleague",
    "Colleagues",
    "Team",
    "User",
    "The",
    "Editor",
    "God",
    "Reader",
    "Readers",
    "Members",
    "President",
    "Diary",
];

/// What a word at `start..end` announces.
pub(super) fn at(text: &str, start: usize, end: usize, rule: &Rule) -> Option<Found> {
    match rule.side {
        Side::LabelChinese => behind_chinese_label(text, end, rule.word),
        Side::LabelLatin => {
            let apart = text[..start].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
            let span = apart.then(|| latin_name(text, end)).flatten()?;
            Some(Found::new(Kind::Name, span.0, span.1))
        }
        Side::Honorific => before_honorific(text, start),
        Side::Passport => behind_passport(text, end),
    }
}

fn is_han(c: char) -> bool {
    crate::units::is_han(c)
}

/// The Chinese name a text begins with: its length in bytes.
fn chinese_name(text: &str, exact: bool) -> Option<usize> {
    let chars: Vec<char> = text.chars().take(5).take_while(|c| is_han(*c)).collect();
    let surname = match () {
        () if DOUBLE_SURNAMES.iter().any(|surname| text.starts_with(surname)) => 2,
        () if chars.first().is_some_and(|c| SURNAMES.contains(*c)) => 1,
        () => return None,
    };
    let given = chars[surname..].iter().take(2).take_while(|c| !NOT_IN_NAMES.contains(**c)).count();
    // Behind a label the name reaches to a mark; what goes on is a sentence.
    if given == 0
        || (exact && chars.len() > surname + given && !NOT_IN_NAMES.contains(chars[surname + given]))
    {
        return None;
    }
    Some(chars[..surname + given].iter().map(|c| c.len_utf8()).sum())
}

fn behind_chinese_label(text: &str, end: usize, word: &str) -> Option<Found> {
    let rest = &text[end..];
    let introduction = word.ends_with('叫') || word.ends_with('是');
    let rest = match introduction {
        true => rest,
        false => {
            let rest = rest.trim_start_matches([' ', '\u{3000}']);
            rest.strip_prefix(['：', ':', '】', '\t', '|'])?.trim_start_matches([' ', '\u{3000}', '|'])
        }
    };
    let start = text.len() - rest.len();
    if let Some(length) = chinese_name(rest, introduction) {
        return Some(Found::new(Kind::Name, start, start + length));
    }
    let span = (!introduction).then(|| latin_name(text, start)).flatten()?;
    Some(Found::new(Kind::Name, span.0, span.1))
}

/// One to three words with a capital.
fn latin_name(text: &str, start: usize) -> Option<(usize, usize)> {
    let mut end = start;
    let mut at = start;
    for index in 0..3 {
        let rest = &text[at..];
        let length = rest
            .char_indices()
            .find(|(_, c)| (!c.is_alphabetic() || is_han(*c)) && !matches!(c, '\'' | '’' | '-'))
            .map_or(rest.len(), |(at, _)| at);
        let word = &rest[..length];
        let first = word.chars().next()?;
        let is_name = first.is_uppercase() && !NOT_NAMES.contains(&word) && word.len() < 30;
        if !is_name {
            break;
        }
        end = at + length;
        // Initials: John F. Kennedy
        let dot = length == first.len_utf8() && text[end..].starts_with('.');
        end += usize::from(dot && text[end + 1..].starts_with(' '));
        if index < 2 && text[end..].starts_with(' ') {
            at = end + 1;
        } else {
            break;
        }
        if text[at..].is_empty() {
            break;
        }
    }
    (end > start).then_some((start, end))
}

/// 张伟先生: a surname and one or two characters before the form of address.
fn before_honorific(text: &str, start: usize) -> Option<Found> {
    let before: Vec<(usize, char)> =
        text[..start].char_indices().rev().take(4).take_while(|(_, c)| is_han(*c)).collect();
    for count in [4, 3, 2] {
        let Some(&(at, _)) = before.get(count - 1) else { continue };
        let candidate = &text[at..start];
        let double = DOUBLE_SURNAMES.iter().any(|surname| candidate.starts_with(surname));
        let single = before[count - 1].1;
        let surname = if count == 4 { double } else { double || SURNAMES.contains(single) };
        let given = &before[..count - 1];
        if surname && given.iter().all(|(_, c)| !NOT_IN_NAMES.contains(*c)) && !is_title(candidate) {
            return Some(Found::new(Kind::Name, at, start));
        }
    }
    None
}

/// Words that look like a name before a form of address: 高级经理, 金融经理.
fn is_title(text: &str) -> bool {
    const TITLES: [&str; 16] = [
        "高级",
        "金融",
        "项目",
        "产品",
        "销售",
        "部门",
        "客户",
        "大堂",
        "副总",
        "总经",
        "班主任",
        "安全",
        "任课",
        "石油",
        "方案",
        "高中",
    ];
    TITLES.iter().any(|title| text.contains(title))
}

/// Two letters at most and seven to nine digits, close behind the word.
fn behind_passport(text: &str, end: usize) -> Option<Found> {
    let bytes = text.as_bytes();
    let limit = (end + 36).min(bytes.len());
    let mut at = end;
    while at < limit {
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let length = bytes[at..].iter().take(12).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let token = &bytes[at..at + length];
        let letters = token.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        let digits = token[letters..].iter().filter(|byte| byte.is_ascii_digit()).count();
        if letters <= 2 && (7..=9).contains(&digits) && letters + digits == length {
            return Some(Found::new(Kind::Passport, at, at + length));
        }
        at += length;
    }
    None
}

const STREETS: [&str; 11] = ["路", "街", "大道", "道", "巷", "弄", "胡同", "里", "村", "园", "区"];
const NUMBERS: [&str; 4] = ["号", "弄", "栋", "幢"];
/// What may go on behind the number: digits and these.
const PARTS: [&str; 12] = ["号楼", "号院", "单元", "号", "弄", "栋", "幢", "楼", "层", "室", "座", "房"];
/// Words before an address that don't belong to it.
const BEFORE: [&str; 16] = [
    "住址", "地址", "住在", "位于", "寄到", "送到", "家住", "在", "于", "到", "址", "是", "为", "至", "往",
    "从",
];
const STREET_WORDS: [&str; 18] = [
    "Street",
    "St",
    "Avenue",
    "Ave",
    "Road",
    "Rd",
    "Boulevard",
    "Blvd",
    "Lane",
    "Ln",
    "Drive",
    "Dr",
    "Court",
    "Ct",
    "Way",
    "Place",
    "Terrace",
    "Square",
];

/// The address that the digits at `start..end` number.
pub(super) fn address(text: &str, start: usize, end: usize) -> Option<Found> {
    if end - start > 5 {
        return None;
    }
    chinese_address(text, start, end).or_else(|| english_address(text, start, end))
}

fn chinese_address(text: &str, start: usize, end: usize) -> Option<Found> {
    NUMBERS.iter().find(|sign| text[end..].starts_with(**sign))?;
    let street = STREETS.iter().find(|sign| text[..start].ends_with(**sign))?;
    // Back over Chinese characters; an address has forty at most.
    let mut from = start;
    for (at, c) in text[..start].char_indices().rev().take(40) {
        if !is_han(c) && !c.is_ascii_digit() {
            break;
        }
        from = at;
    }
    let body = &text[from..start - street.len()];
    // The last of the words that lead in is where it begins.
    let cut = BEFORE.iter().filter_map(|word| body.rfind(word).map(|at| at + word.len())).max().unwrap_or(0);
    let mut body = &body[cut..];
    // Nothing leads in: two characters before the first province, city or district, or the four before the street.
    let units = ["省", "市", "自治区", "区", "县"];
    if let Some(first) = units.iter().filter_map(|unit| body.find(unit)).min().filter(|at| *at > 0) {
        let head = &body[..first];
        let keep: usize = head.chars().rev().take(3).map(char::len_utf8).sum();
        body = &body[head.len() - keep..];
    } else {
        let keep: usize = body.chars().rev().take(4).map(char::len_utf8).sum();
        body = &body[body.len() - keep..];
    }
    if body.is_empty() {
        return None;
    }
    let from = start - street.len() - body.len();
    Some(Found::new(Kind::Address, from, end_of_parts(text, end)))
}

/// Past `号3号楼2单元501室`.
fn end_of_parts(text: &str, mut end: usize) -> usize {
    loop {
        let Some(part) = PARTS.iter().find(|part| text[end..].starts_with(**part)) else {
            return end;
        };
        end += part.len();
        let rest = &text.as_bytes()[end..];
        let digits = rest.iter().take(5).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let goes_on =
            PARTS.iter().any(|part| text.get(end + digits..).is_some_and(|rest| rest.starts_with(part)));
        if digits == 0 || !goes_on {
            return end;
        }
        end += digits;
    }
}

/// `221B Baker Street`, `1600 Pennsylvania Ave, Washington, DC 20500`
fn english_address(text: &str, start: usize, end: usize) -> Option<Found> {
    let mut at = end + usize::from(text.as_bytes().get(end).is_some_and(u8::is_ascii_uppercase));
    for index in 0..5 {
        at += usize::from(text[at..].starts_with(' '));
        let length =
            text.as_bytes()[at..].iter().take(20).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let word = &text[at..at + length];
        if index > 0 && STREET_WORDS.contains(&word) {
            let end = at + length;
            return Some(Found::new(Kind::Address, start, end_of_town(text, end)));
        }
        let capital = word.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
        if !capital || !text[at + length..].starts_with([' ', '.']) {
            return None;
        }
        at += length + usize::from(text[at + length..].starts_with(". "));
    }
    None
}

/// Past `, Springfield, IL 62704`, if that follows.
fn end_of_town(text: &str, end: usize) -> usize {
    let rest = &text[end..];
    let limit = rest.floor_char_boundary(60);
    let rest = rest[..limit].split('\n').next().unwrap_or_default();
    let bytes = rest.as_bytes();
    for at in 0..bytes.len().saturating_sub(7) {
        let code = &bytes[at..];
        let state = code[..2].iter().all(u8::is_ascii_uppercase) && code[2] == b' ';
        let zip = code[3..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if state && zip == 5 && at >= 2 && bytes[at - 1] == b' ' && rest.starts_with([',', '.']) {
            return end + at + 8;
        }
    }
    end
}
