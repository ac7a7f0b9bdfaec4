#!/usr/bin/env bash
set -euo pipefail
cp "$(dirname "$0")/clean.py" clean.py
python3 clean.py data out/contacts.json
