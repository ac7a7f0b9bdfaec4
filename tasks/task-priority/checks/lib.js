// Shared by the checks: runs a story of commands with the repo's program, and compares what each gives.
"use strict";
const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

/** Stands in a story where a command must fail; elsewhere stands its output, or a predicate on it. */
const ERROR = { name: "exit status 1, a message, and an unchanged file" };

function play(commands, data) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "todo-check-"));
  try {
    const file = path.join(folder, "todo.json");
    if (data !== undefined) {
      fs.writeFileSync(file, JSON.stringify(data));
    }
    return spawnSync(process.execPath, [path.join(__dirname, "play.mjs"), file], {
      input: JSON.stringify(commands),
      encoding: "utf8",
      timeout: 20000,
    });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

function isRight(expected, { code, out, err, changed }) {
  if (expected === ERROR) {
    return code === 1 && out === "" && /^todo: .+\n$/.test(err) && !changed;
  }
  return code === 0 && (typeof expected === "string" ? out === expected : expected(out));
}

/** Runs `story`, a list of [expected, ...command], on a file with `data`; ends the process. */
function check(story, data) {
  const { status, stdout, stderr } = play(story.map(([, ...command]) => command), data);
  if (status !== 0) {
    console.log(`the program cannot be run:\n${stderr}`);
    process.exit(1);
  }
  const answers = JSON.parse(stdout.trim().split("\n").at(-1));
  const wrong = story.map((step, index) => [step, answers[index]]).filter(([[expected], got]) => !isRight(expected, got));
  for (const [[expected, ...command], got] of wrong) {
    const text = typeof expected === "string" ? JSON.stringify(expected) : expected.name;
    console.log(`todo ${command.join(" ")}\n  expected: ${text}\n  got:      ${JSON.stringify(got)}`);
  }
  process.exit(wrong.length > 0 ? 1 : 0);
}

module.exports = { ERROR, check };
