import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "../src/run.js";

const setting = { habits: { Running: ["2024-03-30"] }, today: "2024-03-31", lang: "en" };

test("check notes today, or the day that is given", () => {
  const result = run(["check", "Running"], setting);
  assert.deepEqual(result.lines, ["Running: done on 2024-03-31"]);
  assert.deepEqual(result.habits, { Running: ["2024-03-30", "2024-03-31"] });
  assert.deepEqual(run(["check", "Running", "2024-02-29"], setting).lines, ["Running: done on 2024-02-29"]);
});

test("what does not exist is an error", () => {
  assert.equal(run(["check", "Reading"], setting).error, "there is no habit called Reading");
  assert.equal(run(["check", "Running", "2023-02-29"], setting).error, "2023-02-29 is not a date");
  assert.equal(run(["dance"], setting).error, "unknown command: dance");
});

test("texts come in the language that is asked for", () => {
  assert.deepEqual(run(["list"], { ...setting, lang: "de" }).lines, ["Running: 1-mal erledigt"]);
});
