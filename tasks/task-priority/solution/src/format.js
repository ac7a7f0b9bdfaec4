const MARKS = { high: "! ", normal: "", low: "- " };

export function line(task) {
  return `[${task.done ? "x" : " "}] ${task.id} ${MARKS[task.priority]}${task.text}`;
}
