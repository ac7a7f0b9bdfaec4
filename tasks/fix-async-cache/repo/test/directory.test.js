import assert from "node:assert/strict";
import { test } from "node:test";
import { createDirectory } from "../src/directory.js";

test("colleagues are the other members of a person's team", async () => {
  const answers = {
    "/people/ada": { team: "engine" },
    "/teams/engine": { members: ["ada", "charles"] },
  };
  const directory = createDirectory(async (path) => answers[path]);
  assert.deepEqual(await directory.colleagues("ada"), ["charles"]);
});
