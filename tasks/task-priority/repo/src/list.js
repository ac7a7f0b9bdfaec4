/** Open tasks first, then those that are done. */
export function inOrder(tasks) {
  return [...tasks.filter((task) => !task.done), ...tasks.filter((task) => task.done)];
}
