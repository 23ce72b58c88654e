//! What is made of digits: identity cards (GB 11643), bank cards (ISO 7812), phones, internet addresses, plates; and e-mail.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::find::Found;
use super::{Kind, people};

pub(super) fn end_of_digits(bytes: &[u8], start: usize) -> usize {
    start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// No letter, digit or `_` right behind.
fn ends(bytes: &[u8], end: usize) -> bool {
    bytes.get(end).is_none_or(|byte| !is_word(*byte))
}

/// What begins with this run of digits.
pub(super) fn at(text: &str, start: usize, end: usize, private_ips: bool) -> Option<Found> {
    let bytes = text.as_bytes();
    let before = start.checked_sub(1).map(|at| bytes[at]);
    if let Some(plate) = plate(text, start) {
        return Some(plate);
    }
    if before.is_some_and(is_word) {
        return None;
    }
    let in_number = matches!(before, Some(b'.' | b',' | b'-' | b'/' | b':'))
        && start > 1
        && bytes[start - 2].is_ascii_digit();
    if in_number {
        return None;
    }
    id_card(bytes, start, end)
        .or_else(|| bank_card(bytes, start))
        .or_else(|| ipv4(bytes, start, private_ips))
        .or_else(|| phone(bytes, start, end))
        .or_else(|| people::address(text, start, end))
}

/// Weights of GB 11643.
const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];

/// 17 digits and a check digit after ISO 7064, MOD 11-2, with a date that exists.
fn id_card(bytes: &[u8], start: usize, end: usize) -> Option<Found> {
    let check = match end - start {
        18 => bytes[start + 17],
        17 => *bytes.get(end).filter(|byte| matches!(byte, b'X' | b'x'))?,
        _ => return None,
    };
    let digit = |at: usize| u32::from(bytes[start + at] - b'0');
    let number = |from: usize, count: usize| (from..from + count).fold(0, |sum, at| sum * 10 + digit(at));
    let (year, month, day) = (number(6, 4), number(10, 2), number(12, 2));
    let is_date = (1850..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let region = number(0, 2);
    let is_region =
        matches!(region, 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83 | 91);
    let sum: u32 = WEIGHTS.iter().enumerate().map(|(at, weight)| weight * digit(at)).sum();
    let expected = b"10X98765432"[(sum % 11) as usize];
    let found = is_date && is_region && check.eq_ignore_ascii_case(&expected) && ends(bytes, start + 18);
    found.then(|| Found::new(Kind::IdCard, start, start + 18))
}

/// 13 to 19 digits, alone or in groups, that Luhn's formula accepts, with an issuer that exists.
fn bank_card(bytes: &[u8], start: usize) -> Option<Found> {
    let mut digits = [0u8; 20];
    let (mut count, mut at, mut end) = (0, start, start);
    let mut separator = None;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_digit() {
            if count == 19 {
                return None;
            }
            digits[count] = byte - b'0';
            count += 1;
            at += 1;
            end = at;
        } else if matches!(byte, b' ' | b'-')
            && at == end
            && count % 4 == 0
            && separator.is_none_or(|known| known == byte)
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
        {
            separator = Some(byte);
            at += 1;
        } else {
            break;
        }
    }
    if count < 13 || !ends(bytes, end) {
        return None;
    }
    let digits = &digits[..count];
    let lead = digits[..4].iter().fold(0u32, |sum, digit| sum * 10 + u32::from(*digit));
    let issuer = match count {
        13 => lead / 1000 == 4,
        15 => matches!(lead / 100, 34 | 37),
        14 => matches!(lead / 100, 30 | 36 | 38),
        16 => {
            lead / 1000 == 4
                || matches!(lead / 100, 51..=55 | 60 | 62 | 64 | 65 | 35)
                || (2221..=2720).contains(&lead)
        }
        17 | 18 => lead / 100 == 62,
        _ => {
            lead / 1000 == 4
                || matches!(lead / 100, 60 | 62 | 65)
                || matches!(lead, 9400..=9999 | 4500..=4599)
        }
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| match at % 2 {
            0 => u32::from(digit),
            _ if digit > 4 => u32::from(digit) * 2 - 9,
            _ => u32::from(digit) * 2,
        })
        .sum();
    let same = digits.iter().all(|digit| *digit == digits[0]);
    (issuer && sum.is_multiple_of(10) && !same).then(|| Found::new(Kind::BankCard, start, end))
}

fn ipv4(bytes: &[u8], start: usize, private: bool) -> Option<Found> {
    let mut at = start;
    let mut parts = [0u8; 4];
    for (index, part) in parts.iter_mut().enumerate() {
        let end = end_of_digits(bytes, at);
        let text = std::str::from_utf8(&bytes[at..end]).ok()?;
        if text.is_empty() || text.len() > 3 || (text.len() > 1 && text.starts_with('0')) {
            return None;
        }
        *part = text.parse().ok()?;
        at = end;
        if index < 3 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    // 1.2.3.4.5 is a number of a section, and so is what stands behind `v` or `version`.
    let more = bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    let head = &bytes[start.saturating_sub(12)..start];
    let version = [&b"ersion "[..], b"ersion: ", b"\xe7\x89\x88\xe6\x9c\xac", b"elease ", b"ection "];
    if more || !ends(bytes, at) || version.iter().any(|word| head.ends_with(word)) {
        return None;
    }
    let address = Ipv4Addr::from(parts);
    let nobody = address.is_loopback() || address.is_unspecified() || address.is_broadcast() || parts[0] == 0;
    let hidden = !private && (address.is_private() || address.is_link_local());
    // 255.255.255.0 is a mask.
    (!nobody && !hidden && parts[0] != 255).then(|| Found::new(Kind::Ip, start, at))
}

/// An address of version 6 around its first colon.
pub(super) fn ipv6(text: &str, colon: usize, private: bool) -> Option<Found> {
    let bytes = text.as_bytes();
    let part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b':';
    let next = bytes.get(colon + 1)?;
    if !part(next) {
        return None;
    }
    let start =
        colon - bytes[..colon].iter().rev().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let end = colon + bytes[colon..].iter().take(45).take_while(|byte| part(byte) || **byte == b'.').count();
    let whole = text[start..end].trim_end_matches(['.', ':']);
    let end = start + whole.len();
    let apart = start == 0 || !(is_word(bytes[start - 1]) || bytes[start - 1] == b':');
    let colons = whole.bytes().filter(|byte| *byte == b':').count();
    let has_digit = whole.bytes().any(|byte| byte.is_ascii_digit());
    // A time is no address, and neither is `a::b` of a program.
    if !apart || !ends(bytes, end) || !has_digit || colons < 2 || whole.len() < 6 {
        return None;
    }
    let address: Ipv6Addr = whole.parse().ok()?;
    let hidden = !private && (address.is_unique_local() || address.is_unicast_link_local());
    (!address.is_loopback() && !hidden).then(|| Found::new(Kind::Ip, start, end))
}

/// Phones without a sign of country: Chinese mobiles and landlines, hotlines, American ones.
fn phone(bytes: &[u8], start: usize, end: usize) -> Option<Found> {
    let whole = |end: usize| ends(bytes, end).then(|| Found::new(Kind::Phone, start, end));
    let length = end - start;
    let digits = &bytes[start..end];
    match (length, digits[0]) {
        (11, b'1') if (b'3'..=b'9').contains(&digits[1]) => whole(end),
        (13, b'8') if digits.starts_with(b"861") && digits[3] >= b'3' => whole(end),
        (15, b'0') if digits.starts_with(b"00861") && digits[5] >= b'3' => whole(end),
        // 86-138…, 0086 138…
        (2 | 4, b'8' | b'0') if matches!(digits, b"86" | b"0086") => {
            let next = separated(bytes, end)?;
            mobile(bytes, next).and_then(whole)
        }
        (3, b'1') => mobile(bytes, start).and_then(whole),
        // 010-62781234, 0755 2345678, 010-6278 1234; with an extension
        (3 | 4, b'0') if digits[1] != b'0' => {
            let next = separated(bytes, end)?;
            let local = local_number(bytes, next)?;
            whole(extension(bytes, local).unwrap_or(local))
        }
        (11 | 12, b'0')
            if matches!(digits[1], b'1' | b'2') && length == 11 || matches!(digits[1], b'3'..=b'9') =>
        {
            whole(end)
        }
        // 400-123-4567, 4001234567
        (3, b'4' | b'8') if matches!(digits, b"400" | b"800") => {
            groups(bytes, end, &[&[3, 4], &[4, 3], &[7]]).and_then(whole)
        }
        (10, b'4' | b'8') if digits.starts_with(b"400") || digits.starts_with(b"800") => whole(end),
        // 415-555-0132, 415.555.0132
        (3, b'2'..=b'9') => american(bytes, end).and_then(whole),
        _ => None,
    }
}

/// Past one sign that parts groups.
fn separated(bytes: &[u8], at: usize) -> Option<usize> {
    let sign = matches!(bytes.get(at)?, b' ' | b'-' | b'.');
    let next = at + usize::from(sign);
    (sign && bytes.get(next).is_some_and(u8::is_ascii_digit)).then_some(next)
}

/// Groups of these sizes, each behind a sign; where they end.
fn groups(bytes: &[u8], at: usize, shapes: &[&[usize]]) -> Option<usize> {
    shapes.iter().find_map(|shape| {
        shape.iter().try_fold(at, |at, size| {
            let start = separated(bytes, at)?;
            let end = end_of_digits(bytes, start);
            (end - start == *size).then_some(end)
        })
    })
}

/// A Chinese mobile from its first digit, in one or in groups of 3, 4, 4.
fn mobile(bytes: &[u8], start: usize) -> Option<usize> {
    let end = end_of_digits(bytes, start);
    let digits = &bytes[start..end];
    if digits.len() < 3 || digits[0] != b'1' || digits[1] < b'3' {
        return None;
    }
    match digits.len() {
        11 => Some(end),
        3 => groups(bytes, end, &[&[4, 4], &[8]]),
        _ => None,
    }
}

/// 7 or 8 digits, in one or in two groups.
fn local_number(bytes: &[u8], start: usize) -> Option<usize> {
    let end = end_of_digits(bytes, start);
    match end - start {
        7 | 8 => (bytes[start] >= b'2').then_some(end),
        3 | 4 => {
            let next = separated(bytes, end)?;
            let last = end_of_digits(bytes, next);
            (last - next == 4 && bytes[start] >= b'2').then_some(last)
        }
        _ => None,
    }
}

/// `-805`, `转805`
fn extension(bytes: &[u8], at: usize) -> Option<usize> {
    let start = match bytes.get(at)? {
        b'-' => at + 1,
        _ => bytes[at..].strip_prefix("转".as_bytes()).map(|_| at + 3)?,
    };
    let end = end_of_digits(bytes, start.min(bytes.len()));
    (1..=5).contains(&(end - start)).then_some(end)
}

fn american(bytes: &[u8], at: usize) -> Option<usize> {
    let sign = bytes.get(at).filter(|sign| matches!(sign, b'-' | b'.'))?;
    let end = groups(bytes, at, &[&[3, 4]])?;
    // The same sign twice, or it is a number of something else.
    (bytes[at + 4] == *sign && bytes[at + 1] >= b'2').then_some(end)
}

/// `+49 30 123456`: 8 to 15 digits behind a plus.
pub(super) fn international(bytes: &[u8], plus: usize) -> Option<Found> {
    if plus > 0 && (is_word(bytes[plus - 1]) || bytes[plus - 1] == b'+') {
        return None;
    }
    let (mut count, mut at, mut end) = (0, plus + 1, plus + 1);
    if !bytes.get(at).is_some_and(|byte| (b'1'..=b'9').contains(byte)) {
        return None;
    }
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                count += 1;
                end = at + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if at - end < 2 => {}
            _ => break,
        }
        at += 1;
    }
    ((8..=15).contains(&count) && ends(bytes, end)).then(|| Found::new(Kind::Phone, plus, end))
}

/// `(010) 62781234`, `(415) 555-0132`
pub(super) fn in_brackets(bytes: &[u8], open: usize) -> Option<Found> {
    let end = end_of_digits(bytes, open + 1);
    let digits = &bytes[open + 1..end];
    if !(3..=4).contains(&digits.len()) || bytes.get(end) != Some(&b')') {
        return None;
    }
    let next = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b' ' | b'-')));
    let first = bytes.get(next).copied().filter(u8::is_ascii_digit)?;
    let end = match digits[0] {
        b'0' => local_number(bytes, next)?,
        b'2'..=b'9' if digits.len() == 3 && first >= b'2' => {
            let end = end_of_digits(bytes, next);
            (end - next == 3).then(|| groups(bytes, end, &[&[4]]))??
        }
        _ => return None,
    };
    ends(bytes, end).then(|| Found::new(Kind::Phone, open, end))
}

const PROVINCES: &str = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼";

/// A Chinese plate (GA 36) that the digits at `start` belong to.
fn plate(text: &str, start: usize) -> Option<Found> {
    let bytes = text.as_bytes();
    // Back over the office's letter, a dot, and letters of the number.
    let mut at = start;
    let is_sign = |byte: u8| byte.is_ascii_uppercase() || byte == b' ';
    while at > 0 && start - at < 6 && is_sign(bytes[at - 1]) {
        at -= 1;
    }
    if at >= 2 && bytes[..at].ends_with("·".as_bytes()) {
        at -= 2;
        while at > 0 && start - at < 8 && bytes[at - 1].is_ascii_uppercase() {
            at -= 1;
        }
    }
    if at == start || at < 3 || !bytes[at].is_ascii_uppercase() {
        return None;
    }
    let province = text.get(at - 3..at).filter(|c| PROVINCES.contains(c))?;
    let from = at - province.len();
    // Behind the letter: a dot or space, then five or six signs without I and O.
    let mut rest = at + 1;
    rest += usize::from(bytes.get(rest) == Some(&b' '));
    rest += 2 * usize::from(bytes[rest..].starts_with("·".as_bytes()));
    let count =
        bytes[rest..].iter().take_while(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()).count();
    let number = &bytes[rest..rest + count];
    let digits = number.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = !number.iter().any(|byte| matches!(byte, b'I' | b'O')) && digits >= 3;
    let end = rest + count;
    let special = ["学", "警", "港", "澳", "挂"].iter().any(|sign| text[end..].starts_with(sign));
    let whole = matches!(count, 5 | 6) || (count == 4 && special);
    let end = end + if special { 3 } else { 0 };
    (plain && whole && ends(bytes, end)).then(|| Found::new(Kind::Plate, from, end))
}

/// The address around an `@`.
pub(super) fn email(bytes: &[u8], at: usize) -> Option<Found> {
    let is_local = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let mut start = at - bytes[..at].iter().rev().take(64).take_while(is_local).count();
    while start < at && !bytes[start].is_ascii_alphanumeric() {
        start += 1;
    }
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(**byte, b'.' | b'-');
    let length = bytes[at + 1..].iter().take(255).take_while(is_domain).count();
    let domain = std::str::from_utf8(&bytes[at + 1..at + 1 + length]).ok()?.trim_end_matches(['.', '-']);
    let (name, top) = domain.rsplit_once('.')?;
    let is_top = (2..=24).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_alphabetic());
    let labels = name.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    // Pictures for fine screens are called `logo@2x.png`.
    let is_file = matches!(top, "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "css" | "js");
    let whole = start < at && bytes[at - 1] != b'.' && is_top && labels && !is_file;
    whole.then(|| Found::new(Kind::Email, start, at + 1 + domain.len()))
}
