import { readFile, rename, writeFile } from "node:fs/promises";

const FIELDS = ["id", "text", "done"];

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
  return JSON.parse(content);
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
