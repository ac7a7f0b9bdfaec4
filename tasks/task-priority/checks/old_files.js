#!/usr/bin/env node
// A file from before there were priorities: its tasks are normal, keep their IDs, and can be changed.
"use strict";
const { check } = require("./lib.js");

const OLD_FILE = {
  nextId: 9,
  tasks: [
    { id: 2, text: "Old one", done: false },
    { id: 4, text: "Old done", done: true },
    { id: 7, text: "Old two", done: false },
  ],
};

function threeNormalTasks(out) {
  const tasks = JSON.parse(out);
  return tasks.length === 3 && tasks.every((task) => task.priority === "normal");
}

check(
  [
    ["[ ] 2 Old one\n[ ] 7 Old two\n[x] 4 Old done\n", "list"],
    [threeNormalTasks, "list", "--json"],
    ["[ ] 9 - New low\n", "add", "New low", "--priority", "low"],
    ["[ ] 7 ! Old two\n", "prioritize", "7", "high"],
    ["[ ] 10 New\n", "add", "New"],
    ["[x] 2 Old one\n", "done", "2"],
    ["[ ] 7 ! Old two\n[ ] 10 New\n[ ] 9 - New low\n[x] 2 Old one\n[x] 4 Old done\n", "list"],
  ],
  OLD_FILE,
);
