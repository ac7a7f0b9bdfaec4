import { add } from "./commands/add.js";
import { check } from "./commands/check.js";
import { list } from "./commands/list.js";
import { streak } from "./commands/streak.js";
import { Problem } from "./problem.js";
import { translate } from "./translate.js";

const COMMANDS = { add, check, list, streak };

/**
 * Runs one command. `habits` maps names to the dates ("2024-03-31") on which they were done. Gives the new habits and the
 * lines to print, or an error.
 */
export function run([command, ...args], { habits, today, lang }) {
  const say = (key, values) => translate(lang, key, values);
  try {
    if (!Object.hasOwn(COMMANDS, command ?? "")) {
      throw new Problem("unknown_command", { command: command ?? "" });
    }
    return COMMANDS[command](args, { habits, today, say });
  } catch (error) {
    if (error instanceof Problem) {
      return { error: say(error.key, error.values) };
    }
    throw error;
  }
}
