import { readFile, rename, writeFile } from "node:fs/promises";
import { DEFAULT_PRIORITY } from "./model.js";

const FIELDS = ["id", "text", "done", "priority"];

/** The tasks in the order in which they were added, and the ID of the next one. */
export async function load(file) {
  let content;
  try {
    content = await readFile(file, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") {
      return { nextId: 1, tasks: [] };
    }
    throw error;
  }
  const { nextId, tasks } = JSON.parse(content);
  // Files written before there were priorities have none.
  return { nextId, tasks: tasks.map((task) => ({ priority: DEFAULT_PRIORITY, ...task })) };
}

export async function save(file, { nextId, tasks }) {
  const content = JSON.stringify({ nextId, tasks: tasks.map(known) }, null, 2);
  await writeFile(`${file}.new`, `${content}\n`);
  await rename(`${file}.new`, file);
}

/** The task without anything that does not belong in the file. */
function known(task) {
  return Object.fromEntries(FIELDS.map((field) => [field, task[field]]));
}
