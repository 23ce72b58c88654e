// The page in a real browser, against the real server with a tiny model.
//
// CHROMIUM names the browser (default /usr/bin/chromium), TINY_SERVER an already built example, SCREENSHOTS a folder
// to leave pictures in.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile, rm, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const root = new URL("../..", import.meta.url).pathname;
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
let server;
let lines;
let browser;
let url;

before(async () => {
  assert.ok(existsSync(executablePath), `no browser at ${executablePath}: apt-get install chromium, or set CHROMIUM`);
  const [program, ...args] = process.env.TINY_SERVER
    ? [process.env.TINY_SERVER]
    : ["cargo", "run", "--quiet", "--package", "hearth-serve", "--example", "tiny_server"];
  server = spawn(program, args, { cwd: root, stdio: ["pipe", "pipe", "inherit"] });
  url = await new Promise((resolve, reject) => {
    lines = createInterface({ input: server.stdout });
    lines.once("line", resolve);
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  server?.stdin.end();
});

const tell = (line) => server.stdin.write(`${line}\n`);

/** A page that fails the test when the browser reports an error or a broken policy. */
async function open(t, path = "/", options = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1200, height: 800 }, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  t.after(() => context.close());
  await page.goto(url + path);
  return { page, problems };
}

async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

async function ask(page, question) {
  await page.getByLabel("Question").fill(question);
  await page.keyboard.press("Enter");
}

test("a grounded answer streams, cites, and opens its passage", async (t) => {
  const { page, problems } = await open(t);
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  await picture(page, "empty");
  await ask(page, "How many months does the warranty last?");
  const chip = page.getByRole("button", { name: "Citation 1: Warranty and prices" });
  await chip.last().waitFor();
  assert.equal(await page.locator(".answer .mark").count(), 2, "marks stand in the answer too");
  assert.match(await page.locator(".chip").first().innerText(), /Warranty and prices · page 3/);
  await chip.last().click();
  const panel = page.getByLabel("Cited passage");
  assert.equal(await panel.locator("mark").innerText(), "The warranty lasts 42 months from the day of delivery.");
  await picture(page, "panel");
  assert.match(page.url(), /passage=2/);

  await page.reload();
  assert.match(await panel.locator("mark").innerText(), /42 months/, "the URL holds the open passage");
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "hidden" });
  assert.doesNotMatch(page.url(), /passage/);
  await page.goBack();
  await panel.waitFor();
  assert.deepEqual(problems, []);
});

test("stop ends an answer, and the next question works", async (t) => {
  const { page, problems } = await open(t, "/?assistant=tiny");
  await page.getByRole("heading", { name: "What would you like to know?" }).waitFor();
  assert.equal(await page.getByLabel("Assistant", { exact: true }).inputValue(), "tiny");
  for (const question of ["go on forever", "and again"]) {
    await ask(page, question);
    await page.locator(".answer").last().filter({ hasText: /\S{20}/ }).waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("Stopped.").last().waitFor();
    await page.getByRole("button", { name: "Send" }).waitFor();
  }
  assert.equal(await page.locator(".turn").count(), 4);
  await ask(page, "this one is given up");
  await page.locator(".answer").last().filter({ hasText: /\S{20}/ }).waitFor();
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What would you like to know?" }).waitFor();
  assert.equal(await page.locator(".turn").count(), 0);
  assert.ok(await page.getByRole("button", { name: "Send" }).isVisible());
  assert.deepEqual(problems, []);
});

test("Shift+Enter starts a line, an open word choice sends nothing", async (t) => {
  const { page } = await open(t);
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  const question = page.getByLabel("Question");
  await question.fill("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  assert.equal(await question.inputValue(), "one\ntwo");
  await question.dispatchEvent("keydown", { key: "Enter", isComposing: true });
  assert.equal(await page.locator(".turn").count(), 0);
});

test("an error says what to do, and trying again works", async (t) => {
  const { page } = await open(t, "/?assistant=tiny-handbook");
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  await ask(page, "x".repeat(70_000));
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /65536[\s\S]*Start a new chat/);
  await picture(page, "error");
  await page.route("**/v1/chat/completions", (route) => route.abort());
  await ask(page, "hello");
  await page.getByRole("alert").filter({ hasText: "hearth serve" }).waitFor();
  await page.unroute("**/v1/chat/completions");
  await page.getByRole("button", { name: "Try again" }).last().click();
  await page.locator(".chip").first().waitFor();
  assert.equal(await page.getByRole("alert").count(), 1, "the question that was too long isn't sent again");
});

test("what a model writes is only ever text", async (t) => {
  const { page, problems } = await open(t);
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  const hostile = '<img src=x onerror="document.title=1"> <script>document.title=2</script> [a](javascript:1) **b**';
  const chunk = (delta, finish = null) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
  await page.route("**/v1/chat/completions", (route) =>
    route.fulfill({
      contentType: "text/event-stream",
      body: `${chunk({ content: hostile })}${chunk({ citations: [] }, "stop")}data: [DONE]\n\n`,
    }),
  );
  await ask(page, "<b>hello</b>");
  await page.getByText("No passage of the documents backs this answer").waitFor();
  assert.match(await page.locator(".answer").innerText(), /<img src=x onerror.*<script>.*\[a\]\(javascript:1\) b/);
  assert.equal(await page.locator(".answer img, .answer script, .answer a").count(), 0);
  assert.equal(await page.locator(".you p").innerText(), "<b>hello</b>");
  assert.equal(await page.title(), "hearth");
  assert.deepEqual(problems, []);
});

test("the status line follows the comparison, and the report appears", async (t) => {
  tell("behind 2 5 RAG");
  const { page, problems } = await open(t);
  await page.getByText("Comparison running: 2 of 5 · RAG").waitFor();
  assert.equal(await page.getByRole("link", { name: "Comparison report" }).count(), 0);
  const folder = await mkdtemp(join(tmpdir(), "hearth-page-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "report.html"), "<!doctype html><title>five ways</title>");
  tell(`report ${join(folder, "report.html")}`);
  tell("behind 3 5 fine-tuned");
  await page.getByText("3 of 5").waitFor();
  await page.getByRole("link", { name: "Comparison report" }).waitFor();
  await picture(page, "status");
  tell("idle");
  await page.getByText("Comparison running").waitFor({ state: "hidden" });
  assert.deepEqual(problems, []);
});

test("Chinese, dark and narrow", async (t) => {
  const options = { locale: "zh-CN", colorScheme: "dark" };
  const { page, problems } = await open(t, "/", options);
  await page.getByRole("heading", { name: "向您的文档提问" }).waitFor();
  assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
  await page.getByLabel("问题").fill("kiln temperature for stoneware");
  await page.keyboard.press("Enter");
  await page.locator(".chip").first().waitFor();
  await picture(page, "dark");
  await page.locator(".chip").first().click();
  await page.locator(".passage mark").waitFor();
  await picture(page, "dark-panel");
  await page.setViewportSize({ width: 390, height: 760 });
  await picture(page, "narrow-panel");
  await page.getByRole("button", { name: "关闭" }).click();
  await picture(page, "narrow");
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, "nothing is wider than the screen");
  assert.deepEqual(problems, []);
});

test("a server with keys asks for one, once, and takes no wrong one", async (t) => {
  const said = new Promise((resolve) => lines.once("line", resolve));
  tell("lock");
  const key = await said;
  t.after(() => tell("unlock"));
  const context = await browser.newContext({ locale: "en-GB" });
  t.after(() => context.close());
  const page = await context.newPage();
  const answers = ["sk-hearth-wrong", key];
  const asked = [];
  page.on("dialog", async (dialog) => {
    asked.push(dialog.message());
    const answer = answers.shift();
    await (answer ? dialog.accept(answer) : dialog.dismiss());
  });
  await page.goto(url);
  // The wrong key is kept until the server refuses it; the right one is asked for then.
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  await ask(page, "How many months does the warranty last?");
  await page.getByRole("button", { name: "Citation 1: Warranty and prices" }).last().waitFor();
  assert.equal(asked.length, 2, asked.join(" | "));
  assert.match(asked[0], /key/);
  assert.equal(await page.evaluate(() => localStorage.getItem("hearth-key")), key);
  await page.reload();
  await page.getByRole("heading", { name: "Ask your documents" }).waitFor();
  await ask(page, "How many months does the warranty last?");
  await page.getByRole("button", { name: "Citation 1: Warranty and prices" }).last().waitFor();
  assert.equal(asked.length, 2, "the browser keeps the key");
});
