// Trees to elements. Text from models and documents only ever becomes text nodes.

import { type Block, type Citation, type Inline, parseMarkdown, withMarks } from "./prepare";
import { strings } from "./strings";

type Child = Node | string;

/** An element with attributes and children; `on…` attributes don't exist here, listeners are added by hand. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function button(label: string, className: string, action: () => void): HTMLButtonElement {
  const node = element("button", { type: "button", class: className }, label);
  node.addEventListener("click", action);
  return node;
}

export type OpenCitation = (citation: Citation, from: HTMLElement) => void;

/** An answer, with a button where a citation is marked. */
export function renderAnswer(text: string, citations: Citation[], open: OpenCitation): DocumentFragment {
  const byIndex = new Map(citations.map((citation) => [citation.index, citation]));
  const blocks = parseMarkdown(withMarks(text, citations), new Set(byIndex.keys()));
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks.map((block) => renderBlock(block, byIndex, open)));
  return fragment;
}

function renderBlock(block: Block, citations: Map<number, Citation>, open: OpenCitation): HTMLElement {
  const inline = (children: Inline[]) => children.map((child) => renderInline(child, citations, open));
  switch (block.kind) {
    case "paragraph":
      return element("p", {}, ...inline(block.children));
    case "heading":
      // The page's own headings come first; an answer's start below them.
      return element(block.level <= 2 ? "h3" : "h4", {}, ...inline(block.children));
    case "code":
      return element("pre", { tabindex: "0" }, element("code", {}, block.text));
    case "list": {
      const items = block.items.map((item) => element("li", {}, ...inline(item)));
      return block.ordered
        ? element("ol", { start: String(block.start) }, ...items)
        : element("ul", {}, ...items);
    }
  }
}

function renderInline(inline: Inline, citations: Map<number, Citation>, open: OpenCitation): Child {
  const nested = (children: Inline[]) => children.map((child) => renderInline(child, citations, open));
  switch (inline.kind) {
    case "text":
      return inline.text;
    case "code":
      return element("code", {}, inline.text);
    case "strong":
      return element("strong", {}, ...nested(inline.children));
    case "em":
      return element("em", {}, ...nested(inline.children));
    case "mark": {
      const citation = citations.get(inline.index);
      return citation ? citationButton(citation, String(inline.index), "mark", open) : `[${inline.index}]`;
    }
  }
}

function citationButton(citation: Citation, label: string, className: string, open: OpenCitation): HTMLElement {
  const node = element("button", {
    type: "button",
    class: className,
    "data-chunk": citation.chunk,
    "aria-label": strings.citation(citation.index, citation.title || citation.document),
  }, label);
  node.addEventListener("click", () => open(citation, node));
  return node;
}

/** The list of sources under an answer. */
export function renderChips(citations: Citation[], open: OpenCitation): HTMLElement {
  const chips = citations.map((citation) => {
    const place = [citation.title || citation.document];
    if (citation.page !== null) place.push(strings.page(citation.page));
    else if (citation.heading) place.push(citation.heading);
    const chip = citationButton(citation, "", "chip", open);
    chip.append(
      element("span", { class: "number" }, String(citation.index)),
      element("span", { class: "place" }, place.join(" · ")),
    );
    return element("li", {}, chip);
  });
  return element("ul", { class: "chips", "aria-label": strings.sources }, ...chips);
}
