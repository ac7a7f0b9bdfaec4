#!/usr/bin/env node
// Everything inside is served, whichever way the root is given.
"use strict";
const path = require("node:path");
const { check, withServers } = require("./lib.js");

const INSIDE = {
  "/": "the index",
  "/index.html?x=../..": "the index",
  "/plain.txt": "plain",
  "/with%20space.txt": "space",
  "/gr%C3%BCn.txt": "green",
  "/100%25.txt": "per cent",
  "/100%2525.txt": "escaped per cent",
  "/%252e%252e/inside.txt": "odd folder",
  "/v1..v2.txt": "dots",
  "/..notes.txt": "leading dots",
  "/.../deep.txt": "three dots",
  "/sub/": "sub index",
  "/sub%2fpage.txt": "page",
  "/inner-link.txt": "page",
  "/inner-folder/page.txt": "page",
  "/inner-folder/": "sub index",
  "/absolute-inner.txt": "plain",
};

check(async (base, fault) => {
  const roots = ["public", path.join(base, "linked-root"), "./public/"];
  await withServers(base, roots, (...gets) => Promise.all(gets.map((get, index) => visit(roots[index], get, fault))));
});

async function visit(root, get, fault) {
  for (const [url, content] of Object.entries(INSIDE)) {
    const { status, body } = await get(url);
    if (status !== 200 || body !== content) {
      fault(`root ${root}, GET ${url}: expected 200 "${content}", got ${status} ${JSON.stringify(body.slice(0, 60))}`);
    }
  }
}
