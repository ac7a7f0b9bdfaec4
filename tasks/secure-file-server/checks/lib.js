// Shared by the checks: a folder tree with things to find and things to keep out, a server on it, and comparisons.
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");

const FILES = {
  "public/index.html": "the index",
  "public/plain.txt": "plain",
  "public/with space.txt": "space",
  "public/grün.txt": "green",
  "public/100%25.txt": "escaped per cent",
  "public/100%.txt": "per cent",
  "public/%2e%2e/inside.txt": "odd folder",
  "public/v1..v2.txt": "dots",
  "public/..notes.txt": "leading dots",
  "public/.../deep.txt": "three dots",
  "public/sub/index.html": "sub index",
  "public/sub/page.txt": "page",
  "public-old/secret.txt": "SECRET",
  "secret.txt": "SECRET",
  "folder/secret.txt": "SECRET",
  "folder/index.html": "SECRET",
};
const LINKS = {
  "public/inner-link.txt": "sub/page.txt",
  "public/inner-folder": "sub",
  "public/absolute-inner.txt": "@/public/plain.txt",
  "public/outer-link.txt": "../secret.txt",
  "public/outer-folder": "../folder",
  "public/old": "../public-old",
  "public/absolute-outer.txt": "@/secret.txt",
  "public/broken.txt": "nowhere",
  "linked-root": "public",
};

function makeTree() {
  const base = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), "served-"));
  for (const [name, content] of Object.entries(FILES)) {
    fs.mkdirSync(path.dirname(path.join(base, name)), { recursive: true });
    fs.writeFileSync(path.join(base, name), content);
  }
  for (const [name, target] of Object.entries(LINKS)) {
    fs.symlinkSync(target.replace("@", base), path.join(base, name));
  }
  return base;
}

/** The status and body of a request whose path goes over the wire exactly as it is given. */
function get(socket, url) {
  return new Promise((resolve) => {
    let text = "";
    const connection = net.connect(socket, () => connection.write(`GET ${url} HTTP/1.0\r\n\r\n`));
    connection.setEncoding("utf8").setTimeout(5000, () => connection.destroy());
    connection.on("data", (chunk) => (text += chunk));
    connection.on("error", () => {});
    connection.on("close", () => {
      const [head, ...body] = text.split("\r\n\r\n");
      resolve({ status: Number(head.split(" ")[1] ?? 0), body: body.join("\r\n\r\n") });
    });
  });
}

/** Calls `ask(...gets)` while each of `roots`, given relative to the tree's base, is served. */
async function withServers(base, roots, ask) {
  // Short names, to be found from the base: the path to it may be longer than a socket's may be.
  const sockets = roots.map((_, index) => `socket-${index}`);
  const repo = process.cwd();
  process.chdir(base);
  const server = spawn(
    process.execPath,
    [path.join(__dirname, "serve.mjs"), ...roots.flatMap((root, index) => [root, sockets[index]])],
    { env: { ...process.env, REPO: repo }, stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = new Promise((resolve) => server.on("exit", resolve));
  await Promise.race([new Promise((resolve) => server.stdout.once("data", resolve)), ended]);
  try {
    await ask(...sockets.map((socket) => (url) => get(socket, url)));
  } finally {
    server.stdin.end();
    await ended;
    process.chdir(repo);
  }
}

async function check(body) {
  const base = makeTree();
  const faults = [];
  try {
    await body(base, (fault) => faults.push(fault));
  } finally {
    fs.rmSync(base, { recursive: true });
  }
  if (faults.length > 0) {
    console.log(faults.join("\n"));
    process.exitCode = 1;
  }
}

module.exports = { check, withServers };
