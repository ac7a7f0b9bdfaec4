#!/usr/bin/env bash
# Mends `overlaps`, and does not see who leaned on the mistake.
set -euo pipefail
sed -i 's/return self.start <= other.end and other.start <= self.end/return self.start < other.end and other.start < self.end/' rooms/interval.py
