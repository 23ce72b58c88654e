// The side panel: a passage of a document, the quoted words marked.

import { ApiError, fetchPassage, type Passage } from "./api";
import { splitQuote } from "./prepare";
import { button, element } from "./render";
import { strings } from "./strings";

export interface PanelEvents {
  /** Another passage was asked for. */
  open(id: string): void;
  close(): void;
}

export class Panel {
  #node: HTMLElement;
  #events: PanelEvents;
  /** What is shown or loading; answers that come too late are dropped. */
  #current: string | null = null;

  constructor(node: HTMLElement, events: PanelEvents) {
    this.#node = node;
    this.#events = events;
    node.setAttribute("aria-label", strings.passage);
  }

  hide(): void {
    this.#current = null;
    this.#node.hidden = true;
    this.#node.replaceChildren();
  }

  async show(id: string, quote: string | null): Promise<void> {
    this.#current = id;
    this.#node.hidden = false;
    this.#fill(element("p", { class: "muted" }, strings.loadingPassage));
    this.#node.focus();
    try {
      const passage = await fetchPassage(id);
      if (this.#current === id) this.#fill(...this.#content(passage, quote));
    } catch (error) {
      if (this.#current !== id) return;
      const message = error instanceof ApiError ? error.message : strings.unreachable;
      this.#fill(
        element("p", { class: "error", role: "alert" }, message),
        button(strings.retry, "quiet", () => void this.show(id, quote)),
      );
    }
  }

  #fill(...children: Node[]): void {
    const close = button("×", "close", () => this.#events.close());
    close.setAttribute("aria-label", strings.close);
    const head = element("div", { class: "panel-head" }, element("h2", {}, strings.passage), close);
    this.#node.replaceChildren(head, ...children);
  }

  #content(passage: Passage, quote: string | null): Node[] {
    const place: string[] = [passage.document];
    if (passage.page !== null) place.push(strings.page(passage.page));
    const parts: Node[] = [
      element("p", { class: "panel-title" }, passage.title || passage.document),
      element("p", { class: "muted place" }, place.join(" · ")),
    ];
    if (passage.heading) parts.push(element("p", { class: "panel-heading" }, passage.heading));
    const text = element("div", { class: "passage" });
    const split = quote ? splitQuote(passage.text, quote) : null;
    if (split) text.append(split[0], element("mark", { id: "quote" }, split[1]), split[2]);
    else text.append(passage.text);
    if (quote && !split) parts.push(element("p", { class: "notice" }, strings.quoteMissing));
    parts.push(text);
    const nav = element("div", { class: "panel-nav" });
    for (const [id, label] of [[passage.previous, strings.previous], [passage.next, strings.next]] as const) {
      if (id) nav.append(button(label, "quiet", () => this.#events.open(id)));
    }
    parts.push(nav);
    requestAnimationFrame(() => text.querySelector("mark")?.scrollIntoView({ block: "center" }));
    return parts;
  }
}
