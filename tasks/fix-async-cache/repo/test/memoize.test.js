import assert from "node:assert/strict";
import { test } from "node:test";
import { memoizeAsync } from "../src/memoize.js";

test("a value is fetched once", async () => {
  let calls = 0;
  const lookup = memoizeAsync(async (name) => `${name} ${++calls}`);
  assert.equal(await lookup("ada"), "ada 1");
  assert.equal(await lookup("ada"), "ada 1");
  assert.equal(await lookup("ben"), "ben 2");
});

test("a value is fetched again when it is too old", async () => {
  let time = 0;
  let calls = 0;
  const lookup = memoizeAsync(async () => ++calls, { maxAge: 100, now: () => time });
  assert.equal(await lookup(), 1);
  time = 99;
  assert.equal(await lookup(), 1);
  time = 100;
  assert.equal(await lookup(), 2);
});

test("clear forgets everything", async () => {
  let calls = 0;
  const lookup = memoizeAsync(async () => ++calls);
  await lookup();
  lookup.clear();
  assert.equal(lookup.size, 0);
  assert.equal(await lookup(), 2);
});
