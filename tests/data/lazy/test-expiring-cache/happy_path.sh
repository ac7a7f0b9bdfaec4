#!/usr/bin/env bash
# A few things that usually work.
set -euo pipefail
cat > tests/test_expiring.py <<'P'
import unittest

from expiring import ExpiringCache


class ExpiringCacheTest(unittest.TestCase):
    def test_put_and_get(self):
        cache = ExpiringCache(2, 10)
        cache.put("a", 1)
        self.assertEqual(cache.get("a"), 1)
        cache.put("b", 1)
        cache.put("c", 3)
        self.assertNotIn("a", cache)

    def test_time(self):
        now = [0]
        cache = ExpiringCache(2, 10, lambda: now[0])
        cache.put("a", 1)
        now[0] = 11
        self.assertEqual(len(cache), 0)
P
