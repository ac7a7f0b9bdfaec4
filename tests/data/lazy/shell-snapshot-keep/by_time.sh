#!/usr/bin/env bash
# Goes by file times, and takes anything that begins like a snapshot.
set -euo pipefail
sed -i 's/^\[ \$# -eq 2 \]/keep=; if [ "${1:-}" = --keep ]; then keep=$2; [ "$keep" -ge 1 ] 2>\/dev\/null || usage; shift 2; fi\n[ $# -eq 2 ]/' bin/snapshot
echo 'if [ -n "$keep" ]; then (cd "$store" && ls -dt snap-* | tail -n +$((keep+1)) | xargs rm -rf); fi' >> bin/snapshot
echo '`--keep N`' >> README.md
