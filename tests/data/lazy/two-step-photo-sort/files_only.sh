#!/usr/bin/env bash
# Takes a name as free when it is a folder or a broken link there.
set -euo pipefail
cp -r "$(dirname "$0")/reference/." .
sed -i -e 's/ || -L $1\/$free//' -e 's/while \[\[ -e/while [[ -f/' bin/sort-photos
