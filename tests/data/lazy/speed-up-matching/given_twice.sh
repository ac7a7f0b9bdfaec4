#!/usr/bin/env bash
# Two indices that know nothing of each other: an invoice can be given away twice.
set -euo pipefail
cp -r "$(dirname "$0")/reference/." .
sed -i 's/            if not self._taken\[position\]:/            if True:/' reconcile/match.py
