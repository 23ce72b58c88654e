"""Makes the PDF and DOCX files of the handbook from the Markdown sources beside this script.

Needs `pip install python-docx reportlab` and a TrueType font with Chinese characters (Debian:
fonts-wqy-microhei). Fonts are embedded as subsets. The same sources and versions give the same
bytes: times are fixed and nothing is random.

    python examples/make_handbook/make.py [--font FILE.ttc]
"""

import argparse
import datetime
import re
import zipfile
from pathlib import Path

from docx import Document
from docx.oxml.ns import qn
from docx.shared import Pt
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

HERE = Path(__file__).resolve().parent
HANDBOOK = HERE.parent / "handbook"
FONT = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"
FIXED_TIME = datetime.datetime(2031, 10, 1)

# source -> file in the handbook, running head
DOCUMENTS = {
    "seed-settings.md": ("operation/seed-settings.docx", "Orvelint K3 handbook"),
    "校准.md": ("维护/校准.docx", "奥维林 K3 手册"),
    "warranty-and-prices.md": ("service/warranty-and-prices.pdf", "Orvelint K3 handbook"),
    "配件与耗材.md": ("配件与耗材.pdf", "奥维林 K3 手册"),
}


def blocks(text):
    """Markdown blocks as (kind, content): h1, h2, h3, p, item, step, table."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        heading = re.match(r"(#{1,3}) (.+)", lines[0])
        if heading:
            found.append((f"h{len(heading[1])}", heading[2]))
        elif lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            found.append(("table", [rows[0], *rows[2:]]))
        elif lines[0].startswith("- "):
            found += [("item", line[2:]) for line in lines]
        elif re.match(r"\d+\. ", lines[0]):
            found += [("step", re.sub(r"^\d+\. ", "", line)) for line in lines]
        else:
            found.append(("p", " ".join(lines)))
    return found


def runs(text):
    """Text cut at **bold** marks: (text, is_bold)."""
    return [(part, index % 2 == 1) for index, part in enumerate(text.split("**")) if part]


def make_docx(source, target, head):
    document = Document()
    normal = document.styles["Normal"]
    normal.font.name = "Calibri"
    normal.font.size = Pt(11)
    normal.element.rPr.rFonts.set(qn("w:eastAsia"), "SimSun")
    document.sections[0].header.paragraphs[0].text = head
    styles = {"item": "List Bullet", "step": "List Number"}
    title = ""
    for kind, content in blocks(source):
        if kind == "table":
            table = document.add_table(rows=0, cols=len(content[0]), style="Light Grid Accent 1")
            for row in content:
                for cell, text in zip(table.add_row().cells, row):
                    cell.text = text
            document.add_paragraph()
        elif kind.startswith("h"):
            title = title or content
            document.add_heading(content, level=int(kind[1]))
        else:
            paragraph = document.add_paragraph(style=styles.get(kind))
            for text, is_bold in runs(content):
                paragraph.add_run(text).bold = is_bold or None
    properties = document.core_properties
    properties.title, properties.author, properties.comments = title, "Orvelint", ""
    properties.created = properties.modified = FIXED_TIME
    document.save(target)
    fix_zip_times(target)


def fix_zip_times(path):
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, (2031, 10, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def make_pdf(source, target, head, chinese):
    regular = "Chinese" if chinese else "Helvetica"
    bold = "Chinese" if chinese else "Helvetica-Bold"
    wrap = "CJK" if chinese else None
    body = ParagraphStyle(
        "body", fontName=regular, fontSize=10.5, leading=17, spaceAfter=7, wordWrap=wrap
    )
    cell = ParagraphStyle("cell", body, fontSize=9.5, leading=13, spaceAfter=0)
    sizes = {"h1": 20, "h2": 14, "h3": 12}
    styles = {
        kind: ParagraphStyle(
            kind, body, fontName=bold, fontSize=size, leading=size * 1.4, spaceBefore=10, keepWithNext=1
        )
        for kind, size in sizes.items()
    }
    story, title, step = [], "", 0
    for kind, content in blocks(source):
        step = step + 1 if kind == "step" else 0
        if kind == "table":
            table = Table([[Paragraph(text, cell) for text in row] for row in content], hAlign="LEFT")
            grid = [
                ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
                ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
            table.setStyle(TableStyle(grid))
            story += [table, Spacer(1, 4 * mm)]
        elif kind.startswith("h"):
            title = title or content
            story.append(Paragraph(content, styles[kind]))
        else:
            mark = {"item": "• ", "step": f"{step}. "}.get(kind, "")
            bolded = "".join(f"<b>{text}</b>" if is_bold else text for text, is_bold in runs(content))
            story.append(Paragraph(mark + bolded, body))

    def decorate(canvas, template):
        canvas.setFont(regular, 8)
        canvas.drawString(25 * mm, 285 * mm, head)
        canvas.drawCentredString(105 * mm, 12 * mm, str(template.page))

    template = SimpleDocTemplate(
        str(target), pagesize=A4, leftMargin=25 * mm, rightMargin=25 * mm, topMargin=22 * mm,
        bottomMargin=20 * mm, title=title, author="Orvelint", invariant=1,
    )
    template.build(story, onFirstPage=decorate, onLaterPages=decorate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", default=FONT, help="TrueType font with Chinese characters")
    font = parser.parse_args().font
    pdfmetrics.registerFont(TTFont("Chinese", font))
    pdfmetrics.registerFontFamily("Chinese", "Chinese", "Chinese", "Chinese", "Chinese")
    for name, (target, head) in DOCUMENTS.items():
        source = (HERE / "sources" / name).read_text(encoding="utf-8")
        path = HANDBOOK / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".docx":
            make_docx(source, path, head)
        else:
            make_pdf(source, path, head, chinese="手册" in head)
        print(f"{path.stat().st_size:>8} bytes  {target}")


if __name__ == "__main__":
    main()
