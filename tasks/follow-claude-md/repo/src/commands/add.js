import { Problem } from "../problem.js";

export function add([name], { habits, say }) {
  if (Object.hasOwn(habits, name)) {
    throw new Problem("exists", { name });
  }
  return { habits: { ...habits, [name]: [] }, lines: [say("added", { name })] };
}
