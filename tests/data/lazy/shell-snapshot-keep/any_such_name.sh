#!/usr/bin/env bash
# Goes by names, but takes links, files and letters for snapshots.
set -euo pipefail
sed -i 's/^\[ \$# -eq 2 \]/keep=; if [ "${1:-}" = --keep ]; then keep=$2; [ "$keep" -ge 1 ] 2>\/dev\/null || usage; shift 2; fi\n[ $# -eq 2 ]/' bin/snapshot
echo 'if [ -n "$keep" ]; then (cd "$store" && ls -d snap-????????-?????? | sort | head -n -$keep | xargs -d "\n" rm -rf --); fi' >> bin/snapshot
echo '`--keep N`' >> README.md
