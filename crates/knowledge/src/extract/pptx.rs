//! `PowerPoint` presentations (ECMA-376 `PresentationML`) → a page for each slide: its title as heading, text, lists,
//! tables, the numbers of charts, and the speaker's notes.
//!
//! Shapes are read from top to bottom where all of them say where they are, else in the order of the file.
//! Left out on purpose: pictures, layouts and masters, comments.

use super::table::{self, Header};
use super::xml::Element;
use super::zipped::Archive;
use super::{Extracted, one_line};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut archive = Archive::open(bytes)?;
    let title = archive.core_title().filter(|title| title != "PowerPoint Presentation");
    let presentation = archive.xml("ppt/presentation.xml")?;
    let presentation =
        presentation.ok_or_else(|| ExtractError::damaged("no `ppt/presentation.xml` inside"))?;
    let relations = archive.relations("ppt/presentation.xml")?;
    let mut extracted = Extracted { title, ..Extracted::default() };
    let slides = presentation.child("sldIdLst").into_iter().flat_map(|slides| slides.named("sldId"));
    let mut empty = Vec::new();
    for (index, id) in slides.enumerate() {
        // `sldId` has an `id` of its own beside the relationship's `r:id`, which comes last.
        let part = id.attributes_named("id").find_map(|id| relations.get(id)).map(|(_, part)| part.clone());
        let slide = part.as_ref().map(|part| archive.xml(part)).transpose()?.flatten();
        let (Some(part), Some(slide)) = (part, slide) else {
            extracted.notes.push(format!("slide {} is missing in the file", index + 1));
            continue;
        };
        let page = Some(index as u32 + 1);
        let mut reading = Slide { archive: &mut archive, part, page, title: None, blocks: Vec::new() };
        reading.read(&slide)?;
        if reading.title.is_none() && reading.blocks.is_empty() {
            empty.push(index + 1);
        }
        extracted.blocks.extend(reading.title);
        extracted.blocks.append(&mut reading.blocks);
    }
    if !empty.is_empty() {
        extracted.notes.push(format!("no text on slides {empty:?} (pictures?)"));
    }
    Ok(extracted)
}

struct Slide<'a, 'b> {
    archive: &'a mut Archive<'b>,
    part: String,
    page: Option<u32>,
    title: Option<Block>,
    blocks: Vec<Block>,
}

impl Slide<'_, '_> {
    fn read(&mut self, slide: &Element) -> Result<(), ExtractError> {
        if let Some(tree) = slide.find("spTree") {
            self.shapes(tree)?;
        }
        let relations = self.archive.relations(&self.part)?;
        let notes = relations.values().find(|(kind, _)| kind == "notesSlide");
        let notes = notes.map(|(_, part)| self.archive.xml(part)).transpose()?.flatten();
        let mut shapes = Vec::new();
        if let Some(notes) = &notes {
            notes.find_all("sp", &mut shapes);
        }
        for shape in shapes.iter().filter(|shape| placeholder(shape) == Some("body")) {
            let text = paragraphs(shape).map(paragraph_text).collect::<Vec<_>>().join(" ");
            if !text.trim().is_empty() {
                self.push(BlockKind::Paragraph, format!("Notes: {text}"));
            }
        }
        Ok(())
    }

    fn shapes(&mut self, tree: &Element) -> Result<(), ExtractError> {
        let mut shapes: Vec<(Option<(i64, i64)>, &Element)> = tree
            .elements()
            .filter(|shape| is_shape(&shape.name))
            .map(|shape| (place(shape), shape))
            .collect();
        // Placeholders without a place of their own are where the layout has them, at the top.
        if shapes.iter().all(|(place, shape)| place.is_some() || placeholder(shape).is_some()) {
            shapes.sort_by_key(|(place, _)| *place);
        }
        for (_, shape) in shapes {
            match shape.name.as_str() {
                "grpSp" => self.shapes(shape)?,
                // Newer content and a fallback for older programs, which is a picture of it.
                "AlternateContent" => {
                    if let Some(choice) = shape.child("Choice") {
                        self.shapes(choice)?;
                    }
                }
                "graphicFrame" => self.frame(shape)?,
                _ => self.text_shape(shape),
            }
        }
        Ok(())
    }

    fn text_shape(&mut self, shape: &Element) {
        let kind = placeholder(shape);
        if matches!(kind, Some("title" | "ctrTitle")) {
            let text = one_line(&paragraphs(shape).map(paragraph_text).collect::<Vec<_>>().join(" "));
            if !text.is_empty() && self.title.is_none() {
                self.title = Some(Block { kind: BlockKind::Heading(1), text, page: self.page });
                return;
            }
        }
        if matches!(kind, Some("sldNum" | "dt" | "ftr" | "hdr")) {
            return;
        }
        let in_body = matches!(kind, Some("body" | "obj" | ""));
        let several =
            paragraphs(shape).filter(|paragraph| !paragraph_text(paragraph).trim().is_empty()).count() > 1;
        let texts: Vec<(bool, String)> = paragraphs(shape)
            .map(|paragraph| {
                let properties = paragraph.child("pPr");
                let has = |name: &str| properties.is_some_and(|properties| properties.child(name).is_some());
                let bullet = has("buChar") || has("buAutoNum") || in_body && several && !has("buNone");
                (bullet, paragraph_text(paragraph))
            })
            .collect();
        for (bullet, text) in texts {
            match (bullet, text.trim()) {
                (_, "") => {}
                (true, text) => self.push(BlockKind::ListItem, format!("- {text}")),
                (false, text) => self.push(BlockKind::Paragraph, text.to_string()),
            }
        }
    }

    fn frame(&mut self, frame: &Element) -> Result<(), ExtractError> {
        if let Some(table) = frame.find("tbl") {
            let first_row = table.child("tblPr").and_then(|properties| properties.attribute("firstRow"));
            let header = if first_row == Some("1") { Header::Rows(1) } else { Header::Guess };
            self.blocks.extend(table::blocks(table_rows(table), header, self.page));
        }
        let relations = self.archive.relations(&self.part)?;
        let related = |element: Option<&Element>, name: &str| {
            let id = element?.attribute(name)?;
            relations.get(id).map(|(_, part)| part.clone())
        };
        if let Some(part) = related(frame.find("chart"), "id") {
            if let Some(chart) = self.archive.xml(&part)? {
                self.chart(&chart);
            }
        }
        // SmartArt keeps its texts in a part of data.
        if let Some(part) = related(frame.find("relIds"), "dm") {
            let data = self.archive.xml(&part)?;
            let mut texts = Vec::new();
            if let Some(data) = &data {
                data.find_all("p", &mut texts);
            }
            for text in texts.into_iter().map(paragraph_text).filter(|text| !text.trim().is_empty()) {
                self.push(BlockKind::ListItem, format!("- {text}"));
            }
        }
        Ok(())
    }

    /// Categories down, series across, from the values the chart keeps beside its workbook.
    fn chart(&mut self, chart: &Element) {
        if let Some(title) = chart.find("chart").and_then(|chart| chart.child("title")) {
            self.push(BlockKind::Paragraph, title.find("rich").map(Element::text).unwrap_or_default());
        }
        let mut series = Vec::new();
        chart.find_all("ser", &mut series);
        let mut rows: Vec<Vec<String>> = vec![vec![String::new()]];
        for (column, series) in series.iter().enumerate() {
            rows[0].push(
                series.child("tx").map(points).unwrap_or_default().into_iter().next().unwrap_or_default(),
            );
            let categories =
                series.child("cat").or_else(|| series.child("xVal")).map(points).unwrap_or_default();
            let values = series.child("val").or_else(|| series.child("yVal")).map(points).unwrap_or_default();
            for (index, value) in values.into_iter().enumerate() {
                if rows.len() <= index + 1 {
                    rows.push(vec![categories.get(index).cloned().unwrap_or_default()]);
                }
                rows[index + 1].resize(column + 1, String::new());
                rows[index + 1].push(value);
            }
        }
        self.blocks.extend(table::blocks(rows, Header::Rows(1), self.page));
    }

    fn push(&mut self, kind: BlockKind, text: String) {
        self.blocks.push(Block { kind, text, page: self.page });
    }
}

fn is_shape(name: &str) -> bool {
    matches!(name, "sp" | "grpSp" | "graphicFrame" | "AlternateContent")
}

/// The type of a placeholder, empty if it doesn't name one; `None` for a shape that is none.
fn placeholder(shape: &Element) -> Option<&str> {
    let properties = shape.child("nvSpPr")?.child("nvPr")?;
    Some(properties.child("ph")?.attribute("type").unwrap_or(""))
}

fn place(shape: &Element) -> Option<(i64, i64)> {
    let properties = shape.child("spPr").or_else(|| shape.child("grpSpPr")).unwrap_or(shape);
    let offset = properties.child("xfrm")?.child("off")?;
    let number = |name: &str| offset.attribute(name)?.parse().ok();
    Some((number("y")?, number("x")?))
}

fn paragraphs(shape: &Element) -> impl Iterator<Item = &Element> {
    shape.child("txBody").into_iter().flat_map(|body| body.named("p"))
}

fn paragraph_text(paragraph: &Element) -> String {
    let mut text = String::new();
    for part in paragraph.elements() {
        match part.name.as_str() {
            "r" | "fld" => text.push_str(&part.child("t").map(Element::text).unwrap_or_default()),
            "br" => text.push(' '),
            // A formula; its parts in order are better than nothing.
            "m" | "AlternateContent" => text.push_str(&part.text()),
            _ => {}
        }
    }
    text
}

fn table_rows(table: &Element) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in table.named("tr") {
        let above = rows.last().cloned().unwrap_or_default();
        let cells = row.named("tc").enumerate().map(|(column, cell)| {
            if cell.attribute("vMerge") == Some("1") {
                return above.get(column).cloned().unwrap_or_default();
            }
            paragraphs(cell).map(paragraph_text).collect::<Vec<_>>().join(" ")
        });
        rows.push(cells.collect());
    }
    rows
}

/// The cached values of a series, a category axis or a name.
fn points(element: &Element) -> Vec<String> {
    let mut values = Vec::new();
    element.find_all("v", &mut values);
    values.into_iter().map(Element::text).collect()
}

#[cfg(test)]
mod tests;
