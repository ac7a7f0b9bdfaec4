// Serves the folder argv[2] with the repo's handler on the socket argv[3], until stdin ends.
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const { createHandler } = await import(pathToFileURL(`${process.env.REPO}/src/handler.js`));
createServer(createHandler(process.argv[2])).listen(process.argv[3], () => console.log("ready"));
process.stdin.resume().on("end", () => process.exit());
