/*
 * Builds the console: packages by `npm ci`, one script and one style sheet by esbuild, and all files gzip'd into
 * a C source that the server is linked with. Nothing is written beside the sources.
 *
 *     node build.mjs OUTPUT.c WORKDIR      WORKDIR takes packages and built files; it may be there already
 *
 * The packages are fetched again only when package-lock.json has changed.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const types = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
};

function installPackages(work) {
  const stamp = join(work, "installed");
  const lock = readFileSync(join(here, "package-lock.json"), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  for (const file of ["package.json", "package-lock.json"])
    copyFileSync(join(here, file), join(work, file));
  const npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  try {
    execFileSync("npm", npm, { cwd: work, stdio: ["ignore", "ignore", "inherit"] });
  } catch (error) {
    throw new Error(
      `the console's packages could not be installed (npm ci: ${error.message}); -Dconsole=disabled builds without it`,
    );
  }
  writeFileSync(stamp, lock);
}

async function bundle(work) {
  const { build } = createRequire(join(work, "package.json"))("esbuild");
  const result = await build({
    entryPoints: {
      console: join(here, "src/main.jsx"),
      style: join(here, "src/style.css"),
      pages: join(here, "src/pages.css"),
      phones: join(here, "src/phones.css"),
      theme_first: join(here, "src/theme_first.js"),
    },
    nodePaths: [join(work, "node_modules")],
    outdir: join(work, "assets"),
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome123", "firefox128", "safari17.5"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    write: false,
    logLevel: "warning",
  });
  return new Map(
    result.outputFiles.map((file) => [
      `/assets/${file.path.split(/[\\/]/).pop()}`,
      Buffer.from(file.contents),
    ]),
  );
}

/* One style sheet. uPlot's comes with the script that imports it; ours follow, so that they have the last word. */
function joinStyles(files) {
  const paths = ["console", "style", "pages", "phones"].map((name) => `/assets/${name}.css`);
  const parts = paths.map((path) => files.get(path));
  paths.forEach((path) => files.delete(path));
  files.set(paths[0], Buffer.concat(parts));
}

/* The terms under which others' code is part of the script. */
function licences(work) {
  const { dependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  const parts = Object.entries(dependencies).map(
    ([name, version]) =>
      `${name} ${version}\n\n${readFileSync(join(work, "node_modules", name, "LICENSE"), "utf8")}`,
  );
  return Buffer.from(parts.join("\n----\n\n"));
}

function arrayOf(bytes) {
  const lines = [];
  for (let i = 0; i < bytes.length; i += 24)
    lines.push(`    ${[...bytes.subarray(i, i + 24)].join(",")},`);
  return lines.join("\n");
}

function sourceOf(files) {
  const parts = [
    '/* Made by console/build.mjs; not to be edited. */\n#include "console_files.h"\n',
  ];
  const rows = [];
  let number = 0;
  for (const [path, bytes] of files) {
    const packed = gzipSync(bytes, { level: 9 });
    const tag = createHash("sha256").update(packed).digest("hex").slice(0, 16);
    parts.push(`static const unsigned char file_${number}[] = {\n${arrayOf(packed)}\n};\n`);
    rows.push(
      `    {"${path}", "${types[path.split(".").pop()] || types.html}", "\\"${tag}\\"", file_${number}, sizeof file_${number}},`,
    );
    number++;
  }
  parts.push(`const srv_console_file srv_console_files[] = {\n${rows.join("\n")}\n};`);
  parts.push(`const size_t srv_console_file_count = ${number};\n`);
  return parts.join("\n");
}

const [output, workArgument] = process.argv.slice(2);
if (!workArgument) {
  console.error("usage: node build.mjs OUTPUT.c WORKDIR");
  process.exit(2);
}
const work = resolve(workArgument);
mkdirSync(join(work, "assets"), { recursive: true });
try {
  installPackages(work);
  const files = await bundle(work);
  joinStyles(files);
  files.set("/assets/icon.svg", readFileSync(join(here, "src/icon.svg")));
  files.set("/assets/licences.txt", licences(work));
  files.set("/", readFileSync(join(here, "index.html")));
  for (const [path, bytes] of files)
    writeFileSync(join(work, path === "/" ? "index.html" : path), bytes);
  writeFileSync(output, sourceOf(files));
} catch (error) {
  console.error(`console: ${error.message}`);
  process.exit(1);
}
