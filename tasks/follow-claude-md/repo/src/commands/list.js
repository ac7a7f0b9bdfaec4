export function list(_, { habits, say }) {
  const lines = Object.entries(habits).map(([name, days]) => say("list_line", { name, count: days.length }));
  return { habits, lines };
}
