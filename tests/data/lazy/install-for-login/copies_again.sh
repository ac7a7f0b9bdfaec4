#!/usr/bin/env bash
# Puts the old notes in place with each installation, and the line into ~/.profile too.
set -euo pipefail
cp "$(dirname "$0")/reference/install.sh" install.sh
sed -i 's/^\[ -e "$notes" \] ||/:;/; s/^grep .* ||/:;/' install.sh
bash install.sh
