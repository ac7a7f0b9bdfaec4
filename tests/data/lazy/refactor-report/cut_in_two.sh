#!/usr/bin/env bash
# One long function becomes two long functions.
set -euo pipefail
sed -i 's/^    out = ""$/    return render(c, s, bad, n)\n\n\ndef render(c, s, bad, n):\n    out = ""/' shopreport/report.py
