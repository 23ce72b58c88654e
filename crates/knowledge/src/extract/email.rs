//! E-mail (RFC 5322 with MIME) → its subject as heading, who wrote to whom and when, the text, and forwarded messages.
//!
//! Of a text that is there as plain text and as HTML the plain one is read, unless it is only a stub. Attachments are
//! named in a note and not read.

use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::{Extracted, html, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Messages forwarded within messages; deeper ones are counted in a note.
const MAX_FORWARDS: u8 = 8;

/// More headers or parts are no e-mail.
const MAX_PARTS: usize = 10_000;

/// A plain text shorter than this share of the HTML's says "open this in a browser".
const STUB_SHARE: usize = 3;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let message = MessageParser::default().parse(bytes);
    let message = message.filter(|message| !message.headers().is_empty());
    let message = message.ok_or_else(|| ExtractError::damaged("no header of an e-mail at its start"))?;
    let mut extracted = Extracted { title: message.subject().map(String::from), ..Extracted::default() };
    write(&message, 1, &mut extracted)?;
    Ok(extracted)
}

fn write(message: &Message<'_>, level: u8, extracted: &mut Extracted) -> Result<(), ExtractError> {
    if level > MAX_FORWARDS {
        extracted.notes.push("messages forwarded in messages too often were left out".into());
        return Ok(());
    }
    let subject = message.subject().unwrap_or_default().to_string();
    extracted.blocks.push(Block::new(BlockKind::Heading(level), subject));
    for (name, address) in [("From", message.from()), ("To", message.to()), ("Cc", message.cc())] {
        if let Some(people) = address.map(people).filter(|people| !people.is_empty()) {
            extracted.blocks.push(Block::new(BlockKind::Paragraph, format!("{name}: {people}")));
        }
    }
    if let Some(date) = message.date().filter(|date| date.is_valid()) {
        extracted.blocks.push(Block::new(BlockKind::Paragraph, format!("Date: {}", date.to_rfc3339())));
    }
    body(message, extracted)?;
    for part in message.attachments().take(MAX_PARTS) {
        match &part.body {
            PartType::Message(inner) => write(inner, level + 1, extracted)?,
            _ => {
                let name = part.attachment_name().unwrap_or("without a name");
                extracted.notes.push(format!("attachment `{}` was left out", super::one_line(name)));
            }
        }
    }
    Ok(())
}

fn body(message: &Message<'_>, extracted: &mut Extracted) -> Result<(), ExtractError> {
    let plain: Vec<&str> = message.text_bodies().filter_map(plain_text).collect();
    let mut rich = Extracted::default();
    for part in message.html_bodies().take(MAX_PARTS) {
        if let PartType::Html(source) = &part.body {
            let inner = html::extract(source.as_bytes())?;
            rich.blocks.extend(inner.blocks);
            rich.notes.extend(inner.notes);
        }
    }
    let length = |blocks: &[Block]| blocks.iter().map(|block| block.text.len()).sum::<usize>();
    let plain_length: usize = plain.iter().map(|text| text.trim().len()).sum();
    if plain_length * STUB_SHARE < length(&rich.blocks) || plain_length == 0 {
        extracted.blocks.extend(rich.blocks);
        extracted.notes.extend(rich.notes);
    } else {
        for source in plain {
            extracted.blocks.extend(text::blocks(source));
        }
    }
    if message.parts.iter().any(|part| part.is_encoding_problem) {
        extracted.notes.push("parts with a broken encoding were read as far as they go".into());
    }
    Ok(())
}

fn plain_text<'a>(part: &'a MessagePart<'_>) -> Option<&'a str> {
    match &part.body {
        PartType::Text(text) => Some(text),
        _ => None,
    }
}

fn people(address: &Address<'_>) -> String {
    let people = address.iter().take(MAX_PARTS).map(|person| match (person.name(), person.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_string(),
    });
    people.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;

    #[test]
    fn headers_encodings_forwards_and_attachments() {
        let source = "From: =?utf-8?B?5p2O5Zub?= <li@example.org>\r\nTo: a@example.org, B <b@example.org>\r\n\
            Subject: =?gb2312?Q?=B1=A8=B8=E6?= of May\r\nDate: Fri, 3 May 2024 10:00:00 +0200\r\nMIME-Version: 1.0\r\n\
            Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n\
            Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\
            Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            Caf=E9 opens =\r\nat nine.\r\n\r\nSee you there, and bring the plans.\r\n--inner\r\n\
            Content-Type: text/html; charset=utf-8\r\n\r\n<p>Caf\u{e9} opens at nine.</p>\r\n--inner--\r\n--outer\r\n\
            Content-Type: application/pdf; name=\"plan.pdf\"\r\nContent-Disposition: attachment; filename=\"plan.pdf\"\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--outer\r\nContent-Type: message/rfc822\r\n\r\n\
            Subject: Inner\r\nContent-Type: text/html; charset=gbk\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            PHVsPjxsaT612tK7PC9saT48L3VsPg==\r\n--outer--\r\n";
        let document = super::super::extract("x.eml", DocumentKind::Email, source.as_bytes()).unwrap();
        assert_eq!(document.title, "报告 of May");
        let texts: Vec<_> = document.blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "报告 of May",
                "From: 李四 <li@example.org>",
                "To: a@example.org, B <b@example.org>",
                "Date: 2024-05-03T10:00:00+02:00",
                "Café opens at nine.",
                "See you there, and bring the plans.",
                "Inner",
                "- 第一",
            ]
        );
        assert_eq!(document.notes, ["attachment `plan.pdf` was left out"]);
    }

    #[test]
    fn forwards_without_end_and_files_that_are_no_mail() {
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(20_000) + "Subject: x\r\n\r\nend";
        let _ = super::super::extract("x.eml", DocumentKind::Email, deep.as_bytes());
        let part =
            |index: i32| format!("Content-Type: multipart/mixed; boundary=b{index}\r\n\r\n--b{index}\r\n");
        let boundaries = (0..20_000).map(part).collect::<Vec<_>>().concat();
        let _ = super::super::extract("x.eml", DocumentKind::Email, boundaries.as_bytes());
        assert!(matches!(extract(b""), Err(ExtractError::Damaged { .. })));
    }
}
