import { UserError } from "./errors.js";

export function createTask(id, text) {
  if (!text?.trim()) {
    throw new UserError("a task needs a text");
  }
  return { id, text: text.trim(), done: false };
}

export function complete(task) {
  return { ...task, done: true };
}
