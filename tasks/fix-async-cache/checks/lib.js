// Shared by the checks: plays scenarios on the repo's memoizeAsync, and compares their steps with those expected.
"use strict";
const { spawnSync } = require("node:child_process");
const path = require("node:path");

/** Compares by scenario's name, and ends the process. */
function check(expected) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [path.join(__dirname, "play.mjs"), ...Object.keys(expected)],
    { encoding: "utf8", timeout: 20000 },
  );
  if (status !== 0) {
    console.log(`the scenarios did not come to their end (exit ${status}):\n${stderr}`);
    process.exit(1);
  }
  const played = JSON.parse(stdout.trim().split("\n").at(-1));
  const wrong = Object.keys(expected).filter((name) => played[name].join("\n") !== expected[name].join("\n"));
  for (const name of wrong) {
    console.log(`${name}, expected:\n  ${expected[name].join("\n  ")}\ngot:\n  ${played[name].join("\n  ")}`);
  }
  process.exit(wrong.length > 0 ? 1 : 0);
}

module.exports = { check };
