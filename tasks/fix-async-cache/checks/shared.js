#!/usr/bin/env node
// Callers share the call that is under way, also one that fails; any value is kept.
"use strict";
const { spawnSync } = require("node:child_process");
const path = require("node:path");

const EXPECTED = [
  "calls 2, size 2",
  "first failed: down",
  'other got "Ben"',
  "second failed: down",
  "calls 3, size 2",
  "fourth got undefined",
  "third got undefined",
  'another got "Ben"',
  "fifth got undefined",
  "calls 3, size 2",
];

const play = spawnSync(process.execPath, [path.join(__dirname, "play.mjs"), "shared"], { encoding: "utf8", timeout: 20000 });
if (play.status !== 0) {
  console.log(`the scenario did not come to its end (exit ${play.status}):\n${play.stderr}`);
  process.exit(1);
}
const steps = JSON.parse(play.stdout.trim().split("\n").at(-1));
if (JSON.stringify(steps) !== JSON.stringify(EXPECTED)) {
  console.log(`expected:\n  ${EXPECTED.join("\n  ")}\ngot:\n  ${steps.join("\n  ")}`);
  process.exit(1);
}
