#!/usr/bin/env node
// Nothing outside the root is served, by whatever path, and all of it looks like what is missing.
"use strict";
const { check, withServers } = require("./lib.js");

const OUTSIDE = [
  "/../secret.txt",
  "/..%2fsecret.txt",
  "/%2e%2e/secret.txt",
  "/%2E%2E%2Fsecret.txt",
  "/....//secret.txt",
  "/..././secret.txt",
  "/sub/../../secret.txt",
  "/sub/..%2f..%2fsecret.txt",
  "/..%2fpublic-old/secret.txt",
  "/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
  "/%2fetc/passwd",
  "//etc/passwd",
  "/..%2ffolder/",
  "/..%5csecret.txt",
  "/%252e%252e%252fsecret.txt",
  "/%252e%252e/secret.txt",
  "/outer-link.txt",
  "/absolute-outer.txt",
  "/outer-folder/secret.txt",
  "/outer-folder/",
  "/old/secret.txt",
  "/sub/../outer-folder/secret.txt",
  "/broken.txt",
  "/sub",
  "/inner-folder",
  "/missing/",
  "/plain.txt/",
];
const UNREADABLE = ["/%", "/%zz.txt", "/%ff.txt", "/plain.txt%00", "/plain.txt%00.html", "/..%2fsecret.txt%00"];

check(async (base, fault) => {
  await withServers(base, ["public"], async (get) => {
    const missing = await get("/missing.txt");
    const expectation = [...OUTSIDE.map((url) => [url, 404]), ...UNREADABLE.map((url) => [url, 400])];
    for (const [url, status] of expectation) {
      const answer = await get(url);
      if (answer.status !== status) {
        fault(`GET ${url}: expected ${status}, got ${answer.status} ${JSON.stringify(answer.body.slice(0, 60))}`);
      } else if (status === 404 && answer.body !== missing.body) {
        fault(`GET ${url}: its 404 differs from that of a missing file: ${JSON.stringify(answer.body)}`);
      }
    }
  });
});
