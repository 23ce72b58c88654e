//! PDFs made here, drawing by drawing: columns, tables, turned pages, pictures, passwords, nonsense.

mod maker;
mod pictures;

use crate::document::{BlockKind, DocumentKind};
use crate::error::ExtractError;
use crate::extract::extract;
use maker::{Maker, text_at};

#[track_caller]
fn check(maker: Maker, expected: &[(BlockKind, &str)]) {
    let document = extract("x.pdf", DocumentKind::Pdf, &maker.bytes()).unwrap();
    let blocks: Vec<_> = document.blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
    assert_eq!(blocks, expected);
}

/// Two columns of text, drawn line by line across both.
#[test]
fn columns_drawn_to_and_fro_are_read_one_after_the_other() {
    let left = [
        "The left column has words that",
        "fill its width, and they go on",
        "over lines that are as long",
        "as the column is here.",
    ];
    let right = [
        "The right column begins when",
        "the left one is done, and has",
        "its own sentence, which ends",
        "down here at last.",
    ];
    let lines = left.iter().zip(right).enumerate().map(|(index, (left, right))| {
        let y = 700 - 12 * index as i32;
        text_at(50, y, left) + &text_at(320, y, right)
    });
    let page = text_at(50, 760, "A title that goes over the whole width of both of the columns below it")
        + &lines.collect::<String>();
    check(
        Maker::default().page(&page),
        &[
            (BlockKind::Paragraph, "A title that goes over the whole width of both of the columns below it"),
            (
                BlockKind::Paragraph,
                "The left column has words that fill its width, and they go on over lines that are as long as the column is here.",
            ),
            (
                BlockKind::Paragraph,
                "The right column begins when the left one is done, and has its own sentence, which ends down here at last.",
            ),
        ],
    );
}

#[test]
fn cells_with_lines_around_them_hold_their_wrapped_text() {
    // Three columns, three rows; the last cell of the second row has two lines of text.
    let level = [600, 620, 650, 670].map(|y| format!("50 {y} m 350 {y} l S "));
    let upright = [50, 120, 150, 350].map(|x| format!("{x} 600 m {x} 670 l S "));
    let mut page = level.concat() + &upright.concat();
    page += &text_at(52, 656, "Part");
    page += &text_at(122, 656, "No");
    page += &text_at(152, 656, "Remark");
    page += &text_at(52, 636, "valve");
    page += &text_at(122, 636, "7");
    page += &text_at(152, 640, "goes on in the");
    page += &text_at(152, 627, "second line");
    page += &text_at(52, 606, "rotor");
    page += &text_at(152, 606, "none");
    check(
        Maker::default().page(&page),
        &[
            (BlockKind::TableHeader, "Part | No | Remark"),
            (BlockKind::TableRow, "valve | 7 | goes on in the second line"),
            (BlockKind::TableRow, "rotor | | none"),
        ],
    );
}

#[test]
fn cells_without_lines_keep_their_columns() {
    let rows = [["Code", "Place", "Count"], ["A-1", "", "17"], ["B-22", "shelf", ""], ["C-3", "floor", "4"]];
    let mut page =
        text_at(50, 740, "A sentence stands above the table and is longer than its widest row by far.");
    for (row, cells) in rows.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            page += &text_at(50 + 90 * column as i32, 700 - 14 * row as i32, cell);
        }
    }
    check(
        Maker::default().page(&page),
        &[
            (
                BlockKind::Paragraph,
                "A sentence stands above the table and is longer than its widest row by far.",
            ),
            (BlockKind::TableHeader, "Code | Place | Count"),
            (BlockKind::TableRow, "A-1 | | 17"),
            (BlockKind::TableRow, "B-22 | shelf"),
            (BlockKind::TableRow, "C-3 | floor | 4"),
        ],
    );
}

#[test]
fn justified_lines_are_no_table() {
    // The same wide gap between all words of a line, as narrow justified columns have it, some as wide as a table's.
    let lines =
        [["one", "two", "three", "four"], ["five", "six", "seven", "eight"], ["nine", "ten", "and", "more"]];
    for width in [170, 200] {
        let mut page = String::new();
        for (row, words) in lines.iter().enumerate() {
            let length: i32 = words.iter().map(|word| word.len() as i32 * 6).sum();
            let gap = (width - length) / 3;
            let mut x = 50;
            for word in words {
                page += &maker::fixed_text_at(x, 700 - 12 * row as i32, word);
                x += word.len() as i32 * 6 + gap;
            }
        }
        check(
            Maker::default().page(&page),
            &[(BlockKind::Paragraph, "one two three four five six seven eight nine ten and more")],
        );
    }
}

#[test]
fn what_was_drawn_last_but_stands_first_is_read_first() {
    let page = text_at(50, 600, "The second sentence of the page stands here.")
        + &text_at(50, 560, "The third one stands below it at the end.")
        + &text_at(50, 700, "The first sentence of the page was drawn last.");
    check(
        Maker::default().page(&page),
        &[
            (BlockKind::Paragraph, "The first sentence of the page was drawn last."),
            (BlockKind::Paragraph, "The second sentence of the page stands here."),
            (BlockKind::Paragraph, "The third one stands below it at the end."),
        ],
    );
}

#[test]
fn words_divided_at_the_end_of_a_line_are_whole_again() {
    let page = text_at(50, 700, "The pump is for clean water and for cool-")
        + &text_at(50, 688, "ing liquids only.");
    check(
        Maker::default().page(&page),
        &[(BlockKind::Paragraph, "The pump is for clean water and for cooling liquids only.")],
    );
}

#[test]
fn items_go_on_under_their_text_and_not_under_their_bullet() {
    let page = "BT /F 14 Tf 1 0 0 1 50 700 Tm (\\225) Tj ET ".to_string()
        + &text_at(70, 700, "A first item that goes on for")
        + &text_at(70, 688, "a second line.")
        + "BT /F 14 Tf 1 0 0 1 50 676 Tm (\\225) Tj ET "
        + &text_at(70, 676, "A second item.");
    check(
        Maker::default().page(&page),
        &[
            (BlockKind::ListItem, "- A first item that goes on for a second line."),
            (BlockKind::ListItem, "- A second item."),
        ],
    );
}

#[test]
fn running_heads_go_whatever_number_they_hold() {
    let maker = (1..=12).fold(Maker::default(), |maker, number| {
        let page = text_at(50, 800, "Manual of the pump")
            + &text_at(50, 700, &format!("Text {}.", "abcdefghijklm".get(..number).unwrap()));
        maker.page(&(page + &text_at(300, 20, &format!("Page {number}"))))
    });
    let document = extract("x.pdf", DocumentKind::Pdf, &maker.bytes()).unwrap();
    assert!(document.blocks.iter().all(|block| block.text.starts_with("Text ")), "{}", document.text());
    assert_eq!(document.notes, ["24 running heads, feet and page numbers left out"]);
}

#[test]
fn an_outline_names_the_headings() {
    let page = text_at(50, 700, "Care of the pump")
        + &text_at(50, 680, "Wipe it once a week with a dry cloth, and never with water.");
    check(
        Maker::default().page(&page).outline(&["Care of the pump"]),
        &[
            (BlockKind::Heading(1), "Care of the pump"),
            (BlockKind::Paragraph, "Wipe it once a week with a dry cloth, and never with water."),
        ],
    );
}

#[test]
fn a_file_locked_without_a_user_password_opens() {
    let page = text_at(50, 700, "Anyone may read this, but not print it.");
    let maker = || Maker::default().page(&page);
    let document = extract("x.pdf", DocumentKind::Pdf, &maker().encrypted("")).unwrap();
    assert_eq!(document.text(), "Anyone may read this, but not print it.");
    let locked = extract("x.pdf", DocumentKind::Pdf, &maker().encrypted("secret"));
    assert_eq!(locked, Err(ExtractError::Encrypted));
}

#[test]
fn a_page_of_very_many_characters_is_cut_and_the_rest_of_the_file_is_read() {
    let program = "BT /F 10 Tf (x) Tj ET\n".repeat(400_000);
    let maker = Maker::default().page(&program).page(&text_at(50, 700, "The second page."));
    let document = extract("x.pdf", DocumentKind::Pdf, &maker.bytes()).unwrap();
    assert!(document.text().ends_with("The second page."));
    assert_eq!(document.notes, ["page 1 holds more than can be read; the rest was left out"]);
}

#[test]
fn a_file_that_claims_too_many_objects_is_refused_before_it_is_loaded() {
    let mut bytes = Maker::default().page(&text_at(50, 700, "text")).bytes();
    bytes.extend(b"9 0 obj <</Type /ObjStm /N 600000 /First 10>> stream endstream endobj");
    let outcome = extract("x.pdf", DocumentKind::Pdf, &bytes);
    assert!(matches!(outcome, Err(ExtractError::TooManyObjects { count: 600_000.., .. })), "{outcome:?}");
}

#[test]
fn a_file_of_very_many_objects_is_read_or_refused() {
    let mut bytes = Maker::default().page(&text_at(50, 700, "text")).bytes();
    let object = |number: i32| format!("{number} 0 obj\n<</A[1 2 3]>>\nendobj\n");
    let many = (100..200_100).map(object).collect::<Vec<_>>().concat();
    bytes.extend(many.into_bytes());
    let outcome = extract("x.pdf", DocumentKind::Pdf, &bytes);
    assert!(!matches!(outcome, Err(ExtractError::Panicked { .. })), "{outcome:?}");
    // Nested far too deep, in an object and in a page's program.
    let deep = "[".repeat(100_000);
    let nested = Maker::default().page(&format!("{} {deep} TJ", text_at(50, 700, "before")));
    let outcome = extract("x.pdf", DocumentKind::Pdf, &nested.bytes());
    assert!(!matches!(outcome, Err(ExtractError::Panicked { .. })), "{outcome:?}");
}
