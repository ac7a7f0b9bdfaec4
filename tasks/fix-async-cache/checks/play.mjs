// Plays one scenario on the repo's memoizeAsync, and prints its steps as JSON on the last line.
import { pathToFileURL } from "node:url";

const { memoizeAsync } = await import(pathToFileURL(`${process.cwd()}/src/memoize.js`));

const steps = [];
let answers = [];
let time = 0;
const pending = [];
const lookup = memoizeAsync(
  (...args) => new Promise((resolve, reject) => pending.push({ args, resolve, reject })),
  { maxAge: 100, now: () => time },
);

function ask(who, name) {
  lookup(name).then(
    (value) => answers.push(`${who} got ${JSON.stringify(value)}`),
    (error) => answers.push(`${who} failed: ${error.message}`),
  );
}

/** Lets everything that can happen happen; what was answered meanwhile is noted in a fixed order. */
async function settle() {
  await new Promise((resolve) => setImmediate(resolve));
  steps.push(...answers.sort());
  answers = [];
}

const count = () => steps.push(`calls ${pending.length}, size ${lookup.size}`);
process.on("unhandledRejection", (error) => answers.push(`unhandled rejection: ${error?.message}`));

const scenarios = {
  async retry() {
    ask("first", "ada");
    await settle();
    pending[0].reject(new Error("down"));
    await settle();
    count();
    ask("second", "ada");
    await settle();
    count();
    pending[1]?.reject(new Error("still down"));
    await settle();
    ask("third", "ada");
    await settle();
    pending[2]?.resolve("Ada");
    await settle();
    ask("fourth", "ada");
    await settle();
    count();
  },

  async shared() {
    ask("first", "ada");
    ask("second", "ada");
    ask("other", "ben");
    await settle();
    count();
    pending[0].reject(new Error("down"));
    pending[1]?.resolve("Ben");
    await settle();
    ask("third", "ada");
    ask("fourth", "ada");
    await settle();
    count();
    pending[2]?.resolve(undefined);
    await settle();
    ask("fifth", "ada");
    ask("another", "ben");
    await settle();
    count();
  },

  async stale() {
    ask("first", "ada");
    await settle();
    lookup.clear();
    ask("second", "ada");
    await settle();
    pending[0].reject(new Error("down"));
    await settle();
    ask("third", "ada");
    await settle();
    count();
    pending[1]?.resolve("Ada");
    await settle();
    ask("fourth", "ben");
    await settle();
    time = 100;
    ask("fifth", "ben");
    await settle();
    pending[3]?.resolve("Ben");
    await settle();
    pending[2]?.reject(new Error("late"));
    await settle();
    ask("sixth", "ben");
    await settle();
    steps.push(`calls ${pending.length}`);
  },
};

await scenarios[process.argv[2]]();
await settle();
console.log(`\n${JSON.stringify(steps)}`);
