//! A labelled set made by a generator: sentences in Chinese and English around values of every kind, beside sentences with
//! numbers that look alike and aren't meant (orders, prices, versions, dates, hashes).
//!
//! The values are drawn, with the checksums their kinds ask for; no value belongs to anybody on purpose.

use super::Kind;
use super::evaluate::{Labelled, Span};
use crate::units::finish;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (finish(self.0) % limit.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn token(&mut self, count: usize, alphabet: &str) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..count).map(|_| letters[self.below(letters.len())]).collect()
    }
}

const MIXED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";

/// Templates with one value of a kind: `{}` is the value.
const TEMPLATES: [(Kind, &[&str]); 10] = [
    (
        Kind::Email,
        &["请发邮件到{}，谢谢。", "Write to {} for details.", "联系邮箱：{}", "<{}> wrote:", "mail={};"],
    ),
    (
        Kind::Phone,
        &["我的电话是{}，随时联系。", "Call {} before noon.", "手机：{}", "客服热线 {} 转人工。", "Tel. {}"],
    ),
    (Kind::IdCard, &["身份证号{}已登记。", "ID card: {}", "证件号码：{}，请核对。", "居民身份证 {} 有效。"]),
    (
        Kind::BankCard,
        &["请汇款到{}。", "Card {} was charged.", "银行卡号：{}（建设银行）", "pay with {}, thanks"],
    ),
    (
        Kind::Ip,
        &["服务器{}无法访问。", "Connection from {} refused", "host {} port 22", "日志：{} GET /index.html"],
    ),
    (Kind::Secret, &["export KEY={}", "token: {}", "密钥是 {} ，请保密。", "Use {} in the header."]),
    (Kind::Passport, &["护照号码：{}", "My passport number is {}.", "持护照{}入境。", "Passport No. {}"]),
    (Kind::Plate, &["车牌{}违停。", "一辆{}的轿车停在门口。", "车辆：{}，白色。"]),
    (
        Kind::Address,
        &["我住在{}。", "收货地址：{}", "She lives at {}, near the park.", "办公室位于{}，欢迎来访。"],
    ),
    (
        Kind::Name,
        &[
            "姓名：{}",
            "我叫{}，来自上海。",
            "{}先生您好，",
            "My name is {}.",
            "Dear {}, thank you.",
            "联系人：{}，",
            "Mr. {} signed it.",
            "请{}女士到前台。",
        ],
    ),
];

/// Sentences in which nothing is to be found.
const PLAIN: [&str; 22] = [
    "订单号 {12} 已发货。",
    "The order {10} was shipped on 2024-05-{2}.",
    "价格是{4}元，共{3}件。",
    "Version 3.{1}.{2}.{1} is out.",
    "版本4.{1}.{1}.{1}发布了。",
    "会议时间是下午{1}:30，地点在三楼会议室。",
    "commit {h40} fixes it",
    "The ratio is 16:9 and the score 3:{1}.",
    "他在第{3}页写道，这条路很长。",
    "圆周率约等于3.1415926535{6}。",
    "In 1984 there were {6} of them.",
    "std::vec::Vec and a::b",
    "See section 4.{1}.{1} of RFC {4}.",
    "这位老师很好，同学们都喜欢。",
    "总经理今天不在，高级经理会来。",
    "Dear Customer, the price is {3}.",
    "logo@2x.png is the picture.",
    "The passport office opens at 9.",
    "他走了{1}号楼梯，密码忘记了。",
    "ISBN 978-7-{3}-{5}-{1}",
    "海拔{4}米，气温{2}度。",
    "The street has 12 houses and 30 trees.",
];

fn value(kind: Kind, chinese: bool, dice: &mut Dice) -> String {
    match kind {
        Kind::Email => {
            let user = dice.pick(&["li.ming", "anna_k", "service", "zhang-wei", "j.doe+news", "tom99"]);
            let number = dice.below(90);
            let hosts = ["example.com", "mail.example.cn", "qq.com", "sub.uni.edu", "firma.de"];
            format!("{user}{number}@{}", dice.pick(&hosts))
        }
        Kind::Phone => phone(dice),
        Kind::IdCard => id_card(dice),
        Kind::BankCard => bank_card(dice),
        Kind::Ip => ip(dice),
        Kind::Secret => secret(dice),
        Kind::Passport => format!("{}{}", dice.pick(&["E", "G", "EA", "EB", "P"]), dice.digits(8)),
        Kind::Plate => plate(dice),
        Kind::Address => address(chinese, dice),
        Kind::Name if chinese => {
            let family = dice.pick(&["王", "李", "张", "刘", "陈", "欧阳", "赵", "周", "徐", "孙"]);
            let given = ["伟", "芳", "秀英", "敏", "静怡", "建国", "晓明", "子涵", "雨桐", "志强"];
            format!("{family}{}", dice.pick(&given))
        }
        Kind::Name => {
            let first = dice.pick(&["Anna", "James", "Maria", "Wei", "Olga", "Peter", "Fatima"]);
            let family = ["Schmidt", "O'Neil", "Garcia", "Zhang", "Ivanova", "Brown-Lee"];
            format!("{first} {}", dice.pick(&family))
        }
    }
}

fn ip(dice: &mut Dice) -> String {
    let mut part = |limit: usize| dice.below(limit);
    match part(4) {
        0 => format!("2001:db8:{:x}::{:x}", part(65535) + 1, part(65535) + 1),
        1 => format!("fe80::{:x}ff:fe{:02x}:{:04x}", part(200) + 16, part(256), part(65536)),
        // From 1 to 126 and from 128 on: 127 is the machine itself.
        _ => {
            let first = part(222) + 1;
            let first = if first == 127 { 126 } else { first };
            format!("{first}.{}.{}.{}", part(256), part(256), part(254) + 1)
        }
    }
}

fn secret(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => format!("AKIA{}", dice.token(16, UPPER)),
        1 => format!("ghp_{}1a", dice.token(34, MIXED)),
        2 => format!("sk-{}1a", dice.token(46, MIXED)),
        3 => format!("xoxb-{}-{}1a", dice.digits(11), dice.token(22, MIXED)),
        4 => {
            let (head, claims) = (dice.token(20, MIXED), dice.token(40, MIXED));
            format!("eyJ{head}.eyJ{claims}.{}", dice.token(43, MIXED))
        }
        _ => {
            let (first, second) = (dice.token(64, MIXED), dice.token(40, MIXED));
            format!("-----BEGIN RSA PRIVATE KEY-----\n{first}\n{second}\n-----END RSA PRIVATE KEY-----")
        }
    }
}

fn plate(dice: &mut Dice) -> String {
    let province = dice.pick(&["京", "沪", "粤", "浙", "川", "鲁"]);
    let office = dice.pick(&["A", "B", "C", "E"]);
    let dot = dice.pick(&["", "", "·"]);
    match dice.below(3) {
        0 => format!("{province}{office}{dot}D{}", dice.digits(5)),
        1 => format!("{province}{office}{dot}{}K{}", dice.digits(2), dice.digits(2)),
        _ => format!("{province}{office}{dot}{}", dice.digits(5)),
    }
}

fn address(chinese: bool, dice: &mut Dice) -> String {
    let number = dice.below(900) + 1;
    if chinese {
        let cities = ["北京市海淀区", "上海市浦东新区", "广东省深圳市南山区", "杭州市西湖区", "成都市武侯区"];
        let city = dice.pick(&cities);
        let street = dice.pick(&["中关村大街", "世纪大道", "科技南路", "文三路", "人民南路", "解放巷"]);
        return format!("{city}{street}{number}号{}", dice.pick(&["", "3号楼2单元501室", "5楼", "12栋"]));
    }
    let streets = ["Baker Street", "Maple Avenue", "Old Mill Road", "Sunset Blvd", "Park Lane"];
    let street = dice.pick(&streets);
    format!("{number} {street}{}", dice.pick(&["", ", Springfield, IL 62704", ", Austin, TX 73301"]))
}

fn phone(dice: &mut Dice) -> String {
    let mobile = format!("1{}{}", dice.below(7) + 3, dice.digits(9));
    match dice.below(9) {
        0 => format!("+86 {mobile}"),
        1 => format!("{}-{}-{}", &mobile[..3], &mobile[3..7], &mobile[7..]),
        2 => format!("010-6{}", dice.digits(7)),
        3 => format!("0755-2{}", dice.digits(7)),
        4 => format!("+49 30 {}", dice.digits(7)),
        5 => format!("+1 415-555-{}", dice.digits(4)),
        6 => format!("({}) 555-{}", dice.below(700) + 201, dice.digits(4)),
        7 => format!("400-8{}-{}", dice.digits(2), dice.digits(4)),
        _ => mobile,
    }
}

fn id_card(dice: &mut Dice) -> String {
    let region = dice.pick(&["110101", "310104", "440305", "510107", "330106"]);
    let body = format!(
        "{region}{}{:02}{:02}{}",
        1950 + dice.below(60),
        dice.below(12) + 1,
        dice.below(28) + 1,
        dice.digits(3)
    );
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body.bytes().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    format!("{body}{}", char::from(b"10X98765432"[(sum % 11) as usize]))
}

fn bank_card(dice: &mut Dice) -> String {
    let (issuer, length) =
        [("6222", 19), ("6217", 19), ("4111", 16), ("5500", 16), ("3712", 15)][dice.below(5)];
    let body = format!("{issuer}{}", dice.digits(length - 5));
    // The check digit makes Luhn's sum a multiple of ten.
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0') * if at % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    let whole = format!("{body}{}", (10 - sum % 10) % 10);
    match length == 16 && dice.below(2) == 0 {
        true => whole.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
        false => whole,
    }
}

/// `num_rows` rows, each of two or three sentences; the same seed gives the same rows.
pub fn make(seed: u64, num_rows: usize) -> Vec<Labelled> {
    let mut dice = Dice(seed);
    (0..num_rows).map(|_| one(&mut dice)).collect()
}

fn one(dice: &mut Dice) -> Labelled {
    let mut row = Labelled { text: String::new(), spans: Vec::new() };
    for _ in 0..2 + dice.below(2) {
        if dice.below(3) == 0 {
            let template = dice.pick(&PLAIN);
            row.text.push_str(&filled(template, dice));
        } else {
            let (kind, templates) = TEMPLATES[dice.below(TEMPLATES.len())];
            let template = dice.pick(templates);
            let chinese = !template.is_ascii();
            let value = value(kind, chinese, dice);
            let (before, after) = template.split_once("{}").unwrap_or((template, ""));
            row.text.push_str(before);
            let start = row.text.chars().count();
            row.text.push_str(&value);
            row.spans.push(Span { kind, start, end: row.text.chars().count() });
            row.text.push_str(after);
        }
        row.text.push('\n');
    }
    row
}

/// `{12}` becomes twelve digits, `{h40}` forty of a hash.
fn filled(template: &str, dice: &mut Dice) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (shape, rest) = part.split_once('}').unwrap_or(("0", part));
        match shape.strip_prefix('h') {
            Some(count) => text.push_str(&dice.token(count.parse().unwrap_or(8), "0123456789abcdef")),
            None => text.push_str(&dice.digits(shape.parse().unwrap_or(1))),
        }
        text.push_str(rest);
    }
    text
}
