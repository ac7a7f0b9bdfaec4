// Serves folders with the repo's handler: the arguments are pairs of folder and socket. Ends when stdin does.
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const { createHandler } = await import(pathToFileURL(`${process.env.REPO}/src/handler.js`));
const pairs = process.argv.slice(2);
for (let at = 0; at < pairs.length; at += 2) {
  await new Promise((resolve) => createServer(createHandler(pairs[at])).listen(pairs[at + 1], resolve));
}
console.log("ready");
process.stdin.resume().on("end", () => process.exit());
