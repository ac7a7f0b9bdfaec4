#!/usr/bin/env bash
# Stores only what has come: callers no longer share a call that is under way.
set -euo pipefail
sed -i 's/  function memoized/  async function memoized/; s/promise: Promise.resolve(fn(...args))/promise: await fn(...args)/' src/memoize.js
