// Calls the `run` of the repo in argv[2] for each [argv, setting] given as JSON on stdin, and prints the answers.
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { run } = await import(pathToFileURL(path.resolve(process.argv[2], "src/run.js")));

function answer([argv, setting]) {
  try {
    return run(argv, setting);
  } catch (error) {
    return { thrown: String(error) };
  }
}

const answers = JSON.parse(readFileSync(0, "utf8")).map(answer);
console.log(`\n${JSON.stringify(answers)}`);
