// The pure half of the page, as data.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [new URL("../src/prepare.ts", import.meta.url).pathname],
  bundle: true,
  format: "esm",
  write: false,
});
const source = Buffer.from(outputFiles[0].text).toString("base64");
const { EventSplitter, parseMarkdown, readView, splitQuote, withMarks, writeView } = await import(
  `data:text/javascript;base64,${source}`
);

const text = (text) => ({ kind: "text", text });
const paragraph = (...children) => ({ kind: "paragraph", children });

test("markdown becomes a tree", () => {
  for (const [input, expected] of [
    ["", []],
    ["a\nb\n\nc", [paragraph(text("a\nb")), paragraph(text("c"))]],
    ["# T\nx", [{ kind: "heading", level: 1, children: [text("T")] }, paragraph(text("x"))]],
    ["- a\n- b", [{ kind: "list", ordered: false, start: 1, items: [[text("a")], [text("b")]] }]],
    ["3. a\n4) b", [{ kind: "list", ordered: true, start: 3, items: [[text("a")], [text("b")]] }]],
    ["```js\n<b>\n\n# x\n```\ny", [{ kind: "code", text: "<b>\n\n# x" }, paragraph(text("y"))]],
    ["```\nstill open", [{ kind: "code", text: "still open" }]],
    ["`a*b*` **c** *d*", [
      paragraph(
        { kind: "code", text: "a*b*" }, text(" "), { kind: "strong", children: [text("c")] }, text(" "),
        { kind: "em", children: [text("d")] },
      ),
    ]],
    ["2 * 3 * 4 and ** x **", [paragraph(text("2 * 3 * 4 and ** x **"))]],
    ["x[1] y[2]", [paragraph(text("x"), { kind: "mark", index: 1 }, text(" y[2]"))]],
    ["<img src=x onerror=alert(1)> [a](javascript:b)", [
      paragraph(text("<img src=x onerror=alert(1)> [a](javascript:b)")),
    ]],
  ]) {
    assert.deepEqual(parseMarkdown(input, new Set([1])), expected, input);
  }
});

test("any text is parsed, and quickly", () => {
  for (const piece of ["*", "`", "**", "[1]", "#", "- ", "```\n", "_ *a"]) {
    const start = performance.now();
    parseMarkdown(piece.repeat(20_000), new Set([1]));
    assert.ok(performance.now() - start < 2000, piece);
  }
});

test("marks stand behind whole characters, unless the answer has the number", () => {
  const citation = (index, ...marks) => ({ index, marks });
  for (const [answer, citations, expected] of [
    ["ab", [], "ab"],
    ["炉火🔥好", [citation(1, 3)], "炉火🔥[1]好"],
    ["ab", [citation(1, 1), citation(2, 2)], "a[1]b[2]"],
    ["ab", [citation(1, 2), citation(2, 2)], "ab[1][2]"],
    ["a[1]b", [citation(1, 5)], "a[1]b"],
    ["ab", [citation(1, 99, -1)], "ab"],
  ]) {
    assert.equal(withMarks(answer, citations), expected);
  }
});

test("a quote is found as it stands", () => {
  assert.deepEqual(splitQuote("a quote b", "quote"), ["a ", "quote", " b"]);
  assert.equal(splitQuote("a", "quote"), null);
  assert.equal(splitQuote("a", ""), null);
});

test("events come out whole whatever the pieces", () => {
  const stream = 'data: {"a":"你"}\n\n: keep alive\n\ndata: [DONE]\n\n';
  for (const size of [1, 2, 7, 100]) {
    const splitter = new EventSplitter();
    const events = [];
    for (let at = 0; at < stream.length; at += size) events.push(...splitter.push(stream.slice(at, at + size)));
    assert.deepEqual(events, ['{"a":"你"}', "[DONE]"]);
  }
});

test("the URL holds the view", () => {
  for (const view of [
    { assistant: null, passage: null, quote: null },
    { assistant: "a b/ä", passage: "3", quote: "x & y = 说" },
  ]) {
    assert.deepEqual(readView(new URL(writeView(view), "http://x").search), view);
  }
  assert.equal(writeView({ assistant: null, passage: null, quote: null }), "/");
});
