import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createHandler } from "../src/handler.js";

let folder;
let server;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "file-server-"));
  server = createServer(createHandler(fileURLToPath(new URL("../public", import.meta.url))));
  await new Promise((resolve) => server.listen(path.join(folder, "socket"), resolve));
});

after(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

function get(url, method = "GET") {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: server.address(), path: url, method, agent: false }, (response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => resolve({ status: response.statusCode, type: response.headers["content-type"], body }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

test("files are served with their type", async () => {
  const { status, type, body } = await get("/guides/getting%20started.txt?from=mail");
  assert.equal(status, 200);
  assert.equal(type, "text/plain; charset=utf-8");
  assert.match(body, /^Welcome/);
});

test("a folder means its index", async () => {
  const { status, body } = await get("/");
  assert.equal(status, 200);
  assert.match(body, /<h1>/);
});

test("what is missing is a 404", async () => {
  assert.equal((await get("/nothing.txt")).status, 404);
  assert.equal((await get("/guides")).status, 404);
});

test("only reading is allowed", async () => {
  assert.equal((await get("/", "POST")).status, 405);
  assert.equal((await get("/", "HEAD")).body, "");
});
