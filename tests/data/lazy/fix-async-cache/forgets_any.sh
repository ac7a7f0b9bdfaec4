#!/usr/bin/env bash
# A late failure throws out whatever is kept under its key by then.
set -euo pipefail
sed -i 's/    return entry.promise;/    entry.promise.catch(() => entries.delete(key));\n    return entry.promise;/' src/memoize.js
