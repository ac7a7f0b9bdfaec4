#!/usr/bin/env node
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { run } from "./run.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { lang: { type: "string", default: "en" } },
});
const file = process.env.HABITS_FILE ?? "habits.json";
const habits = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
const today = process.env.HABITS_TODAY ?? new Date().toLocaleDateString("sv");

const result = run(positionals, { habits, today, lang: values.lang });
if (result.error !== undefined) {
  console.error(result.error);
  process.exitCode = 1;
} else {
  writeFileSync(file, `${JSON.stringify(result.habits, null, 2)}\n`);
  result.lines.forEach((line) => console.log(line));
}
