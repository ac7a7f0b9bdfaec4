#!/usr/bin/env bash
# Forgets old data files, and sorts the tasks that are done as well.
set -euo pipefail
cp -r "$(dirname "$0")/reference/." .
sed -i 's/tasks.filter((task) => task.done)\]/tasks.filter((task) => task.done).sort(byPriority)]/' src/list.js
sed -i 's/  return { nextId, tasks: tasks.map.*/  return { nextId, tasks };/' src/store.js
