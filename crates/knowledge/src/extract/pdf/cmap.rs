//! `CMap` programs (Adobe Technical Note 5014): byte codes → Unicode text, and how long the codes are.

use std::collections::HashMap;

/// A `bfrange` or code space of a broken file may claim millions of codes; two bytes can't hold more.
const MAX_CODES: usize = 1 << 17;

#[derive(Debug, Default)]
pub(super) struct CMap {
    /// (number of bytes, first code, last code)
    pub(super) code_spaces: Vec<(usize, u32, u32)>,
    texts: HashMap<u32, String>,
}

enum Token {
    Hex(Vec<u8>),
    Integer,
    Open,
    Close,
    Word(String),
}

impl CMap {
    pub(super) fn parse(program: &[u8]) -> Self {
        let mut cmap = Self::default();
        let mut operands = Vec::new();
        for token in tokens(program) {
            let Token::Word(word) = token else {
                operands.push(token);
                continue;
            };
            match word.as_str() {
                "endcodespacerange" => cmap.add_code_spaces(&operands),
                "endbfchar" => cmap.add_chars(&operands),
                "endbfrange" => cmap.add_ranges(&operands),
                _ => {}
            }
            operands.clear();
        }
        cmap
    }

    pub(super) fn text(&self, code: u32) -> Option<&str> {
        self.texts.get(&code).map(String::as_str)
    }

    fn add_code_spaces(&mut self, operands: &[Token]) {
        for pair in operands.chunks_exact(2) {
            if let [Token::Hex(first), Token::Hex(last)] = pair {
                self.code_spaces.push((first.len(), code(first), code(last)));
            }
        }
    }

    fn add_chars(&mut self, operands: &[Token]) {
        for pair in operands.chunks_exact(2) {
            if let [Token::Hex(from), Token::Hex(to)] = pair {
                self.texts.insert(code(from), utf16(to));
            }
        }
    }

    fn add_ranges(&mut self, operands: &[Token]) {
        let mut rest = operands;
        while let [Token::Hex(first), Token::Hex(last), target, after @ ..] = rest {
            let (first, last) = (code(first), code(last));
            rest = after;
            match target {
                Token::Hex(to) => {
                    let mut to = to.clone();
                    for code in first..=last.min(first.saturating_add(0xffff)) {
                        if self.texts.len() >= MAX_CODES {
                            return;
                        }
                        self.texts.insert(code, utf16(&to));
                        increment(&mut to);
                    }
                }
                Token::Open => {
                    let mut code = first;
                    while let [Token::Hex(to), after @ ..] = rest {
                        self.texts.insert(code, utf16(to));
                        code = code.saturating_add(1);
                        rest = after;
                    }
                    if let [Token::Close, after @ ..] = rest {
                        rest = after;
                    }
                }
                _ => return,
            }
        }
    }
}

fn code(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |code, &byte| code << 8 | u32::from(byte))
}

fn increment(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
}

fn utf16(bytes: &[u8]) -> String {
    if let [byte] = bytes {
        return char::from(*byte).to_string();
    }
    encoding_rs::UTF_16BE.decode_without_bom_handling(bytes).0.into_owned()
}

fn tokens(program: &[u8]) -> impl Iterator<Item = Token> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while program.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
            program[from..].iter().position(|&byte| stop(byte)).map_or(program.len(), |n| from + n)
        };
        match *program.get(at)? {
            b'<' if program.get(at + 1) != Some(&b'<') => {
                let end = until(at, &|byte| byte == b'>');
                at = (end + 1).min(program.len());
                Some(Token::Hex(hex(&program[start + 1..end])))
            }
            b'[' => {
                at += 1;
                Some(Token::Open)
            }
            b']' => {
                at += 1;
                Some(Token::Close)
            }
            b'%' => {
                at = until(at, &|byte| byte == b'\n' || byte == b'\r');
                Some(Token::Word(String::new()))
            }
            _ => {
                let stop = |byte: u8| byte.is_ascii_whitespace() || b"<[]%".contains(&byte);
                at = until(at + 1, &stop);
                let word = String::from_utf8_lossy(&program[start..at]).into_owned();
                let integer = word.bytes().all(|byte| byte.is_ascii_digit());
                Some(if integer { Token::Integer } else { Token::Word(word) })
            }
        }
    })
}

fn hex(digits: &[u8]) -> Vec<u8> {
    let nibbles: Vec<u8> =
        digits.iter().filter_map(|&byte| char::from(byte).to_digit(16)).map(|n| n as u8).collect();
    nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chars_ranges_and_arrays_are_read() {
        let cmap = CMap::parse(
            b"1 begincodespacerange <0000> <FFFF> endcodespacerange % note\n\
              2 beginbfchar <0003> <0020> <0010> <4E2D6587> endbfchar\n\
              2 beginbfrange <0020> <0022> <0041> <0030> <0031> [<0061> <D83DDE00>] endbfrange",
        );
        assert_eq!(cmap.code_spaces, [(2, 0, 0xffff)]);
        let texts: Vec<_> =
            [3, 0x10, 0x20, 0x22, 0x30, 0x31, 0x40].map(|code| cmap.text(code)).into_iter().collect();
        let expected = [Some(" "), Some("中文"), Some("A"), Some("C"), Some("a"), Some("😀"), None];
        assert_eq!(texts, expected);
    }

    #[test]
    fn nonsense_ends() {
        CMap::parse(b"<00000000> <ffffffff> <0041> endbfrange <<<< [[[ <");
    }
}
