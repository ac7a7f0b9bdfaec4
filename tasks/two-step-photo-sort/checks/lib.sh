# Sourced by the checks: a work folder, and comparisons that explain themselves.
set -u
export LC_ALL=C
sort_photos=$PWD/bin/sort-photos
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() { # NAME EXPECTED ACTUAL
  if [ "$2" != "$3" ]; then
    printf '%s\n  expected: %q\n  got:      %q\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

tree() { # FOLDER: each file in it with its content, and each folder, sorted
  (cd -- "$1" && find . -type d -print0 -o -type f -print0 | while IFS= read -r -d '' path; do
    if [ -d "$path" ]; then
      printf '%q/\n' "$path"
    else
      printf '%q: %s\n' "$path" "$(cat -- "$path")"
    fi
  done) | sort
}

finish() {
  exit $((failures > 0))
}
