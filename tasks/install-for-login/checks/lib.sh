# Sourced by the checks: a login shell, and comparisons that explain themselves.
set -u
failures=0

login() { # COMMAND, in an empty directory
  /usr/bin/env -i HOME="$HOME" TERM=dumb /bin/bash -lc "cd / && $1" </dev/null 2>&1
}

place() { # what the login shell takes for jot
  local found
  found=$(/usr/bin/realpath -- "$(login 'command -v jot')" 2>/dev/null)
  if [[ $found != "$HOME"/repo/* ]] && /usr/bin/cmp -s -- "$found" "$HOME/repo/bin/jot"; then
    echo "a copy of bin/jot outside of the checkout"
  else
    echo "${found:-nothing}"
  fi
}

numbered() { # the old notes, as jot lists them
  echo '1 buy  two   lamps'
  echo '2 *.txt is no pattern'
  echo '3 \n is two characters'
  echo '4   begins with two spaces'
}

expect() { # NAME EXPECTED ACTUAL
  if [ "$2" != "$3" ]; then
    printf '%s\n  expected: %q\n  got:      %q\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

finish() {
  exit $((failures > 0))
}
