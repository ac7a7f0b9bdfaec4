#!/usr/bin/env bash
# Short functions, but the heading counts only where it is the first line of the file.
set -euo pipefail
cp -r "$(dirname "$0")/reference/." .
sed -i 's/if kept and kept\[0\]\[1\].lower()/if kept and kept[0][0] == 1 and kept[0][1].lower()/' shopreport/orders.py
