#!/usr/bin/env node
// The failure of a call that was cleared, or is too old, does not touch the newer call's answer.
"use strict";
const { spawnSync } = require("node:child_process");
const path = require("node:path");

const EXPECTED = [
  "first failed: down",
  "calls 2, size 1",
  'second got "Ada"',
  'third got "Ada"',
  'fifth got "Ben"',
  "fourth failed: late",
  'sixth got "Ben"',
  "calls 4",
];

const play = spawnSync(process.execPath, [path.join(__dirname, "play.mjs"), "stale"], { encoding: "utf8", timeout: 20000 });
if (play.status !== 0) {
  console.log(`the scenario did not come to its end (exit ${play.status}):\n${play.stderr}`);
  process.exit(1);
}
const steps = JSON.parse(play.stdout.trim().split("\n").at(-1));
if (JSON.stringify(steps) !== JSON.stringify(EXPECTED)) {
  console.log(`expected:\n  ${EXPECTED.join("\n  ")}\ngot:\n  ${steps.join("\n  ")}`);
  process.exit(1);
}
