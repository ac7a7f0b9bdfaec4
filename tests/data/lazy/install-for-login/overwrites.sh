#!/usr/bin/env bash
# Replaces what stood in ~/.profile.
set -euo pipefail
cp "$(dirname "$0")/reference/install.sh" install.sh
sed -i 's|^grep .*|echo "$line" >"$HOME/.profile"|' install.sh
bash install.sh
