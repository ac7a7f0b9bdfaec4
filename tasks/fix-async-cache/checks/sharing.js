#!/usr/bin/env node
// Callers share the call that is under way, also one that fails; any value is kept.
"use strict";

require("./lib.js").check({
  shared: [
    "2 calls, size 2",
    "first failed: down",
    "second failed: down",
    'other got "Ben"',
    "3 calls, size 2",
    "fourth got undefined",
    "third got undefined",
    'another got "Ben"',
    "fifth got undefined",
    "3 calls, size 2",
  ],
});
