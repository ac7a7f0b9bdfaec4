export function line(task) {
  return `[${task.done ? "x" : " "}] ${task.id} ${task.text}`;
}
