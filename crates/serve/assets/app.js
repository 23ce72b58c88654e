// src/prepare.ts
function withMarks(answer, citations) {
  const characters = Array.from(answer);
  const places = citations.filter((citation) => !answer.includes(`[${citation.index}]`)).flatMap((citation) => citation.marks.map((at) => ({ at, index: citation.index }))).filter(({ at }) => at >= 0 && at <= characters.length).sort((a, b) => b.at - a.at || b.index - a.index);
  for (const { at, index } of places) characters.splice(at, 0, `[${index}]`);
  return characters.join("");
}
function parseMarkdown(source, marks) {
  const blocks = [];
  const lines = source.split("\n");
  let paragraph = [];
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
      const body = [];
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
function parseItem(line) {
  const bullet = /^\s*[-*+]\s+(.*)$/.exec(line);
  if (bullet) return { ordered: false, start: 1, text: bullet[1] ?? "" };
  const number = /^\s*(\d{1,4})[.)]\s+(.*)$/.exec(line);
  return number ? { ordered: true, start: Number(number[1]), text: number[2] ?? "" } : null;
}
var INLINE = /`([^`\n]+)`|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*\n]*[^\s*])\*|\[(\d{1,3})\]/g;
function parseInline(source, marks) {
  const children = [];
  const text = (part) => {
    const last = children.at(-1);
    if (last?.kind === "text") last.text += part;
    else if (part) children.push({ kind: "text", text: part });
  };
  let at = 0;
  for (const match of source.matchAll(INLINE)) {
    text(source.slice(at, match.index));
    at = match.index + match[0].length;
    const [whole, code, strong, em, mark] = match;
    if (code !== void 0) children.push({ kind: "code", text: code });
    else if (strong !== void 0) children.push({ kind: "strong", children: parseInline(strong, marks) });
    else if (em !== void 0) children.push({ kind: "em", children: parseInline(em, marks) });
    else if (marks.has(Number(mark))) children.push({ kind: "mark", index: Number(mark) });
    else text(whole);
  }
  text(source.slice(at));
  return children;
}
function splitQuote(text, quote) {
  const at = quote ? text.indexOf(quote) : -1;
  return at < 0 ? null : [text.slice(0, at), quote, text.slice(at + quote.length)];
}
var EventSplitter = class {
  #rest = "";
  push(piece) {
    const parts2 = (this.#rest + piece).split("\n\n");
    this.#rest = parts2.pop() ?? "";
    const data = parts2.map(
      (part) => part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n")
    );
    return data.filter((text) => text !== "");
  }
};
function readView(search) {
  const params = new URLSearchParams(search);
  return { assistant: params.get("assistant"), passage: params.get("passage"), quote: params.get("quote") };
}
function writeView(view2) {
  const params = new URLSearchParams();
  for (const key of ["assistant", "passage", "quote"]) {
    const value = view2[key];
    if (value) params.set(key, value);
  }
  const search = params.toString();
  return search ? `?${search}` : "/";
}

// src/api.ts
var ApiError = class extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
  code;
};
var Unreachable = class extends Error {
};
var Broken = class extends Error {
};
var KEY = "hearth-key";
async function send(path, init) {
  const headers = new Headers(init?.headers);
  const key = localStorage.getItem(KEY);
  if (key) headers.set("authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { ...init, headers });
  } catch (error) {
    if (init?.signal?.aborted) throw error;
    throw new Unreachable();
  }
}
var asking = null;
async function askForKey() {
  const key = window.prompt("This server asks for a key (sk-hearth-…) / 此服务器需要密钥");
  if (!key?.trim()) return false;
  localStorage.setItem(KEY, key.trim());
  return true;
}
async function request(path, init) {
  let response = await send(path, init);
  if (response.status === 401) {
    asking ??= askForKey().finally(() => asking = null);
    if (await asking) response = await send(path, init);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ApiError(body?.error?.message ?? `${response.status} ${response.statusText}`, body?.error?.code ?? null);
}
async function fetchAssistants() {
  const { data } = await (await request("/v1/models")).json();
  return data.filter((model) => model.grounded !== void 0);
}
async function fetchStatus() {
  return (await request("/api/status")).json();
}
async function fetchPassage(id) {
  return (await request(`/api/passages/${encodeURIComponent(id)}`)).json();
}
async function* ask(model, messages, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
    signal
  });
  if (!response.body) throw new Broken();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const splitter = new EventSplitter();
  for (; ; ) {
    const { done, value } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      throw new Broken();
    });
    if (done) throw new Broken();
    for (const data of splitter.push(decoder.decode(value, { stream: true }))) {
      if (data === "[DONE]") return;
      yield* parts(JSON.parse(data));
    }
  }
}
function* parts(chunk) {
  if (chunk.error) throw new ApiError(chunk.error.message, chunk.error.code);
  const choice = chunk.choices[0];
  if (choice?.delta.content) yield { kind: "text", text: choice.delta.content };
  if (choice?.finish_reason) {
    yield { kind: "finish", reason: choice.finish_reason, citations: choice.delta.citations ?? null };
  }
  if (chunk.usage) yield { kind: "usage", completionTokens: chunk.usage.completion_tokens };
}

// src/strings.ts
var english = {
  lang: "en",
  assistant: "Assistant",
  newChat: "New chat",
  report: "Comparison report",
  send: "Send",
  stop: "Stop",
  question: "Question",
  placeholder: "Ask something",
  placeholderGrounded: "Ask about your documents",
  keys: "Enter sends, Shift+Enter starts a new line",
  conversation: "Conversation",
  you: "You",
  thinking: "Reading and thinking",
  searching: "Looking into the documents",
  stopped: "Stopped.",
  cut: "The answer reached its length limit and may be unfinished.",
  noCitation: "No passage of the documents backs this answer. Check it before you rely on it.",
  sources: "Sources",
  citation: (index, title) => `Citation ${index}: ${title}`,
  page: (page) => `page ${page}`,
  passage: "Cited passage",
  close: "Close",
  previous: "Previous passage",
  next: "Next passage",
  loadingPassage: "Loading the passage",
  quoteMissing: "The quoted words don't stand in this passage. The documents may have been read anew since.",
  emptyTitle: "What would you like to know?",
  emptyTitleGrounded: "Ask your documents",
  emptyGrounded: (count) => `${count} ${count === 1 ? "document has" : "documents have"} been read. Answers name the passages they lean on; click a number to read the passage.`,
  emptyPlain: "This assistant answers from the model alone, without documents.",
  example: (title) => `What is the most important point of “${title}”?`,
  examplePlain: "Explain in two sentences what a hearth is.",
  usage: (tokens, seconds) => `${tokens} ${tokens === 1 ? "token" : "tokens"} in ${seconds.toFixed(1)} s`,
  behind: (stage, done, total, text) => `${stage === "comparison" ? "Comparison running" : stage}: ${done} of ${total}${text ? ` · ${text}` : ""}. You can ask meanwhile.`,
  retry: "Try again",
  unreachable: "The server can't be reached. Start it again with hearth serve; this page goes on by itself.",
  broken: "The answer broke off before its end. Try again.",
  doContext: "Start a new chat or shorten the question.",
  doModel: "Choose another assistant above.",
  doServer: "Try again; if it stays, look at what the server printed."
};
var chinese = {
  lang: "zh-CN",
  assistant: "助手",
  newChat: "新对话",
  report: "对比报告",
  send: "发送",
  stop: "停止",
  question: "问题",
  placeholder: "请输入问题",
  placeholderGrounded: "就您的文档提问",
  keys: "Enter 发送，Shift+Enter 换行",
  conversation: "对话",
  you: "您",
  thinking: "正在阅读与思考",
  searching: "正在查阅文档",
  stopped: "已停止。",
  cut: "回答达到长度上限，可能不完整。",
  noCitation: "文档中没有段落支持此回答，请核实后再采用。",
  sources: "来源",
  citation: (index, title) => `引用 ${index}：${title}`,
  page: (page) => `第 ${page} 页`,
  passage: "引用的段落",
  close: "关闭",
  previous: "上一段",
  next: "下一段",
  loadingPassage: "正在载入段落",
  quoteMissing: "该段落中找不到所引文字，文档可能已重新读取。",
  emptyTitle: "您想了解什么？",
  emptyTitleGrounded: "向您的文档提问",
  emptyGrounded: (count) => `已读取 ${count} 份文档。回答会注明所依据的段落，点击编号即可查看。`,
  emptyPlain: "此助手仅凭模型回答，不查阅文档。",
  example: (title) => `《${title}》最重要的内容是什么？`,
  examplePlain: "用两句话说明什么是壁炉。",
  usage: (tokens, seconds) => `${tokens} 个词元，${seconds.toFixed(1)} 秒`,
  behind: (stage, done, total, text) => `${stage === "comparison" ? "正在对比" : stage}：${done}/${total}${text ? ` · ${text}` : ""}。期间可以提问。`,
  retry: "重试",
  unreachable: "无法连接服务器。请用 hearth serve 重新启动，本页会自动继续。",
  broken: "回答中途断开，请重试。",
  doContext: "请新建对话或缩短问题。",
  doModel: "请在上方选择其他助手。",
  doServer: "请重试；若仍出错，请查看服务器输出。"
};
var strings = navigator.language.toLowerCase().startsWith("zh") ? chinese : english;

// src/render.ts
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function button(label2, className, action) {
  const node = element("button", { type: "button", class: className }, label2);
  node.addEventListener("click", action);
  return node;
}
function renderAnswer(text, citations, open) {
  const byIndex = new Map(citations.map((citation) => [citation.index, citation]));
  const blocks = parseMarkdown(withMarks(text, citations), new Set(byIndex.keys()));
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks.map((block) => renderBlock(block, byIndex, open)));
  return fragment;
}
function renderBlock(block, citations, open) {
  const inline = (children) => children.map((child) => renderInline(child, citations, open));
  switch (block.kind) {
    case "paragraph":
      return element("p", {}, ...inline(block.children));
    case "heading":
      return element(block.level <= 2 ? "h3" : "h4", {}, ...inline(block.children));
    case "code":
      return element("pre", { tabindex: "0" }, element("code", {}, block.text));
    case "list": {
      const items = block.items.map((item) => element("li", {}, ...inline(item)));
      return block.ordered ? element("ol", { start: String(block.start) }, ...items) : element("ul", {}, ...items);
    }
  }
}
function renderInline(inline, citations, open) {
  const nested = (children) => children.map((child) => renderInline(child, citations, open));
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
function citationButton(citation, label2, className, open) {
  const node = element("button", {
    type: "button",
    class: className,
    "data-chunk": citation.chunk,
    "aria-label": strings.citation(citation.index, citation.title || citation.document)
  }, label2);
  node.addEventListener("click", () => open(citation, node));
  return node;
}
function renderChips(citations, open) {
  const chips = citations.map((citation) => {
    const place = [citation.title || citation.document];
    if (citation.page !== null) place.push(strings.page(citation.page));
    else if (citation.heading) place.push(citation.heading);
    const chip = citationButton(citation, "", "chip", open);
    chip.append(
      element("span", { class: "number" }, String(citation.index)),
      element("span", { class: "place" }, place.join(" · "))
    );
    return element("li", {}, chip);
  });
  return element("ul", { class: "chips", "aria-label": strings.sources }, ...chips);
}

// src/chat.ts
var Chat = class {
  #log;
  #events;
  #messages = [];
  #running = null;
  constructor(log, events) {
    this.#log = log;
    this.#events = events;
    log.setAttribute("aria-label", strings.conversation);
  }
  get isBusy() {
    return this.#running !== null;
  }
  get isEmpty() {
    return this.#messages.length === 0 && !this.isBusy;
  }
  stop() {
    this.#running?.abort();
  }
  clear() {
    this.stop();
    this.#running = null;
    this.#events.busy(false);
    this.#messages = [];
    this.#log.replaceChildren();
  }
  /** What stands there before the first question. */
  showEmpty(assistant, status2) {
    if (!this.isEmpty) return;
    const documents = assistant?.grounded ? status2?.documents ?? [] : [];
    const isGrounded = documents.length > 0;
    const first = documents[0];
    const example = first ? strings.example(first.title || first.document) : strings.examplePlain;
    this.#log.replaceChildren(
      element(
        "section",
        { class: "empty" },
        element("h1", {}, isGrounded ? strings.emptyTitleGrounded : strings.emptyTitle),
        element("p", {}, isGrounded ? strings.emptyGrounded(documents.length) : strings.emptyPlain),
        button(example, "example", () => this.#events.propose(example))
      )
    );
  }
  async send(question2, assistant) {
    if (this.isEmpty) this.#log.replaceChildren();
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    this.#messages.push({ role: "user", content: question2 });
    const asked = element("p", {}, question2);
    this.#log.append(element("article", { class: "turn you", "aria-label": strings.you }, asked));
    await this.#answer(assistant);
  }
  async #answer(assistant) {
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
        else answer.note(strings.usage(part.completionTokens, (performance.now() - started) / 1e3));
      }
    } catch (error) {
      if (running.signal.aborted) answer.note(strings.stopped);
      else answer.fail(error, () => this.#retry(turn, assistant));
    } finally {
      wait.remove();
      turn.removeAttribute("aria-busy");
      answer.draw();
      if (this.#running === running) {
        if (answer.text) this.#messages.push({ role: "assistant", content: answer.text });
        this.#running = null;
        this.#events.busy(false);
        this.#follow(turn);
      }
    }
  }
  #retry(turn, assistant) {
    if (this.isBusy) return;
    turn.remove();
    if (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
    void this.#answer(assistant);
  }
  /** Keeps the end in sight of a reader who is there already. */
  #follow(turn) {
    const gap = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
    if (gap < 160) turn.scrollIntoView({ block: "end" });
  }
};
var Answer = class {
  text = "";
  #citations = [];
  #body;
  #foot;
  #open;
  #drawn;
  #isDrawPlanned = false;
  constructor(body, foot, open, drawn) {
    this.#body = body;
    this.#foot = foot;
    this.#open = open;
    this.#drawn = drawn;
  }
  add(text) {
    this.text += text;
    if (this.#isDrawPlanned) return;
    this.#isDrawPlanned = true;
    requestAnimationFrame(() => {
      this.#isDrawPlanned = false;
      this.draw();
      this.#drawn();
    });
  }
  draw() {
    this.#body.replaceChildren(renderAnswer(this.text, this.#citations, this.#open));
  }
  finish(reason, citations) {
    if (citations) {
      this.#citations = citations;
      const sources = citations.length > 0 ? renderChips(citations, this.#open) : element("p", { class: "notice" }, strings.noCitation);
      this.#foot.append(sources);
    }
    if (reason === "length") this.note(strings.cut);
  }
  note(text) {
    this.#foot.append(element("p", { class: "muted" }, text));
  }
  fail(error, retry) {
    const [message, advice] = explain(error);
    this.#foot.append(
      element(
        "div",
        { class: "error", role: "alert" },
        element("p", {}, message),
        element("p", {}, advice),
        button(strings.retry, "quiet", retry)
      )
    );
  }
};
function explain(error) {
  if (error instanceof Unreachable) return [strings.unreachable, ""];
  if (error instanceof Broken) return [strings.broken, ""];
  if (!(error instanceof ApiError)) return [String(error), strings.doServer];
  const advice = error.code === "context_length_exceeded" ? strings.doContext : error.code === "model_not_found" ? strings.doModel : strings.doServer;
  return [error.message, advice];
}

// src/panel.ts
var Panel = class {
  #node;
  #events;
  /** What is shown or loading; answers that come too late are dropped. */
  #current = null;
  constructor(node, events) {
    this.#node = node;
    this.#events = events;
    node.setAttribute("aria-label", strings.passage);
  }
  hide() {
    this.#current = null;
    this.#node.hidden = true;
    this.#node.replaceChildren();
  }
  async show(id, quote) {
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
        button(strings.retry, "quiet", () => void this.show(id, quote))
      );
    }
  }
  #fill(...children) {
    const close = button("×", "close", () => this.#events.close());
    close.setAttribute("aria-label", strings.close);
    const head = element("div", { class: "panel-head" }, element("h2", {}, strings.passage), close);
    this.#node.replaceChildren(head, ...children);
  }
  #content(passage, quote) {
    const place = [passage.document];
    if (passage.page !== null) place.push(strings.page(passage.page));
    const parts2 = [
      element("p", { class: "panel-title" }, passage.title || passage.document),
      element("p", { class: "muted place" }, place.join(" · "))
    ];
    if (passage.heading) parts2.push(element("p", { class: "panel-heading" }, passage.heading));
    const text = element("div", { class: "passage" });
    const split = quote ? splitQuote(passage.text, quote) : null;
    if (split) text.append(split[0], element("mark", { id: "quote" }, split[1]), split[2]);
    else text.append(passage.text);
    if (quote && !split) parts2.push(element("p", { class: "notice" }, strings.quoteMissing));
    parts2.push(text);
    const nav = element("div", { class: "panel-nav" });
    for (const [id, label2] of [[passage.previous, strings.previous], [passage.next, strings.next]]) {
      if (id) nav.append(button(label2, "quiet", () => this.#events.open(id)));
    }
    parts2.push(nav);
    requestAnimationFrame(() => text.querySelector("mark")?.scrollIntoView({ block: "center" }));
    return parts2;
  }
};

// src/main.ts
var BUSY_MS = 2e3;
var IDLE_MS = 1e4;
function find(id, kind) {
  const node = document.getElementById(id);
  if (!(node instanceof kind)) throw new Error(`the page has no #${id}`);
  return node;
}
var picker = find("assistant", HTMLSelectElement);
var statusLine = find("status", HTMLParagraphElement);
var report = find("report", HTMLAnchorElement);
var newChat = find("new-chat", HTMLButtonElement);
var composer = find("composer", HTMLFormElement);
var question = find("question", HTMLTextAreaElement);
var send2 = find("send", HTMLButtonElement);
var stop = find("stop", HTMLButtonElement);
var view = readView(location.search);
var assistants = [];
var status = null;
var openedFrom = null;
var panel = new Panel(find("panel", HTMLElement), {
  open: (id) => go({ ...view, passage: id, quote: null }),
  close: closePanel
});
var chat = new Chat(find("log", HTMLDivElement), {
  openCitation: (citation, from) => {
    openedFrom = from;
    go({ ...view, passage: citation.chunk, quote: citation.quote });
  },
  busy: (isBusy) => {
    stop.hidden = !isBusy;
    send2.hidden = isBusy;
    if (!isBusy) question.focus({ preventScroll: true });
  },
  propose: (text) => {
    question.value = text;
    question.focus();
    grow();
  }
});
function go(next) {
  history.pushState(null, "", writeView(next));
  applyView();
}
function closePanel() {
  go({ ...view, passage: null, quote: null });
  (openedFrom?.isConnected ? openedFrom : question).focus();
}
function applyView() {
  const before = view;
  view = readView(location.search);
  if (view.assistant !== before.assistant) showAssistants();
  for (const citation of document.querySelectorAll("[data-chunk]")) {
    citation.classList.toggle("open", citation.dataset["chunk"] === view.passage);
  }
  if (view.passage === null) panel.hide();
  else void panel.show(view.passage, view.quote);
}
function chosen() {
  return assistants.find((assistant) => assistant.id === view.assistant) ?? assistants.find((assistant) => assistant.default);
}
function showAssistants() {
  const current = chosen();
  picker.replaceChildren(
    ...assistants.map((assistant) => {
      const option = element("option", { value: assistant.id, title: assistant.description }, assistant.id);
      option.selected = assistant === current;
      return option;
    })
  );
  picker.title = current?.description ?? "";
  question.placeholder = current?.grounded ? strings.placeholderGrounded : strings.placeholder;
  chat.showEmpty(current, status);
}
function showStatus() {
  const behind = status?.behind;
  report.hidden = !status?.report;
  statusLine.hidden = !behind;
  statusLine.classList.remove("error");
  const text = behind ? strings.behind(behind.stage, behind.done, behind.total, behind.text) : "";
  if (statusLine.textContent !== text) statusLine.textContent = text;
}
async function poll() {
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
function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}
function submit() {
  const text = question.value.trim();
  const assistant = chosen();
  if (!text || !assistant || chat.isBusy) return;
  question.value = "";
  grow();
  void chat.send(text, assistant);
}
function label() {
  document.documentElement.lang = strings.lang;
  picker.setAttribute("aria-label", strings.assistant);
  question.setAttribute("aria-label", strings.question);
  newChat.textContent = strings.newChat;
  report.textContent = strings.report;
  send2.textContent = strings.send;
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
