// Pure functions between data and page: Markdown to a tree, marks into answers, events out of bytes, the URL.

export interface Citation {
  index: number;
  document: string;
  title: string;
  page: number | null;
  heading: string | null;
  chunk: string;
  quote: string;
  marks: number[];
}

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong"; children: Inline[] }
  | { kind: "em"; children: Inline[] }
  | { kind: "mark"; index: number };

export type Block =
  | { kind: "paragraph"; children: Inline[] }
  | { kind: "heading"; level: number; children: Inline[] }
  | { kind: "list"; ordered: boolean; start: number; items: Inline[][] }
  | { kind: "code"; text: string };

/** Puts `[n]` where a citation belongs, unless the answer holds that number itself. Offsets count Unicode characters. */
export function withMarks(answer: string, citations: Citation[]): string {
  const characters = Array.from(answer);
  const places = citations
    .filter((citation) => !answer.includes(`[${citation.index}]`))
    .flatMap((citation) => citation.marks.map((at) => ({ at, index: citation.index })))
    .filter(({ at }) => at >= 0 && at <= characters.length)
    .sort((a, b) => b.at - a.at || b.index - a.index);
  for (const { at, index } of places) characters.splice(at, 0, `[${index}]`);
  return characters.join("");
}

/** The part of Markdown that answers use. No links and no HTML: what a model writes is only ever text. */
export function parseMarkdown(source: string, marks: ReadonlySet<number>): Block[] {
  const blocks: Block[] = [];
  const lines = source.split("\n");
  let paragraph: string[] = [];
  const flush = () => {
    if (paragraph.length > 0) blocks.push({ kind: "paragraph", children: parseInline(paragraph.join("\n"), marks) });
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const fence = /^\s*(```|~~~)/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = parseItem(line);
    if (fence?.[1]) {
      flush();
      const body: string[] = [];
      // A fence that is still open while streaming runs to the end.
      for (at++; at < lines.length && !lines[at]?.trimStart().startsWith(fence[1]); at++) body.push(lines[at] ?? "");
      blocks.push({ kind: "code", text: body.join("\n") });
    } else if (heading?.[1]) {
      flush();
      blocks.push({ kind: "heading", level: heading[1].length, children: parseInline(heading[2] ?? "", marks) });
    } else if (item) {
      flush();
      const children = parseInline(item.text, marks);
      const last = blocks.at(-1);
      if (last?.kind === "list" && last.ordered === item.ordered) last.items.push(children);
      else blocks.push({ kind: "list", ordered: item.ordered, start: item.start, items: [children] });
    } else if (line.trim() === "") flush();
    else paragraph.push(line);
  }
  flush();
  return blocks;
}

function parseItem(line: string): { ordered: boolean; start: number; text: string } | null {
  const bullet = /^\s*[-*+]\s+(.*)$/.exec(line);
  if (bullet) return { ordered: false, start: 1, text: bullet[1] ?? "" };
  const number = /^\s*(\d{1,4})[.)]\s+(.*)$/.exec(line);
  return number ? { ordered: true, start: Number(number[1]), text: number[2] ?? "" } : null;
}

const INLINE = /`([^`\n]+)`|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*\n]*[^\s*])\*|\[(\d{1,3})\]/g;

function parseInline(source: string, marks: ReadonlySet<number>): Inline[] {
  const children: Inline[] = [];
  const text = (part: string) => {
    const last = children.at(-1);
    if (last?.kind === "text") last.text += part;
    else if (part) children.push({ kind: "text", text: part });
  };
  let at = 0;
  for (const match of source.matchAll(INLINE)) {
    text(source.slice(at, match.index));
    at = match.index + match[0].length;
    const [whole, code, strong, em, mark] = match;
    if (code !== undefined) children.push({ kind: "code", text: code });
    else if (strong !== undefined) children.push({ kind: "strong", children: parseInline(strong, marks) });
    else if (em !== undefined) children.push({ kind: "em", children: parseInline(em, marks) });
    else if (marks.has(Number(mark))) children.push({ kind: "mark", index: Number(mark) });
    else text(whole);
  }
  text(source.slice(at));
  return children;
}

/** Cuts a passage into what stands before, in and behind the quote; null if the quote isn't there. */
export function splitQuote(text: string, quote: string): [string, string, string] | null {
  const at = quote ? text.indexOf(quote) : -1;
  return at < 0 ? null : [text.slice(0, at), quote, text.slice(at + quote.length)];
}

/** Server-sent events: whole `data` fields out of text that arrives in pieces; comments are dropped. */
export class EventSplitter {
  #rest = "";

  push(piece: string): string[] {
    const parts = (this.#rest + piece).split("\n\n");
    this.#rest = parts.pop() ?? "";
    const data = parts.map((part) =>
      part
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n"),
    );
    return data.filter((text) => text !== "");
  }
}

/** What the URL holds. */
export interface View {
  assistant: string | null;
  passage: string | null;
  quote: string | null;
}

export function readView(search: string): View {
  const params = new URLSearchParams(search);
  return { assistant: params.get("assistant"), passage: params.get("passage"), quote: params.get("quote") };
}

export function writeView(view: View): string {
  const params = new URLSearchParams();
  for (const key of ["assistant", "passage", "quote"] as const) {
    const value = view[key];
    if (value) params.set(key, value);
  }
  const search = params.toString();
  return search ? `?${search}` : "/";
}
