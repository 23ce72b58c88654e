"""Checks the questions of the handbook against its files.

Every line names a file that exists, one of its answers occurs in that file's text, the question
does not give its own answer away, every file is asked about, and no question occurs twice.
Needs `pip install python-docx pypdf`.

    python examples/make_handbook/check.py
"""

import collections
import html
import json
import re
import sys
import unicodedata
from pathlib import Path

from docx import Document
from pypdf import PdfReader

EXAMPLES = Path(__file__).resolve().parent.parent
HANDBOOK = EXAMPLES / "handbook"


def text_of(path):
    if path.suffix == ".pdf":
        return "\n".join(page.extract_text() for page in PdfReader(path).pages)
    if path.suffix == ".docx":
        document = Document(path)
        cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
        return "\n".join([paragraph.text for paragraph in document.paragraphs] + cells)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return html.unescape(re.sub(r"<[^>]+>", " ", text))
    return text


def folded(text):
    """One form for widths, cases and spaces; Chinese text has no spaces to keep."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"(?<=[\u4e00-\u9fff]) | (?=[\u4e00-\u9fff])", "", text)


def occurs(answer, text):
    """Whether the answer stands in the text and is not part of a longer number or word."""
    answer = folded(answer)
    before = "(?<![0-9a-z.])" if re.match("[0-9a-z]", answer) else ""
    after = "(?![0-9a-z])" if re.search("[0-9a-z]$", answer) else ""
    return re.search(before + re.escape(answer) + after, folded(text)) is not None


def main():
    texts = {
        path.relative_to(HANDBOOK).as_posix(): text_of(path)
        for path in sorted(HANDBOOK.rglob("*"))
        if path.is_file()
    }
    asked = collections.Counter()
    seen, problems = set(), []
    # The second file was written later and never used to choose anything about the program.
    files = ["handbook-questions.jsonl", "handbook-questions-unseen.jsonl"]
    lines = [line for file in files for line in (EXAMPLES / file).read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        question, answers, source = entry["question"], entry["answers"], entry["source"]
        asked[source] += 1
        if source not in texts:
            problems.append(f"line {number}: no file {source}")
        elif not any(occurs(answer, texts[source]) for answer in answers):
            problems.append(f"line {number}: none of {answers} in {source}")
        if any(occurs(answer, question) for answer in answers):
            problems.append(f"line {number}: the question holds its answer")
        if question in seen:
            problems.append(f"line {number}: asked twice")
        if folded(question).rstrip("?") in folded(texts.get(source, "")):
            problems.append(f"line {number}: the question is copied from the text")
        seen.add(question)
    problems += [f"no question about {name}" for name in texts if name not in asked]
    chinese = sum(bool(re.search(r"[\u4e00-\u9fff]", question)) for question in seen)
    for name in texts:
        print(f"{asked[name]:>3} questions  {name}")
    print(f"{len(lines)} questions, {chinese} of them Chinese, {len(problems)} problems")
    print("\n".join(problems), file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
