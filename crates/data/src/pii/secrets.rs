//! Keys by the beginnings their makers gave them, tokens of the web, private keys, and values behind `password=`.

use super::Kind;
use super::find::Found;

/// What stands behind a known beginning.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Letters and digits (and `-_`), this many at least.
    Token(usize),
    /// Capitals and digits, exactly this many.
    Capitals(usize),
    /// Three parts of base64 with dots.
    Jwt,
    /// Up to the line that ends it.
    Pem,
    /// A value behind `=` or `:`.
    Assigned,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) prefix: &'static str,
    shape: Shape,
}

const fn rule(prefix: &'static str, shape: Shape) -> Rule {
    Rule { prefix, shape }
}

pub(super) const RULES: [Rule; 43] = [
    rule("AKIA", Shape::Capitals(16)),
    rule("ASIA", Shape::Capitals(16)),
    rule("ghp_", Shape::Token(36)),
    rule("gho_", Shape::Token(36)),
    rule("ghu_", Shape::Token(36)),
    rule("ghs_", Shape::Token(36)),
    rule("ghr_", Shape::Token(36)),
    rule("github_pat_", Shape::Token(60)),
    rule("glpat-", Shape::Token(20)),
    rule("sk-", Shape::Token(20)),
    rule("sk_live_", Shape::Token(16)),
    rule("sk_test_", Shape::Token(16)),
    rule("rk_live_", Shape::Token(16)),
    rule("xoxb-", Shape::Token(20)),
    rule("xoxp-", Shape::Token(20)),
    rule("xoxa-", Shape::Token(20)),
    rule("xoxr-", Shape::Token(20)),
    rule("xoxs-", Shape::Token(20)),
    rule("AIza", Shape::Token(35)),
    rule("npm_", Shape::Token(36)),
    rule("hf_", Shape::Token(30)),
    rule("pypi-AgE", Shape::Token(50)),
    rule("LTAI", Shape::Token(12)),
    rule("AKID", Shape::Token(28)),
    rule("SG.", Shape::Token(40)),
    rule("dop_v1_", Shape::Token(64)),
    rule("eyJ", Shape::Jwt),
    rule("-----BEGIN ", Shape::Pem),
    rule("password", Shape::Assigned),
    rule("Password", Shape::Assigned),
    rule("PASSWORD", Shape::Assigned),
    rule("passwd", Shape::Assigned),
    rule("api_key", Shape::Assigned),
    rule("api-key", Shape::Assigned),
    rule("apikey", Shape::Assigned),
    rule("API_KEY", Shape::Assigned),
    rule("secret_key", Shape::Assigned),
    rule("SECRET_KEY", Shape::Assigned),
    rule("access_token", Shape::Assigned),
    rule("secret", Shape::Assigned),
    rule("SECRET", Shape::Assigned),
    rule("密码", Shape::Assigned),
    rule("口令", Shape::Assigned),
];

/// A longer one is no key.
const MAX_TOKEN_BYTES: usize = 512;
const MAX_PEM_BYTES: usize = 64 << 10;

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn run(bytes: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    start + bytes[start..].iter().take(MAX_TOKEN_BYTES).take_while(|byte| is_part(**byte)).count()
}

/// The secret that a known word at `start..end` begins.
pub(super) fn at(text: &str, start: usize, end: usize, rule: &Rule) -> Option<Found> {
    let bytes = text.as_bytes();
    let apart = start == 0 || !(bytes[start - 1].is_ascii_alphanumeric() || bytes[start - 1] == b'_');
    let found = |start: usize, end: usize| Found::new(Kind::Secret, start, end);
    match rule.shape {
        Shape::Token(min) => {
            let stop = run(bytes, end, |byte| is_token(byte) || (rule.prefix == "SG." && byte == b'.'));
            let token = &bytes[end..stop];
            // Words with hyphens are no keys: `sk-` begins Swedish ones.
            let mixed = token.iter().any(u8::is_ascii_digit) && token.iter().any(u8::is_ascii_alphabetic);
            (apart && token.len() >= min && mixed).then(|| found(start, stop))
        }
        Shape::Capitals(count) => {
            let stop = run(bytes, end, |byte| byte.is_ascii_alphanumeric());
            let token = &bytes[end..stop];
            let capitals = token.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            (apart && token.len() == count && capitals).then(|| found(start, stop))
        }
        Shape::Jwt => {
            let stop = run(bytes, end, |byte| is_token(byte) || byte == b'.');
            let token = text[start..stop].trim_end_matches('.');
            let parts: Vec<&str> = token.split('.').collect();
            let whole =
                parts.len() == 3 && parts[1].starts_with("eyJ") && parts.iter().all(|part| part.len() >= 10);
            (apart && whole).then(|| found(start, start + token.len()))
        }
        Shape::Pem => {
            let limit = text.floor_char_boundary((start + MAX_PEM_BYTES).min(text.len()));
            let block = &text[start..limit];
            let head = block.get(..64).unwrap_or(block);
            if !head.contains("PRIVATE KEY-----") {
                return None;
            }
            let close = block.find("-----END ")?;
            let stop = block[close + 9..].find("-----")? + close + 9 + 5;
            Some(found(start, start + stop))
        }
        Shape::Assigned => assigned(text, end).map(|(from, to)| found(from, to)),
    }
}

/// The value behind `=`, `:` or `：`, with quotes or not; long and mixed enough not to be a word.
fn assigned(text: &str, end: usize) -> Option<(usize, usize)> {
    let mut rest = text[end..].trim_start_matches(['"', '\'', ' ']);
    let behind = rest
        .strip_prefix([':', '='])
        .or_else(|| rest.strip_prefix('：'))
        .or_else(|| rest.strip_prefix("是"))?;
    rest = behind.trim_start_matches(['"', '\'', ' ', '`']);
    let start = text.len() - rest.len();
    let is_part = |byte: u8| is_token(byte) || b"+/=.!@#$%^&*~".contains(&byte);
    let stop = run(text.as_bytes(), start, is_part);
    let value = text[start..stop].trim_end_matches(['.', '!']);
    let has = |class: fn(&u8) -> bool| value.as_bytes().iter().any(class);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    // `os.environ["KEY"]` and `settings.KEY2` are references; a number alone is a number.
    let long = value.len() >= 8 && start - end <= 8;
    (long && mixed).then_some((start, start + value.len()))
}
