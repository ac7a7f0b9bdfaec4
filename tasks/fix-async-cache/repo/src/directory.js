import { memoizeAsync } from "./memoize.js";

const MINUTE = 60_000;

/** A client of the directory behind `fetchJson(path)`. */
export function createDirectory(fetchJson) {
  const person = memoizeAsync((name) => fetchJson(`/people/${encodeURIComponent(name)}`), { maxAge: 5 * MINUTE });
  const team = memoizeAsync((name) => fetchJson(`/teams/${encodeURIComponent(name)}`), { maxAge: MINUTE });

  return {
    person,
    team,
    async colleagues(name) {
      const { team: teamName } = await person(name);
      const { members } = await team(teamName);
      return members.filter((member) => member !== name);
    },
  };
}
