// Wires the page: the URL's view, the picker, the status line, the composer, the panel.

import { type Assistant, fetchAssistants, fetchStatus, type Status } from "./api";
import { Chat } from "./chat";
import { Panel } from "./panel";
import { readView, type View, writeView } from "./prepare";
import { element } from "./render";
import { strings } from "./strings";

/** How often the status is asked for, while something goes on behind the server and otherwise. */
const BUSY_MS = 2_000;
const IDLE_MS = 10_000;

function find<T extends HTMLElement>(id: string, kind: new () => T): T {
  const node = document.getElementById(id);
  if (!(node instanceof kind)) throw new Error(`the page has no #${id}`);
  return node;
}

const picker = find("assistant", HTMLSelectElement);
const statusLine = find("status", HTMLParagraphElement);
const report = find("report", HTMLAnchorElement);
const newChat = find("new-chat", HTMLButtonElement);
const composer = find("composer", HTMLFormElement);
const question = find("question", HTMLTextAreaElement);
const send = find("send", HTMLButtonElement);
const stop = find("stop", HTMLButtonElement);

let view: View = readView(location.search);
let assistants: Assistant[] = [];
let status: Status | null = null;
/** What had the focus when the panel was opened. */
let openedFrom: HTMLElement | null = null;

const panel = new Panel(find("panel", HTMLElement), {
  open: (id) => go({ ...view, passage: id, quote: null }),
  close: closePanel,
});

const chat = new Chat(find("log", HTMLDivElement), {
  openCitation: (citation, from) => {
    openedFrom = from;
    go({ ...view, passage: citation.chunk, quote: citation.quote });
  },
  busy: (isBusy) => {
    stop.hidden = !isBusy;
    send.hidden = isBusy;
    if (!isBusy) question.focus({ preventScroll: true });
  },
  propose: (text) => {
    question.value = text;
    question.focus();
    grow();
  },
});

/** Goes to another view, so that the browser's back button leads here again. */
function go(next: View): void {
  history.pushState(null, "", writeView(next));
  applyView();
}

function closePanel(): void {
  go({ ...view, passage: null, quote: null });
  (openedFrom?.isConnected ? openedFrom : question).focus();
}

function applyView(): void {
  const before = view;
  view = readView(location.search);
  if (view.assistant !== before.assistant) showAssistants();
  for (const citation of document.querySelectorAll<HTMLElement>("[data-chunk]")) {
    citation.classList.toggle("open", citation.dataset["chunk"] === view.passage);
  }
  if (view.passage === null) panel.hide();
  else void panel.show(view.passage, view.quote);
}

/** The assistant of the URL, or the server's choice of the moment. */
function chosen(): Assistant | undefined {
  return (
    assistants.find((assistant) => assistant.id === view.assistant) ??
    assistants.find((assistant) => assistant.default)
  );
}

function showAssistants(): void {
  const current = chosen();
  picker.replaceChildren(
    ...assistants.map((assistant) => {
      const option = element("option", { value: assistant.id, title: assistant.description }, assistant.id);
      option.selected = assistant === current;
      return option;
    }),
  );
  picker.title = current?.description ?? "";
  question.placeholder = current?.grounded ? strings.placeholderGrounded : strings.placeholder;
  chat.showEmpty(current, status);
}

function showStatus(): void {
  const behind = status?.behind;
  report.hidden = !status?.report;
  statusLine.hidden = !behind;
  statusLine.classList.remove("error");
  const text = behind ? strings.behind(behind.stage, behind.done, behind.total, behind.text) : "";
  if (statusLine.textContent !== text) statusLine.textContent = text;
}

async function poll(): Promise<void> {
  try {
    const next = await fetchStatus();
    const isSame = JSON.stringify(next) === JSON.stringify(status);
    status = next;
    if (!isSame) {
      assistants = await fetchAssistants();
      showAssistants();
    }
    showStatus();
  } catch {
    status = null;
    statusLine.hidden = false;
    statusLine.classList.add("error");
    statusLine.textContent = strings.unreachable;
  }
  setTimeout(poll, status && !status.behind ? IDLE_MS : BUSY_MS);
}

/** The composer is as high as its text, up to what the style allows. */
function grow(): void {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

function submit(): void {
  const text = question.value.trim();
  const assistant = chosen();
  if (!text || !assistant || chat.isBusy) return;
  question.value = "";
  grow();
  void chat.send(text, assistant);
}

function label(): void {
  document.documentElement.lang = strings.lang;
  picker.setAttribute("aria-label", strings.assistant);
  question.setAttribute("aria-label", strings.question);
  newChat.textContent = strings.newChat;
  report.textContent = strings.report;
  send.textContent = strings.send;
  stop.textContent = strings.stop;
  find("keys", HTMLParagraphElement).textContent = strings.keys;
}

label();
picker.addEventListener("change", () => go({ ...view, assistant: picker.value }));
newChat.addEventListener("click", () => {
  chat.clear();
  go({ ...view, passage: null, quote: null });
  chat.showEmpty(chosen(), status);
  question.focus();
});
composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  // Enter also ends the choice of a Chinese word: that one isn't for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
stop.addEventListener("click", () => chat.stop());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.passage !== null && !event.isComposing) closePanel();
});
window.addEventListener("popstate", applyView);
question.focus();
applyView();
void poll();
