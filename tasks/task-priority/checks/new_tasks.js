#!/usr/bin/env node
// Priorities are set, changed, shown and sorted by.
"use strict";
const { ERROR, check } = require("./lib.js");

const LISTED = [
  [4, "Water plants", false, "high"],
  [5, "Pay the rent", false, "high"],
  [2, "Buy milk", false, "low"],
  [1, "Sort photos", true, "low"],
  [3, "Call the dentist", true, "high"],
];

function theTasksInOrder(out) {
  const seen = JSON.parse(out).map(({ id, text, done, priority }) => [id, text, done, priority]);
  return JSON.stringify(seen) === JSON.stringify(LISTED);
}

check([
  ["[ ] 1 - Sort photos\n", "add", "Sort photos", "--priority", "low"],
  ["[ ] 2 Buy milk\n", "add", "Buy milk"],
  ["[ ] 3 ! Call the dentist\n", "add", "--priority", "high", "Call the dentist"],
  ["[ ] 4 Water plants\n", "add", "Water plants", "--priority=normal"],
  ["[ ] 5 ! Pay the rent\n", "add", "Pay the rent", "--priority", "high"],
  ["[x] 3 ! Call the dentist\n", "done", "3"],
  ["[ ] 2 - Buy milk\n", "prioritize", "2", "low"],
  ["[x] 1 - Sort photos\n", "done", "1"],
  ["[ ] 4 ! Water plants\n", "prioritize", "4", "high"],
  [
    "[ ] 4 ! Water plants\n[ ] 5 ! Pay the rent\n[ ] 2 - Buy milk\n[x] 1 - Sort photos\n[x] 3 ! Call the dentist\n",
    "list",
  ],
  [theTasksInOrder, "list", "--json"],
  [ERROR, "add", "Sleep", "--priority", "urgent"],
  [ERROR, "add", "Sleep", "--priority", "HIGH"],
  [ERROR, "prioritize", "2", "constructor"],
  [ERROR, "prioritize", "2"],
  [ERROR, "prioritize", "9", "high"],
  [ERROR, "add", "--priority", "high"],
  ["[ ] 6 Sleep\n", "add", "Sleep"],
]);
