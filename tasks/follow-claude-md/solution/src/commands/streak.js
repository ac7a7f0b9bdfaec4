import { dayBefore } from "../dates.js";
import { Problem } from "../problem.js";

function streakLength(days, today) {
  const done = new Set(days);
  let day = done.has(today) ? today : dayBefore(today);
  let length = 0;
  for (; done.has(day); day = dayBefore(day)) {
    length += 1;
  }
  return length;
}

export function streak([name], { habits, today, say }) {
  if (!Object.hasOwn(habits, name)) {
    throw new Problem("no_habit", { name });
  }
  const count = streakLength(habits[name], today);
  const key = { 0: "streak_none", 1: "streak_one" }[count] ?? "streak_many";
  return { habits, lines: [say(key, { name, count })] };
}
