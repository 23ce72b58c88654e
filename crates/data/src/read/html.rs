//! The main text of an HTML page, without building its tree: blocks of text from the stream of tokens, judged by length,
//! links and function words, and by their neighbours (jusText: Pomikálek, 2011), with units that fit Chinese too.
//!
//! No tree means no recursion and memory in proportion to the text, however a page nests.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use crate::units;

/// jusText's thresholds: links, short and long blocks in characters, share of function words.
const MAX_LINK_DENSITY: f64 = 0.2;
const LENGTH_LOW: usize = 70;
const LENGTH_HIGH: usize = 200;
const STOP_WORDS_LOW: f64 = 0.30;
const STOP_WORDS_HIGH: f64 = 0.32;
/// Neighbours that a heading may belong to are this near, in characters.
const MAX_HEADING_DISTANCE: usize = 200;
/// A Chinese character says about as much as this many Latin ones.
const CHARS_PER_HAN: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) title: Option<String>,
    pub(super) text: String,
}

/// The main text of a page.
pub fn main_text(html: &str) -> String {
    read(html, false).text
}

pub(super) fn read(html: &str, whole: bool) -> Page {
    let sink = Blocks::default();
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let mut state = tokenizer.sink.0.into_inner();
    state.close();
    let keep = if whole { vec![true; state.blocks.len()] } else { judge(&state.blocks) };
    let mut text = String::new();
    for (block, _) in state.blocks.iter().zip(&keep).filter(|(_, keep)| **keep) {
        if !text.is_empty() {
            text.push_str(if block.follows { "\n" } else { "\n\n" });
        }
        text.push_str(&block.text);
    }
    let title = state.title.split_whitespace().collect::<Vec<_>>().join(" ");
    Page { title: (!title.is_empty()).then_some(title), text }
}

/// The charset a page names in its head.
pub(super) fn charset(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = &bytes[..bytes.len().min(2048)].to_ascii_lowercase();
    let at = memchr::memmem::find(head, b"charset=")? + 8;
    let rest = head[at..].iter().skip_while(|byte| matches!(byte, b'"' | b'\'' | b' '));
    let name: Vec<u8> =
        rest.take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)).copied().collect();
    (!name.is_empty()).then_some(name)
}

#[derive(Debug, Default)]
struct Block {
    text: String,
    /// Characters inside links.
    link_chars: usize,
    heading: bool,
    /// A list item or table row right behind another.
    follows: bool,
}

#[derive(Debug, Default)]
struct State {
    blocks: Vec<Block>,
    current: Block,
    title: String,
    /// Open elements whose text isn't text: scripts, forms, navigation.
    hidden: usize,
    /// The name of the raw element whose end is waited for.
    in_title: bool,
    links: usize,
    pre: usize,
}

#[derive(Debug, Default)]
struct Blocks(RefCell<State>);

impl State {
    fn close(&mut self) {
        let mut block = std::mem::take(&mut self.current);
        let trimmed = block.text.trim();
        if !trimmed.is_empty() {
            if trimmed.len() != block.text.len() {
                block.text = String::from(trimmed);
            }
            self.blocks.push(block);
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            // A title of a megabyte is none.
            if self.title.len() < 1000 {
                self.title.push_str(text);
            }
            return;
        }
        if self.hidden > 0 {
            return;
        }
        if self.pre > 0 {
            self.current.text.push_str(text);
            return;
        }
        let mut added = 0;
        for (index, word) in text.split(|c: char| c.is_whitespace() && c != '\u{3000}').enumerate() {
            if index > 0 && !self.current.text.is_empty() && !self.current.text.ends_with([' ', '\n']) {
                self.current.text.push(' ');
            }
            self.current.text.push_str(word);
            added += word.len();
        }
        if self.links > 0 {
            self.current.link_chars += added;
        }
    }

    fn tag(&mut self, tag: &Tag) -> Option<RawKind> {
        let start = tag.kind == TagKind::StartTag;
        let depth = |value: &mut usize| {
            *value = if start { *value + 1 } else { value.saturating_sub(1) };
        };
        match &*tag.name {
            "title" => {
                self.in_title = start && self.title.is_empty();
                return start.then_some(RawKind::Rcdata);
            }
            "textarea" => {
                depth(&mut self.hidden);
                return start.then_some(RawKind::Rcdata);
            }
            "script" => {
                depth(&mut self.hidden);
                return start.then_some(RawKind::ScriptData);
            }
            "style" | "iframe" | "noembed" | "noframes" | "xmp" | "noscript" => {
                depth(&mut self.hidden);
                return start.then_some(RawKind::Rawtext);
            }
            "nav" | "footer" | "aside" | "form" | "select" | "button" | "svg" | "template" => {
                self.close();
                depth(&mut self.hidden);
            }
            "a" => depth(&mut self.links),
            "br" => self.current.text.push('\n'),
            "td" | "th" if !start => self.current.text.push('\t'),
            "pre" => {
                self.close();
                depth(&mut self.pre);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.close();
                self.current.heading = start;
            }
            "li" | "tr" | "dt" | "dd" => {
                self.close();
                self.current.follows = start;
            }
            "p" | "div" | "section" | "article" | "main" | "header" | "ul" | "ol" | "dl" | "table"
            | "tbody" | "thead" | "blockquote" | "figure" | "figcaption" | "hr" | "body" | "html"
            | "head" | "address" | "center" | "details" | "summary" | "fieldset" => {
                self.close();
                // A link that nobody closed ends with its block, as it does in browsers' eyes.
                self.links = 0;
            }
            _ => {}
        }
        None
    }
}

impl TokenSink for Blocks {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => state.text(&text),
            Token::TagToken(tag) => {
                if let Some(kind) = state.tag(&tag).filter(|_| !tag.self_closing) {
                    return TokenSinkResult::RawData(kind);
                }
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Good,
    NearGood,
    Short,
    Bad,
}

/// jusText's two steps: each block by itself, then by its neighbours.
fn judge(blocks: &[Block]) -> Vec<bool> {
    let free: Vec<Class> = blocks.iter().map(classify).collect();
    let near = |class: Class| class != Class::Short;
    let sure = |class: Class| matches!(class, Class::Good | Class::Bad);
    let (before, after) = (nearest(&free, near), nearest_behind(&free, near));
    let (sure_before, sure_after) = (nearest(&free, sure), nearest_behind(&free, sure));
    let mut good: Vec<bool> = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        good.push(match free[at] {
            Class::Good => true,
            Class::Bad => false,
            Class::NearGood => sure_before[at] == Class::Good || sure_after[at] == Class::Good,
            // A list or table is followed to its end from the text above it.
            Class::Short => {
                before[at] != Class::Bad && after[at] != Class::Bad
                    || block.follows && before[at] == Class::Good
            }
        });
    }
    // A heading belongs to the good text close below it.
    let mut distance = usize::MAX;
    for at in (0..blocks.len()).rev() {
        if good[at] {
            distance = 0;
        } else if blocks[at].heading && distance <= MAX_HEADING_DISTANCE {
            good[at] = true;
            distance = 0;
        } else {
            distance = distance.saturating_add(blocks[at].text.len());
        }
    }
    good
}

/// For each place the class of the nearest block before it that counts; the page's edge is bad.
fn nearest(classes: &[Class], counts: impl Fn(Class) -> bool) -> Vec<Class> {
    let mut last = Class::Bad;
    let step = |&class: &Class| {
        let before = last;
        if counts(class) {
            last = class;
        }
        before
    };
    classes.iter().map(step).collect()
}

fn nearest_behind(classes: &[Class], counts: impl Fn(Class) -> bool) -> Vec<Class> {
    let backwards: Vec<Class> = classes.iter().rev().copied().collect();
    let mut found = nearest(&backwards, counts);
    found.reverse();
    found
}

fn classify(block: &Block) -> Class {
    let text = &block.text;
    let num_han = units::num_han(text);
    let length = text.chars().count() + num_han * (CHARS_PER_HAN - 1);
    let link_density = block.link_chars as f64 / text.len().max(1) as f64;
    if link_density > MAX_LINK_DENSITY || text.contains('©') {
        return Class::Bad;
    }
    if length < LENGTH_LOW {
        return if block.link_chars > 0 { Class::Bad } else { Class::Short };
    }
    let density = units::stop_word_density(text);
    match density {
        d if d >= STOP_WORDS_HIGH && length > LENGTH_HIGH => Class::Good,
        d if d >= STOP_WORDS_HIGH => Class::NearGood,
        d if d >= STOP_WORDS_LOW => Class::NearGood,
        // Languages without a list: whole sentences tell.
        d if d < 0.0 && length > LENGTH_HIGH => Class::Good,
        d if d < 0.0 => Class::NearGood,
        _ => Class::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<html><head><title>The  kiln</title><style>p{}</style><script>if (a<b) x()</script></head>\
        <body><nav><a href=/>Home</a> <a href=/b>Shop</a></nav><div><a href=1>One</a> <a href=2>Two</a></div>\
        <h1>Firing</h1><p>The kiln is heated to 1240 degrees and it is left to cool for the whole of the night, \
        which is what the maker of the kiln says in the manual that comes with it. It is not to be opened before \
        the morning, because the pots that are in it would crack.</p>\
        <p>这座窑炉要加热到一千二百四十度，然后在整个晚上冷却，这是说明书里的要求。在早晨之前不要打开它，因为里面的陶器会裂开，也会有危险。所以我们都要等到第二天。</p>\
        <div>Share | Tweet</div><footer>© 2024 All rights reserved</footer></body></html>";

    #[test]
    fn the_main_part_of_a_page_is_kept_and_the_rest_is_not() {
        let page = read(PAGE, false);
        assert_eq!(page.title.as_deref(), Some("The kiln"));
        assert!(page.text.starts_with("Firing\n\nThe kiln is heated"), "{}", page.text);
        assert!(page.text.contains("这座窑炉"), "{}", page.text);
        for part in ["Home", "One", "Share", "rights", "x()"] {
            assert!(!page.text.contains(part), "{part} in {}", page.text);
        }
        assert!(read(PAGE, true).text.contains("Share"));
    }

    #[test]
    fn nesting_without_end_is_read_in_one_pass() {
        let page = "<div>".repeat(200_000) + "text";
        assert_eq!(read(&page, true).text, "text");
    }
}
