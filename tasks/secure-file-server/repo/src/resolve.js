import path from "node:path";

/** The file that a request's URL means. */
export function resolveUrl(root, url) {
  const [urlPath] = url.split("?");
  // Nobody may climb out of the root.
  const safe = urlPath.replaceAll("../", "");
  let file = path.join(root, decodeURIComponent(safe));
  if (safe.endsWith("/")) {
    file = path.join(file, "index.html");
  }
  return file;
}
