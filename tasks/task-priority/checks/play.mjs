// Runs the commands given as JSON on stdin, one after the other, on the file argv[2]; prints for each what it gave and
// whether the file was changed by it.
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { run } = await import(pathToFileURL(`${process.cwd()}/src/cli.js`));

const file = process.argv[2];
const content = () => (existsSync(file) ? readFileSync(file, "utf8") : "");
const ran = [];
for (const argv of JSON.parse(readFileSync(0, "utf8"))) {
  const before = content();
  let answer;
  try {
    answer = await run(argv, file);
  } catch (error) {
    answer = { code: 70, out: "", err: String(error.stack) };
  }
  ran.push({ ...answer, changed: content() !== before });
}
console.log(`\n${JSON.stringify(ran)}`);
