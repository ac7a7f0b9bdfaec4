import { parseArgs } from "node:util";
import { line } from "./format.js";
import { UserError } from "./errors.js";
import { inOrder } from "./list.js";
import { complete, createTask } from "./model.js";
import { load, save } from "./store.js";

const COMMANDS = {
  async add(file, [text]) {
    const data = await load(file);
    const task = createTask(data.nextId, text);
    await save(file, { nextId: data.nextId + 1, tasks: [...data.tasks, task] });
    return line(task);
  },

  async done(file, [id]) {
    const data = await load(file);
    const { tasks, changed } = update(data.tasks, id, complete);
    await save(file, { ...data, tasks });
    return line(changed);
  },

  async list(file, _, { json }) {
    const tasks = inOrder((await load(file)).tasks);
    return json ? JSON.stringify(tasks, null, 2) : tasks.map(line).join("\n");
  },
};

function update(tasks, id, change) {
  const position = tasks.findIndex((task) => String(task.id) === id);
  if (position < 0) {
    throw new UserError(`no task with the ID ${id}`);
  }
  const changed = change(tasks[position]);
  return { tasks: tasks.with(position, changed), changed };
}

/** Runs one command; returns its exit code and output. */
export async function run(argv, file) {
  try {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: { json: { type: "boolean" } },
    });
    const [name, ...rest] = positionals;
    if (!Object.hasOwn(COMMANDS, name ?? "")) {
      throw new UserError(`unknown command: ${name ?? "(none)"}`);
    }
    const out = await COMMANDS[name](file, rest, values);
    return { code: 0, out: out && `${out}\n`, err: "" };
  } catch (error) {
    if (error instanceof UserError || error.code?.startsWith("ERR_PARSE_ARGS")) {
      return { code: 1, out: "", err: `todo: ${error.message}\n` };
    }
    throw error;
  }
}
