//! A presentation made here: titles, lists, tables, charts, notes, groups.

use crate::document::{BlockKind, DocumentKind};
use crate::error::ExtractError;
use crate::extract::extract;
use crate::extract::zipped::tests::archive;

fn shape(kind: &str, y: u32, paragraphs: &str) -> String {
    format!(
        "<p:sp><p:nvSpPr><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:spPr><a:xfrm><a:off x=\"5\" y=\"{y}\"/></a:xfrm></p:spPr>\
         <p:txBody>{paragraphs}</p:txBody></p:sp>"
    )
}

fn paragraph(text: &str) -> String {
    format!("<a:p><a:r><a:t>{text}</a:t></a:r></a:p>")
}

fn table() -> String {
    "<p:graphicFrame><p:xfrm><a:off x=\"5\" y=\"900\"/></p:xfrm><a:graphic><a:graphicData><a:tbl>\
        <a:tblPr firstRow=\"1\"/><a:tr><a:tc><a:txBody>P</a:txBody></a:tc></a:tr></a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
        .replace(
            "<a:tr><a:tc><a:txBody>P</a:txBody></a:tc></a:tr>",
            &["Part|Mass", "pump|3 kg", "^|4 kg"]
                .map(|row| {
                    let cell = |text: &str| match text {
                        "^" => "<a:tc vMerge=\"1\"/>".to_string(),
                        text => format!("<a:tc><a:txBody>{}</a:txBody></a:tc>", paragraph(text)),
                    };
                    format!("<a:tr>{}</a:tr>", row.split('|').map(cell).collect::<String>())
                })
                .concat(),
        )
}

#[test]
fn slides_are_pages_with_their_titles_as_headings() {
    let table = table();
    let chart =
        "<p:graphicFrame><p:xfrm><a:off x=\"5\" y=\"950\"/></p:xfrm><c:chart r:id=\"c1\"/></p:graphicFrame>";
    let one = format!(
        "<p:sld><p:cSld><p:spTree>{}<p:grpSp><p:grpSpPr><a:xfrm><a:off x=\"0\" y=\"10\"/></a:xfrm></p:grpSpPr>{}</p:grpSp>\
         {}{chart}{table}{}</p:spTree></p:cSld></p:sld>",
        shape("", 500, &paragraph("below")),
        shape("", 20, &paragraph("grouped &amp; above")),
        shape("<p:ph type=\"title\"/>", 100, &paragraph("Pumps")),
        shape("<p:ph idx=\"1\"/>", 600, &(paragraph("first") + &paragraph("") + &paragraph("second"))),
    );
    let two =
        format!("<p:sld><p:cSld><p:spTree>{}</p:spTree></p:cSld></p:sld>", shape("", 1, &paragraph("二")));
    let notes = format!(
        "<p:notes><p:cSld><p:spTree>{}{}</p:spTree></p:cSld></p:notes>",
        shape("<p:ph type=\"body\"/>", 1, &paragraph("Say it slowly.")),
        shape("<p:ph type=\"sldNum\"/>", 1, &paragraph("1"))
    );
    let chart = "<c:chartSpace><c:chart><c:ser><c:tx><c:v>Sales</c:v></c:tx><c:cat><c:pt><c:v>North</c:v></c:pt></c:cat>\
        <c:val><c:pt><c:v>7</c:v></c:pt></c:val></c:ser></c:chart></c:chartSpace>";
    let relations = "<x><r Id=\"s2\" Type=\"a/slide\" Target=\"slides/b.xml\"/><r Id=\"s1\" Type=\"a/slide\" Target=\"slides/a.xml\"/></x>";
    let bytes = archive(&[
        (
            "ppt/presentation.xml",
            "<p><sldIdLst><sldId id=\"256\" r:id=\"s1\"/><sldId id=\"257\" r:id=\"s2\"/></sldIdLst></p>",
        ),
        ("ppt/_rels/presentation.xml.rels", relations),
        ("ppt/slides/a.xml", &one),
        ("ppt/slides/b.xml", &two),
        (
            "ppt/slides/_rels/a.xml.rels",
            "<x><r Id=\"n\" Type=\"a/notesSlide\" Target=\"../notes/n.xml\"/><r Id=\"c1\" Type=\"a/chart\" Target=\"../c.xml\"/></x>",
        ),
        ("ppt/notes/n.xml", &notes),
        ("ppt/c.xml", chart),
    ]);
    let document = extract("x.pptx", DocumentKind::Pptx, &bytes).unwrap();
    let found: Vec<_> =
        document.blocks.iter().map(|block| (block.kind, block.page.unwrap(), block.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (BlockKind::Heading(1), 1, "Pumps"),
            (BlockKind::Paragraph, 1, "grouped & above"),
            (BlockKind::Paragraph, 1, "below"),
            (BlockKind::ListItem, 1, "- first"),
            (BlockKind::ListItem, 1, "- second"),
            (BlockKind::TableHeader, 1, "Part | Mass"),
            (BlockKind::TableRow, 1, "pump | 3 kg"),
            (BlockKind::TableRow, 1, "pump | 4 kg"),
            (BlockKind::TableHeader, 1, "| Sales"),
            (BlockKind::TableRow, 1, "North | 7"),
            (BlockKind::Paragraph, 1, "Notes: Say it slowly."),
            (BlockKind::Paragraph, 2, "二"),
        ]
    );
}

#[test]
fn a_missing_slide_is_noted_and_a_missing_list_of_slides_is_damage() {
    let bytes =
        archive(&[("ppt/presentation.xml", "<p><sldIdLst><sldId id=\"1\" r:id=\"none\"/></sldIdLst></p>")]);
    assert_eq!(extract("x.pptx", DocumentKind::Pptx, &bytes), Err(ExtractError::NoText));
    let bytes = archive(&[("other.xml", "<p/>")]);
    assert!(matches!(extract("x.pptx", DocumentKind::Pptx, &bytes), Err(ExtractError::Damaged { .. })));
}
