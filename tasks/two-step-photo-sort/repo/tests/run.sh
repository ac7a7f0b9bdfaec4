#!/usr/bin/env bash
# Prints one line for each test that fails; exit status 1 if any did.
set -u
sort_photos=$(cd "$(dirname "$0")/.." && pwd)/bin/sort-photos
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() { # NAME EXPECTED ACTUAL
  if [ "$2" != "$3" ]; then
    printf 'FAILED %s: expected "%s", got "%s"\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

mkdir -p "$work/inbox/IMG_20240401"
echo one > "$work/inbox/IMG_20240309_1.jpg"
echo two > "$work/inbox/IMG_20231224_x.png"
echo no > "$work/inbox/notes.txt"

said=$("$sort_photos" "$work/inbox" "$work/library")
expect "exit status" 0 $?
expect "prints what it moves" \
  "$(printf '%s\n' 'IMG_20231224_x.png -> 2023/12/IMG_20231224_x.png' 'IMG_20240309_1.jpg -> 2024/03/IMG_20240309_1.jpg')" \
  "$said"
expect "moves by month" "one" "$(cat "$work/library/2024/03/IMG_20240309_1.jpg")"
expect "leaves the rest" "IMG_20240401 notes.txt" "$(cd "$work/inbox" && echo *)"

"$sort_photos" "$work/inbox" 2> "$work/err"
expect "needs two arguments" 2 $?
"$sort_photos" "$work/missing" "$work/library" 2> "$work/err"
expect "needs an inbox" 2 $?

[ "$failures" -eq 0 ] && echo "all passed"
exit $((failures > 0))
