#!/usr/bin/env node
import { run } from "./cli.js";

const { code, out, err } = await run(process.argv.slice(2), process.env.TODO_FILE ?? "todo.json");
process.stdout.write(out);
process.stderr.write(err);
process.exitCode = code;
