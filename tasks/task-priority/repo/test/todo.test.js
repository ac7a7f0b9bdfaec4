import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { run } from "../src/cli.js";

let folder;
const todo = (...argv) => run(argv, path.join(folder, "todo.json"));

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "todo-"));
});

afterEach(() => rm(folder, { recursive: true }));

test("tasks are added and listed", async () => {
  assert.equal((await todo("add", "Buy milk")).out, "[ ] 1 Buy milk\n");
  await todo("add", "Write letter");
  assert.equal((await todo("list")).out, "[ ] 1 Buy milk\n[ ] 2 Write letter\n");
});

test("done tasks come last", async () => {
  await todo("add", "Buy milk");
  await todo("add", "Write letter");
  assert.equal((await todo("done", "1")).out, "[x] 1 Buy milk\n");
  assert.equal((await todo("list")).out, "[ ] 2 Write letter\n[x] 1 Buy milk\n");
});

test("an unknown ID is an error", async () => {
  assert.deepEqual(await todo("done", "7"), { code: 1, out: "", err: "todo: no task with the ID 7\n" });
});
