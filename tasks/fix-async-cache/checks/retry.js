#!/usr/bin/env node
// A failure is forgotten, a later success is kept, and nothing is left unhandled.
"use strict";
const { spawnSync } = require("node:child_process");
const path = require("node:path");

const EXPECTED = [
  "first failed: down",
  "calls 1, size 0",
  "calls 2, size 1",
  "second failed: still down",
  'third got "Ada"',
  'fourth got "Ada"',
  "calls 3, size 1",
];

const play = spawnSync(process.execPath, [path.join(__dirname, "play.mjs"), "retry"], { encoding: "utf8", timeout: 20000 });
if (play.status !== 0) {
  console.log(`the scenario did not come to its end (exit ${play.status}):\n${play.stderr}`);
  process.exit(1);
}
const steps = JSON.parse(play.stdout.trim().split("\n").at(-1));
if (JSON.stringify(steps) !== JSON.stringify(EXPECTED)) {
  console.log(`expected:\n  ${EXPECTED.join("\n  ")}\ngot:\n  ${steps.join("\n  ")}`);
  process.exit(1);
}
