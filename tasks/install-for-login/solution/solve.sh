#!/usr/bin/env bash
# Applies the reference: the script, and that it is run.
set -euo pipefail
cp -- "$(dirname -- "$0")/install.sh" install.sh
bash install.sh
