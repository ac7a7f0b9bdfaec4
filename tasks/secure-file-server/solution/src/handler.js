import { readFile } from "node:fs/promises";
import { resolveUrl } from "./resolve.js";
import { contentType } from "./types.js";

function answer(response, status, text) {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  response.end(`${text}\n`);
}

/** A handler for node:http's createServer that serves the files below `root`. */
export function createHandler(root) {
  return async (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      answer(response, 405, "method not allowed");
      return;
    }
    let file;
    try {
      file = await resolveUrl(root, request.url);
    } catch {
      answer(response, 400, "bad request");
      return;
    }
    const body = file && (await readFile(file).catch(() => null));
    if (body === null) {
      answer(response, 404, "not found");
      return;
    }
    response.writeHead(200, { "content-type": contentType(file), "content-length": body.length });
    response.end(request.method === "HEAD" ? undefined : body);
  };
}
