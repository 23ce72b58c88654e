// Bundles the page into the folder the server embeds. With --check it only compares, so that what is committed is
// what the source says.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";

const root = new URL(".", import.meta.url);
const assets = new URL("../crates/serve/assets/", root);

const { outputFiles } = await build({
  absWorkingDir: root.pathname,
  entryPoints: { app: "src/main.ts" },
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  outdir: "out",
  write: false,
});
const outputs = new Map(outputFiles.map((file) => [file.path.split("/").pop(), file.text]));
for (const name of ["index.html", "app.css", "icon.svg"]) {
  outputs.set(name, await readFile(new URL(`static/${name}`, root), "utf8"));
}

let isCurrent = true;
for (const [name, text] of outputs) {
  const target = new URL(name, assets);
  const committed = await readFile(target, "utf8").catch(() => "");
  if (committed === text) continue;
  isCurrent = false;
  if (!process.argv.includes("--check")) await writeFile(target, text);
  console.log(`${name} ${process.argv.includes("--check") ? "differs from its source: npm run build" : "written"}`);
}
if (process.argv.includes("--check") && !isCurrent) process.exit(1);
