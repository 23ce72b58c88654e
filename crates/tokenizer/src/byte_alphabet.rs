//! The printable stand-ins for bytes that byte-level BPE files spell tokens with (GPT-2's `bytes_to_unicode`).
//!
//! Bytes that are printable Latin-1 stand for themselves, the other 68 take U+0100 onwards in their order.

/// How many code points the alphabet spans: U+0000 to U+0143.
const SPAN: usize = 0x144;

pub(crate) struct ByteAlphabet {
    byte_of: [Option<u8>; SPAN],
    stand_ins: [char; 256],
}

impl ByteAlphabet {
    pub(crate) fn new() -> Self {
        let mut byte_of = [None; SPAN];
        let mut stand_ins = ['\0'; 256];
        let mut next = 0x100;
        for byte in 0..=255_u8 {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let code = if printable { u32::from(byte) } else { next };
            next += u32::from(!printable);
            byte_of[code as usize] = Some(byte);
            stand_ins[usize::from(byte)] = char::from_u32(code).expect("all codes are below U+0144");
        }
        Self { byte_of, stand_ins }
    }

    /// The stand-ins of bytes.
    pub(crate) fn spell(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|byte| self.stand_ins[usize::from(*byte)]).collect()
    }

    /// Appends the bytes that `spelling` stands for; `false`, and nothing appended, if a character is foreign.
    pub(crate) fn decode_into(&self, spelling: &str, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for c in spelling.chars() {
            let Some(byte) = self.byte_of.get(c as usize).copied().flatten() else {
                out.truncate(start);
                return false;
            };
            out.push(byte);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_stand_in() {
        let alphabet = ByteAlphabet::new();
        let mut bytes: Vec<u8> = alphabet.byte_of.iter().copied().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn known_spellings() {
        let alphabet = ByteAlphabet::new();
        let check = |spelling: &str, expected: Option<&[u8]>| {
            let mut out = Vec::new();
            let known = alphabet.decode_into(spelling, &mut out);
            assert_eq!(known.then_some(out.as_slice()), expected, "{spelling}");
            if known {
                assert_eq!(alphabet.spell(&out), spelling);
            }
        };
        check("", Some(b""));
        check("Ġthe", Some(b" the"));
        check("Ċ", Some(b"\n"));
        check("ä½ł", Some("你".as_bytes()));
        check("a你", None);
    }
}
