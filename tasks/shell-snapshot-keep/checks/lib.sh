# Sourced by the checks: a work folder, and comparisons that explain themselves.
set -u
snapshot=$PWD/bin/snapshot
work=$(mktemp -d)
trap 'chmod -R u+w "$work" 2> /dev/null; rm -rf "$work"' EXIT
failures=0

expect() { # NAME EXPECTED ACTUAL
  if [ "$2" != "$3" ]; then
    printf '%s\n  expected: %s\n  got:      %s\n' "$1" "${2//$'\n'/ | }" "${3//$'\n'/ | }"
    failures=$((failures + 1))
  fi
}

names() { # STORE: what is in it, in order
  (cd -- "$1" && LC_ALL=C ls -A)
}

finish() {
  exit $((failures > 0))
}

mkdir "$work/source"
echo new > "$work/source/file"
