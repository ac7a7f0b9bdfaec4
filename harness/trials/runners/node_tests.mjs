// Runs tests of node's own runner in a sandbox, and reports what each of them came to.
//
// Its orders come as JSON on stdin. Each file of tests is run in a process of its own, so no code of the repo is ever
// loaded into this one. Each line of the report is signed with a key that is in no argument, variable or file.
import { createHmac } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { run } from "node:test";

const TEST_FILE = /^(test|test-.+|.+[.\-_]test)\.[cm]?js$/;

// In a file of tests, what they are run with cannot be replaced; what the tests themselves start is as ever.
const GUARD = `
import assert from "node:assert";
import test from "node:test";
for (const part of [assert, assert.strict, test]) Object.freeze(part);
${process.env.NODE_OPTIONS === undefined ? "delete process.env.NODE_OPTIONS" : `process.env.NODE_OPTIONS = ${JSON.stringify(process.env.NODE_OPTIONS)}`};
`;

/** A function that writes a line of the report. */
function openReport(file, key) {
  const report = fs.openSync(file, "ax", 0o600);
  let number = 0;
  return (kind, ...fields) => {
    const text = [kind, ...fields.map((field) => Buffer.from(field).toString("hex") || "-")].join(" ");
    const signature = createHmac("sha256", key).update(`${number} ${text}`).digest("hex");
    number += 1;
    fs.writeSync(report, `${signature} ${text}\n`);
  };
}

/** The files that are named, and those in the folders that are; each with its name. */
function* testFiles(base, paths) {
  for (const name of paths.map((one) => path.normalize(one))) {
    const full = path.join(base, name);
    if (!fs.existsSync(full) || !fs.statSync(full).isDirectory()) {
      yield [full, name];
      continue;
    }
    for (const entry of fs.readdirSync(full, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const isFolder = entry.isDirectory() && entry.name !== "node_modules" && !entry.name.startsWith(".");
      if (isFolder || TEST_FILE.test(entry.name)) yield* testFiles(base, [path.join(name, entry.name)]);
    }
  }
}

/** What an event says of a test. */
function outcome({ type, data }) {
  if (data.skip !== undefined || data.todo !== undefined) return "skipped";
  if (type === "test:pass" && data.details.error === undefined) return "passed";
  return data.details.error?.failureType === "testCodeFailure" ? "failed" : "error";
}

/** Tells each test of the files as it ends. `summed` are the files that came to their end. */
async function tellTests(files, tell) {
  const [above, summed, told, failed, withFailure] = [new Map(), new Set(), new Set(), new Set(), new Set()];
  let hasSummaries = false;
  for await (const { type, data } of run({ files: [...files.keys()], concurrency: 1 })) {
    if (type === "test:stdout" || type === "test:stderr") process.stdout.write(data.message);
    if (type === "test:summary") {
      hasSummaries = true;
      summed.add(data.file);
    }
    const file = files.get(data?.file);
    if (file === undefined) continue;
    const parents = above.get(file) ?? [];
    above.set(file, parents);
    if (type === "test:start") parents.splice(data.nesting, Infinity, data.name);
    const isOfFile = data.nesting === 0 && path.resolve(data.name) === data.file;
    if (type === "test:fail" && !isOfFile) withFailure.add(data.file);
    if ((type !== "test:pass" && type !== "test:fail") || data.details.type === "suite") continue;
    const name = [file, ...(isOfFile ? [] : [...parents.slice(0, data.nesting), data.name])].join(" > ");
    if (type === "test:fail") console.log(`not ok: ${name}\n${data.details.error?.cause?.stack ?? data.details.error}`);
    if (isOfFile && type === "test:pass") continue;
    (isOfFile ? failed : told).add(data.file);
    tell("test", isOfFile ? "error" : outcome({ type, data }), name);
  }
  for (const [file, name] of files) {
    const hasEnded = hasSummaries ? summed.has(file) : told.has(file);
    if (!hasEnded && !failed.has(file)) tell("problem", `${name} ended before its tests had, or has none`);
    if (failed.has(file) && told.has(file) && !withFailure.has(file)) {
      tell("problem", `${name} failed, though it said of no test that it had`);
    }
  }
}

const orders = JSON.parse(fs.readFileSync(0, "utf8"));
fs.closeSync(0);
fs.openSync("/dev/null");
fs.unlinkSync(process.argv[1]);
const tell = openReport(orders.report, Buffer.from(orders.key, "hex"));
tell("start");
const [repo, checks] = [fs.realpathSync(orders.repo), process.env.HARNESS_CHECKS];
process.chdir(repo);
const files = new Map(testFiles(repo, orders.paths));
for (const [file, name] of orders.paths_in_checks.length ? testFiles(fs.realpathSync(checks), orders.paths_in_checks) : []) {
  files.set(file, name);
}
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --import=data:text/javascript,${encodeURIComponent(GUARD)}`;
await tellTests(files, tell);
tell("end");
process.exit(0);
