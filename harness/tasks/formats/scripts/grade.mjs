// One grader of a case of `claude plugin eval`, judged as Claude Code 2.1.332 judges it.
//   node grade.mjs NUMBER    of graders.json; in the folder of the run
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, readFileSync, readdirSync, realpathSync } from "node:fs";
import path from "node:path";

const here = path.dirname(new URL(import.meta.url).pathname);
const grader = JSON.parse(readFileSync(path.join(here, "graders.json"), "utf8"))[Number(process.argv[2])];
const trace = readFileSync(process.env.HARNESS_TRANSCRIPT, "utf8")
  .split("\n")
  .flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return []; // a run that was cut off ends within a line
    }
  });

function content(event) {
  const inner = event.type === "assistant" ? event.message?.content : undefined;
  return Array.isArray(inner) ? inner : [];
}

const calls = trace
  .flatMap(content)
  .filter((block) => block?.type === "tool_use")
  .map((block) => ({ name: String(block.name ?? ""), text: JSON.stringify(block.input) ?? "" }));

function lastMessage() {
  const texts = trace
    .map((event) => content(event).filter((block) => block?.type === "text"))
    .filter((blocks) => blocks.length);
  return texts.length ? texts.at(-1).map((block) => block.text ?? "").join("\n") : "";
}

// The files that the run has made: what the starter, the scaffold and the variant brought is not among them.
function newFiles() {
  const list = `${process.env.HOME}/.case-files`;
  const before = new Set(existsSync(list) ? readFileSync(list, "utf8").split("\n") : []);
  const tracked = execFileSync("git", ["ls-tree", "-rz", "--name-only", "HEAD"], { encoding: "utf8" });
  for (const name of tracked.split("\0")) before.add(name);
  const walk = (folder) =>
    readdirSync(folder || ".", { withFileTypes: true }).flatMap((entry) => {
      const name = folder ? `${folder}/${entry.name}` : entry.name;
      return entry.isDirectory() ? (name === ".git" ? [] : walk(name)) : [name];
    });
  return walk("").filter((name) => !before.has(name)).sort();
}

function text(target) {
  if (target === "last_message") return lastMessage();
  if (target === "files") return newFiles().join("\n");
  if (target === "trace") return trace.map((event) => JSON.stringify(event)).join("\n");
  const inside = realpathSync(target.path);
  if (!inside.startsWith(`${realpathSync(".")}/`) || !lstatSync(target.path).isFile())
    throw new Error(`${target.path} is no file of the run's folder`);
  return readFileSync(inside, "utf8");
}

function globbed(pattern) {
  let source = "";
  for (let at = 0; at < pattern.length; at++) {
    const one = pattern[at];
    if (one !== "*") source += one === "?" ? "." : one.replace(/[.+^${}()|[\]\\]/, "\\$&");
    else if (pattern[at + 1] !== "*") source += "[^/]*";
    else if (pattern[at + 2] === "/") (source += "(?:.*/)?"), (at += 2);
    else (source += ".*"), at++;
  }
  return new RegExp(`^${source}$`);
}

const matches = (call, wanted) =>
  call.name === wanted.tool && (!wanted.input_match || new RegExp(wanted.input_match).test(call.text));

const judges = {
  regex() {
    const found = text(grader.target);
    const all = grader.flags.includes("g") ? grader.flags : `${grader.flags}g`;
    const count = (found.match(new RegExp(grader.pattern, all)) ?? []).length;
    const has = new RegExp(grader.pattern, grader.flags).test(found);
    const what = `${count} matches of ${grader.pattern}; ${grader.match} is wanted`;
    if (grader.match === "contains") return [has, what];
    if (grader.match === "not_contains") return [!has, what];
    return [count === Number(grader.match.slice("count:".length)), what];
  },
  tool_used() {
    const count = calls.filter((call) => matches(call, grader)).length;
    const least = grader.min ?? 1;
    const most = grader.max ?? Infinity;
    return [count >= least && count <= most, `${grader.tool} called ${count} times; ${least} to ${most} are wanted`];
  },
  tool_order() {
    const [first, then] = [grader.before, grader.after].map((wanted) => calls.findIndex((call) => matches(call, wanted)));
    return [first !== -1 && first < then, `${grader.before.tool} is call ${first}, ${grader.after.tool} ${then}`];
  },
  file_exists() {
    const found = newFiles().filter((name) => globbed(grader.path).test(name));
    return [found.length > 0 === grader.exists, `new files like ${grader.path}: ${found.join(", ") || "none"}`];
  },
};

let passed = false;
try {
  let words;
  [passed, words] = judges[grader.type]();
  console.log(words);
} catch (error) {
  console.log(String(error.message ?? error));
}
process.exit(passed ? 0 : 1);
