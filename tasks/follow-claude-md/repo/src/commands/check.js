import { isDate } from "../dates.js";
import { Problem } from "../problem.js";

export function check([name, date], { habits, today, say }) {
  if (!Object.hasOwn(habits, name)) {
    throw new Problem("no_habit", { name });
  }
  const day = date ?? today;
  if (!isDate(day)) {
    throw new Problem("bad_date", { date: day });
  }
  const days = [...new Set([...habits[name], day])].sort();
  return { habits: { ...habits, [name]: days }, lines: [say("checked", { name, date: day })] };
}
