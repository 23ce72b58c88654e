// The conversation: what was said, what is being said, and how it is shown.

import { ApiError, ask, type Assistant, Broken, type Message, type Status, Unreachable } from "./api";
import type { Citation } from "./prepare";
import { button, element, type OpenCitation, renderAnswer, renderChips } from "./render";
import { strings } from "./strings";

export interface ChatEvents {
  openCitation: OpenCitation;
  /** An answer has begun or ended. */
  busy(isBusy: boolean): void;
  /** Puts a question into the composer. */
  propose(question: string): void;
}

export class Chat {
  #log: HTMLElement;
  #events: ChatEvents;
  #messages: Message[] = [];
  #running: AbortController | null = null;

  constructor(log: HTMLElement, events: ChatEvents) {
    this.#log = log;
    this.#events = events;
    log.setAttribute("aria-label", strings.conversation);
  }

  get isBusy(): boolean {
    return this.#running !== null;
  }

  get isEmpty(): boolean {
    return this.#messages.length === 0 && !this.isBusy;
  }

  stop(): void {
    this.#running?.abort();
  }

  clear(): void {
    this.stop();
    this.#running = null;
    this.#events.busy(false);
    this.#messages = [];
    this.#log.replaceChildren();
  }

  /** What stands there before the first question. */
  showEmpty(assistant: Assistant | undefined, status: Status | null): void {
    if (!this.isEmpty) return;
    const documents = assistant?.grounded ? (status?.documents ?? []) : [];
    const isGrounded = documents.length > 0;
    const first = documents[0];
    const example = first ? strings.example(first.title || first.document) : strings.examplePlain;
    this.#log.replaceChildren(
      element(
        "section",
        { class: "empty" },
        element("h1", {}, isGrounded ? strings.emptyTitleGrounded : strings.emptyTitle),
        element("p", {}, isGrounded ? strings.emptyGrounded(documents.length) : strings.emptyPlain),
        button(example, "example", () => this.#events.propose(example)),
      ),
    );
  }

  async send(question: string, assistant: Assistant): Promise<void> {
    if (this.isEmpty) this.#log.replaceChildren();
    // A question that got no answer would only stand in the way of this one.
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    this.#messages.push({ role: "user", content: question });
    const asked = element("p", {}, question);
    this.#log.append(element("article", { class: "turn you", "aria-label": strings.you }, asked));
    await this.#answer(assistant);
  }

  async #answer(assistant: Assistant): Promise<void> {
    const running = new AbortController();
    this.#running = running;
    this.#events.busy(true);
    const body = element("div", { class: "answer" });
    const foot = element("div", { class: "foot" });
    const wait = element("p", { class: "wait" }, assistant.grounded ? strings.searching : strings.thinking);
    const turn = element("article", { class: "turn", "aria-label": assistant.id, "aria-busy": "true" }, wait, body, foot);
    this.#log.append(turn);
    turn.scrollIntoView({ block: "end" });
    const answer = new Answer(body, foot, this.#events.openCitation, () => this.#follow(turn));
    const started = performance.now();
    try {
      for await (const part of ask(assistant.id, this.#messages, running.signal)) {
        wait.remove();
        if (part.kind === "text") answer.add(part.text);
        else if (part.kind === "finish") answer.finish(part.reason, part.citations);
        else answer.note(strings.usage(part.completionTokens, (performance.now() - started) / 1000));
      }
    } catch (error) {
      if (running.signal.aborted) answer.note(strings.stopped);
      else answer.fail(error, () => this.#retry(turn, assistant));
    } finally {
      wait.remove();
      turn.removeAttribute("aria-busy");
      answer.draw();
      // A chat that was cleared meanwhile has no place for this answer.
      if (this.#running === running) {
        if (answer.text) this.#messages.push({ role: "assistant", content: answer.text });
        this.#running = null;
        this.#events.busy(false);
        this.#follow(turn);
      }
    }
  }

  #retry(turn: HTMLElement, assistant: Assistant): void {
    if (this.isBusy) return;
    turn.remove();
    if (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
    void this.#answer(assistant);
  }

  /** Keeps the end in sight of a reader who is there already. */
  #follow(turn: HTMLElement): void {
    const gap = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
    if (gap < 160) turn.scrollIntoView({ block: "end" });
  }
}

/** One answer as it grows. */
class Answer {
  text = "";
  #citations: Citation[] = [];
  #body: HTMLElement;
  #foot: HTMLElement;
  #open: OpenCitation;
  #drawn: () => void;
  #isDrawPlanned = false;

  constructor(body: HTMLElement, foot: HTMLElement, open: OpenCitation, drawn: () => void) {
    this.#body = body;
    this.#foot = foot;
    this.#open = open;
    this.#drawn = drawn;
  }

  add(text: string): void {
    this.text += text;
    if (this.#isDrawPlanned) return;
    // Tokens may come faster than frames.
    this.#isDrawPlanned = true;
    requestAnimationFrame(() => {
      this.#isDrawPlanned = false;
      this.draw();
      this.#drawn();
    });
  }

  draw(): void {
    this.#body.replaceChildren(renderAnswer(this.text, this.#citations, this.#open));
  }

  finish(reason: string, citations: Citation[] | null): void {
    if (citations) {
      this.#citations = citations;
      const sources = citations.length > 0
        ? renderChips(citations, this.#open)
        : element("p", { class: "notice" }, strings.noCitation);
      this.#foot.append(sources);
    }
    if (reason === "length") this.note(strings.cut);
  }

  note(text: string): void {
    this.#foot.append(element("p", { class: "muted" }, text));
  }

  fail(error: unknown, retry: () => void): void {
    const [message, advice] = explain(error);
    this.#foot.append(
      element("div", { class: "error", role: "alert" },
        element("p", {}, message),
        element("p", {}, advice),
        button(strings.retry, "quiet", retry)),
    );
  }
}

/** What happened, and what to do about it. */
function explain(error: unknown): [string, string] {
  if (error instanceof Unreachable) return [strings.unreachable, ""];
  if (error instanceof Broken) return [strings.broken, ""];
  if (!(error instanceof ApiError)) return [String(error), strings.doServer];
  const advice =
    error.code === "context_length_exceeded"
      ? strings.doContext
      : error.code === "model_not_found"
        ? strings.doModel
        : strings.doServer;
  return [error.message, advice];
}
