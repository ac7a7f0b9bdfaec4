#!/usr/bin/env node
// The command itself, in English; over the ends of months, leap days and the days on which clocks change.
"use strict";
const { finish, play } = require("./lib.js");

function daysUpTo(last, count) {
  const end = Date.parse(`${last}T00:00:00Z`);
  return Array.from({ length: count }, (_, back) => new Date(end - back * 86_400_000).toISOString().slice(0, 10)).sort();
}

const CASES = [
  [[], "2024-05-10", "no streak"],
  [["2024-05-10"], "2024-05-10", "1 day in a row"],
  [["2024-05-09"], "2024-05-10", "1 day in a row"],
  [["2024-05-08"], "2024-05-10", "no streak"],
  [["2024-05-11"], "2024-05-10", "no streak"],
  [["2024-05-09", "2024-05-11", "2024-05-12"], "2024-05-10", "1 day in a row"],
  [["2024-05-07", "2024-05-09", "2024-05-10"], "2024-05-10", "2 days in a row"],
  [daysUpTo("2024-03-02", 5), "2024-03-03", "5 days in a row"],
  [daysUpTo("2025-01-02", 40), "2025-01-02", "40 days in a row"],
  [[...daysUpTo("2024-02-01", 9), ...daysUpTo("2024-11-05", 250)], "2024-11-05", "250 days in a row"],
  [daysUpTo("2023-03-01", 2), "2023-03-01", "2 days in a row"],
];

const setting = (habits, today) => ({ habits, today, lang: "en" });
const calls = [
  ...CASES.map(([days, today]) => [["streak", "Running"], setting({ Reading: [], Running: days }, today)]),
  [["streak", "Rowing"], setting({ Running: [] }, "2024-05-10")],
  [["streak", "constructor"], setting({ Running: [] }, "2024-05-10")],
];
const expected = [
  ...CASES.map(([days, , text]) => ({ habits: { Reading: [], Running: days }, lines: [`Running: ${text}`] })),
  { error: "there is no habit called Rowing" },
  { error: "there is no habit called constructor" },
];

const faults = [];
for (const zone of ["Europe/Berlin", "America/Los_Angeles", "Pacific/Auckland"]) {
  play(calls, { environment: { TZ: zone } }).forEach((answer, index) => {
    if (JSON.stringify(answer) !== JSON.stringify(expected[index])) {
      const [argv, { habits, today }] = calls[index];
      const days = (habits.Running ?? []).slice(-5).join(" ");
      faults.push(`${argv.join(" ")} on ${today} (${zone}), last done on: ${days}`);
      faults.push(`  expected: ${JSON.stringify(expected[index].lines ?? expected[index])}`);
      faults.push(`  got:      ${JSON.stringify(answer.lines ?? answer)}`);
    }
  });
}
finish(faults);
