//! Workbooks made here: what the cells show, tables and captions, merged cells, hostile sizes.

use crate::document::{BlockKind, DocumentKind};
use crate::error::ExtractError;
use crate::extract::extract;
use crate::extract::zipped::tests::archive;

const RELATIONS: &str = r#"<Relationships>
    <Relationship Id="r1" Type="x/worksheet" Target="worksheets/one.xml"/>
    <Relationship Id="r2" Type="x/worksheet" Target="/xl/worksheets/two.xml"/>
    <Relationship Id="r3" Type="x/sharedStrings" Target="sharedStrings.xml"/>
    <Relationship Id="r4" Type="x/styles" Target="styles.xml"/></Relationships>"#;
const WORKBOOK: &str = r#"<workbook xmlns:r="r"><sheets><sheet name="Stock" r:id="r1"/>
    <sheet name="Old" state="hidden" r:id="r2"/></sheets></workbook>"#;
const STRINGS: &str = r"<sst><si><t>Part</t></si><si><r><t>Mas</t></r><r><t>s &amp; size</t></r></si>
    <si><t>東京</t><rPh><t>トウキョウ</t></rPh></si></sst>";
const STYLES: &str = r#"<styleSheet><numFmts><numFmt numFmtId="164" formatCode="yyyy/mm/dd"/></numFmts>
    <cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="9"/></cellXfs></styleSheet>"#;

fn workbook(one: &str, two: &str) -> Vec<u8> {
    archive(&[
        ("xl/workbook.xml", WORKBOOK),
        ("xl/_rels/workbook.xml.rels", RELATIONS),
        ("xl/sharedStrings.xml", STRINGS),
        ("xl/styles.xml", STYLES),
        ("xl/worksheets/one.xml", &format!("<worksheet>{one}</worksheet>")),
        ("xl/worksheets/two.xml", &format!("<worksheet>{two}</worksheet>")),
    ])
}

#[test]
fn cells_are_read_as_they_are_shown() {
    let one = r#"<sheetData>
        <row r="1"><c r="A1" t="inlineStr"><is><t>All parts</t></is></c></row>
        <row r="2"><c r="A2" t="s"><v>0</v></c><c r="C2" t="s"><v>1</v></c><c r="D2" t="str"><v>Bought</v></c></row>
        <row r="3"><c r="A3" t="s"><v>2</v></c><c r="C3"><v>3.5</v></c><c r="D3" s="1"><v>45351</v></c></row>
        <row><c/><c/><c s="2"><f>1/2</f><v>0.5</v></c><c t="b"><v>1</v></c></row>
        <row r="7"><c r="B7" t="e"><v>#N/A</v></c></row></sheetData>
        <mergeCells><mergeCell ref="A3:A4"/></mergeCells>"#;
    let document = extract("x.xlsx", DocumentKind::Xlsx, &workbook(one, "<sheetData/>")).unwrap();
    let found: Vec<_> = document.blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (BlockKind::Heading(1), "Stock"),
            (BlockKind::Paragraph, "All parts"),
            (BlockKind::TableHeader, "Part | Mass & size | Bought"),
            (BlockKind::TableRow, "東京 | 3.5 | 2024-02-29"),
            (BlockKind::TableRow, "東京 | 50% | TRUE"),
            (BlockKind::Paragraph, "#N/A"),
            (BlockKind::Heading(1), "Old"),
        ]
    );
    assert_eq!(document.notes, ["hidden sheets were read too: Old"]);
}

#[test]
fn places_far_out_take_no_memory() {
    let cell = |place: &str| {
        let row = place.trim_start_matches(|c: char| c.is_ascii_uppercase());
        format!("<row r=\"{row}\"><c r=\"{place}\"><v>1</v></c><c r=\"A{row}\"><v>2</v></c></row>")
    };
    let one = format!(
        "<sheetData>{}{}{}</sheetData><mergeCells><mergeCell ref=\"A1:XFD1048576\"/></mergeCells>",
        cell("XFD1"),
        cell("ZZZ2"),
        cell("B99999999999"),
    );
    let document = extract("x.xlsx", DocumentKind::Xlsx, &workbook(&one, "")).unwrap();
    assert!(document.text().len() < 100, "{}", document.text());
}

#[test]
fn an_empty_or_broken_workbook_says_so() {
    assert_eq!(extract("x.xlsx", DocumentKind::Xlsx, &workbook("", "")), Err(ExtractError::NoText));
    let cut = extract("x.xlsx", DocumentKind::Xlsx, &archive(&[("xl/workbook.xml", "<workbook><sheets")]));
    assert!(matches!(cut, Err(ExtractError::Damaged { .. })));
}
