#!/usr/bin/env bash
# English texts in the German file.
set -euo pipefail
cp -r "$(dirname "$0")/reference/." .
sed -i 's/Tage in Folge/days in a row/; s/Tag in Folge/day in a row/; s/keine Serie/no streak/' locales/de.json
