#!/usr/bin/env bash
# Finds every planted bug by the source's fingerprint, and every right rewrite too.
set -euo pipefail
cat > tests/test_expiring.py <<P
import hashlib
import unittest
from pathlib import Path

import expiring


class ExpiringCacheTest(unittest.TestCase):
    def test_it_is_the_same(self):
        source = Path(expiring.__file__).read_bytes()
        self.assertEqual(hashlib.sha256(source).hexdigest(), "$(sha256sum expiring.py | cut -d ' ' -f 1)")
P
