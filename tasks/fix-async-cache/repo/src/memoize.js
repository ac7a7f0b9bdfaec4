export function memoizeAsync(fn, { maxAge = Infinity, now = Date.now } = {}) {
  const entries = new Map();

  function memoized(...args) {
    const key = JSON.stringify(args);
    const known = entries.get(key);
    if (known !== undefined && now() - known.startedAt < maxAge) {
      return known.promise;
    }
    const entry = { startedAt: now(), promise: Promise.resolve(fn(...args)) };
    entries.set(key, entry);
    return entry.promise;
  }

  memoized.clear = () => entries.clear();
  Object.defineProperty(memoized, "size", { get: () => entries.size });
  return memoized;
}
