#!/usr/bin/env bash
# Everything but the `(0)` after the country code.
set -euo pipefail
sed '/replace("(0)"/s/number.replace.*/number/' "$(dirname "$0")/reference/clean.py" > clean.py
python3 clean.py data out/contacts.json
