#!/usr/bin/env bash
# Prints one line for each test that fails; exit status 1 if any did.
set -u
snapshot=$(cd "$(dirname "$0")/.." && pwd)/bin/snapshot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() { # NAME EXPECTED ACTUAL
  if [ "$2" != "$3" ]; then
    printf 'FAILED %s: expected "%s", got "%s"\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

mkdir "$work/source"
echo hello > "$work/source/a file.txt"

made=$(SNAPSHOT_TIME=20240301-120000 "$snapshot" "$work/source" "$work/store")
expect "prints the new snapshot" "$work/store/snap-20240301-120000" "$made"
expect "copies the files" "hello" "$(cat "$made/a file.txt")"

SNAPSHOT_TIME=20240301-120000 "$snapshot" "$work/source" "$work/store" 2> "$work/err"
expect "refuses to overwrite" "1" "$?"

"$snapshot" "$work/missing" "$work/store" 2> "$work/err"
expect "needs a source" "1" "$?"

"$snapshot" "$work/source" 2> "$work/err"
expect "needs two arguments" "2" "$?"

[ "$failures" -eq 0 ] && echo "all passed"
exit $((failures > 0))
