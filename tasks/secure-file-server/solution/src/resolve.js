import { realpath, stat } from "node:fs/promises";
import path from "node:path";

/** A request whose URL cannot mean a file. */
export class BadUrl extends Error {}

function decode(urlPath) {
  let decoded;
  try {
    decoded = decodeURIComponent(urlPath);
  } catch (cause) {
    throw new BadUrl("cannot be decoded", { cause });
  }
  if (decoded.includes("\0")) {
    throw new BadUrl("contains a NUL byte");
  }
  return decoded;
}

function isInside(root, file) {
  const relative = path.relative(root, file);
  return !`${relative}${path.sep}`.startsWith(`..${path.sep}`) && !path.isAbsolute(relative);
}

/**
 * The real path of the regular file that a request's URL means; null when there is none, or none inside the root.
 * Throws BadUrl.
 */
export async function resolveUrl(root, url) {
  const [urlPath] = url.split("?");
  const decoded = decode(urlPath);
  const asked = path.join(root, decoded, decoded.endsWith("/") ? "index.html" : "");
  if (!isInside(path.resolve(root), path.resolve(asked))) {
    return null;
  }
  try {
    // Links are followed before the comparison, the root's own too.
    const [realRoot, file] = await Promise.all([realpath(root), realpath(asked)]);
    return isInside(realRoot, file) && (await stat(file)).isFile() ? file : null;
  } catch {
    return null;
  }
}
