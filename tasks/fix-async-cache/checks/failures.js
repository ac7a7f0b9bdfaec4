#!/usr/bin/env node
// A failure is forgotten, harms no newer call, and leaves nothing unhandled; a later success is kept.
"use strict";

require("./lib.js").check({
  retry: [
    "first failed: down",
    "1 calls, size 0",
    "2 calls, size 1",
    "second failed: still down",
    'third got "Ada"',
    'fourth got "Ada"',
    "3 calls, size 1",
  ],
  cleared: [
    "first failed: down",
    "2 calls, size 1",
    'second got "Ada"',
    'third got "Ada"',
    'fourth got "Ada"',
    "2 calls, size 1",
  ],
  expired: ['second got "Ben"', "first failed: late", 'third got "Ben"', "2 calls, size 1"],
});
