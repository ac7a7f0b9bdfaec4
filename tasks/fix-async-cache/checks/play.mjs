// Plays the scenarios named in the arguments on the repo's memoizeAsync, and prints the steps of each as JSON on the
// last line.
import { pathToFileURL } from "node:url";

const { memoizeAsync } = await import(pathToFileURL(`${process.cwd()}/src/memoize.js`));

let answers = [];
process.on("unhandledRejection", (error) => answers.push(`unhandled rejection: ${error?.message}`));

/** A cache whose calls are settled by hand, and a list of what is seen of it. */
function stage() {
  const stage = { time: 0, calls: [], steps: [] };
  stage.lookup = memoizeAsync(() => new Promise((resolve, reject) => stage.calls.push({ resolve, reject })), {
    maxAge: 100,
    now: () => stage.time,
  });
  /** Lets everything that can happen happen; what was answered meanwhile is noted in a fixed order. */
  stage.settle = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    stage.steps.push(...answers.sort());
    answers = [];
  };
  /** Several callers ask at once: pairs of who asks and for what. */
  stage.ask = async (...pairs) => {
    for (const [who, name] of pairs) {
      stage.lookup(name).then(
        (value) => answers.push(`${who} got ${JSON.stringify(value)}`),
        (error) => answers.push(`${who} failed: ${error.message}`),
      );
    }
    await stage.settle();
  };
  stage.succeed = (call, value) => {
    stage.calls[call]?.resolve(value);
    return stage.settle();
  };
  stage.fail = (call, message) => {
    stage.calls[call]?.reject(new Error(message));
    return stage.settle();
  };
  stage.count = () => stage.steps.push(`${stage.calls.length} calls, size ${stage.lookup.size}`);
  return stage;
}

const SCENARIOS = {
  async retry({ ask, fail, succeed, count }) {
    await ask(["first", "ada"]);
    await fail(0, "down");
    count();
    await ask(["second", "ada"]);
    count();
    await fail(1, "still down");
    await ask(["third", "ada"]);
    await succeed(2, "Ada");
    await ask(["fourth", "ada"]);
    count();
  },

  async cleared({ ask, fail, succeed, count, lookup }) {
    await ask(["first", "ada"]);
    lookup.clear();
    await ask(["second", "ada"]);
    await fail(0, "down");
    await ask(["third", "ada"]);
    count();
    await succeed(1, "Ada");
    await ask(["fourth", "ada"]);
    count();
  },

  async expired(stage) {
    const { ask, fail, succeed, count } = stage;
    await ask(["first", "ben"]);
    stage.time = 100;
    await ask(["second", "ben"]);
    await succeed(1, "Ben");
    await fail(0, "late");
    await ask(["third", "ben"]);
    count();
  },

  async shared({ ask, fail, succeed, count }) {
    await ask(["first", "ada"], ["second", "ada"], ["other", "ben"]);
    count();
    await fail(0, "down");
    await succeed(1, "Ben");
    await ask(["third", "ada"], ["fourth", "ada"]);
    count();
    await succeed(2, undefined);
    await ask(["fifth", "ada"], ["another", "ben"]);
    count();
  },
};

const played = {};
for (const name of process.argv.slice(2)) {
  const one = stage();
  await SCENARIOS[name](one);
  await one.settle();
  played[name] = one.steps;
}
console.log(`\n${JSON.stringify(played)}`);
