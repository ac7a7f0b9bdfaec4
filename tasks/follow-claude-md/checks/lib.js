// Shared by the checks: calls the repo's `run` in a process of its own.
"use strict";
const { spawnSync } = require("node:child_process");
const path = require("node:path");

/** The answers to a list of [argv, setting]; `environment` is added to that of the process. */
function play(calls, { repo = ".", environment = {} } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(__dirname, "play.mjs"), repo], {
    input: JSON.stringify(calls),
    encoding: "utf8",
    env: { ...process.env, ...environment },
    timeout: 20000,
  });
  if (status !== 0) {
    console.log(`the program cannot be run:\n${stderr}`);
    process.exit(1);
  }
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

function finish(faults) {
  if (faults.length > 0) {
    console.log(faults.join("\n"));
  }
  process.exit(faults.length > 0 ? 1 : 0);
}

module.exports = { finish, play };
