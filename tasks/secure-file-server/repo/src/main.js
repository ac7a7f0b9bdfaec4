import { createServer } from "node:http";
import { createHandler } from "./handler.js";

const [root = "public", port = "8080"] = process.argv.slice(2);
createServer(createHandler(root)).listen(Number(port), () => console.log(`serving ${root} on port ${port}`));
