import { PRIORITIES } from "./model.js";

const byPriority = (a, b) => PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority);

/** Open tasks by priority, then those that are done. */
export function inOrder(tasks) {
  return [...tasks.filter((task) => !task.done).sort(byPriority), ...tasks.filter((task) => task.done)];
}
