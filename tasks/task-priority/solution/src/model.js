import { UserError } from "./errors.js";

/** From the first to be done to the last. */
export const PRIORITIES = ["high", "normal", "low"];
export const DEFAULT_PRIORITY = "normal";

export function createTask(id, text, priority = DEFAULT_PRIORITY) {
  if (!text?.trim()) {
    throw new UserError("a task needs a text");
  }
  return prioritize({ id, text: text.trim(), done: false }, priority);
}

export function complete(task) {
  return { ...task, done: true };
}

export function prioritize(task, priority) {
  if (!PRIORITIES.includes(priority)) {
    throw new UserError(`a priority is one of ${PRIORITIES.join(", ")}, not ${priority ?? "(none)"}`);
  }
  return { ...task, priority };
}
