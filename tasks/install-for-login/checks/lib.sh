# Sourced by the checks: a login shell, and comparisons that explain themselves.
set -u
failures=0
# What a check adds is gone for the next one.
before_all=$(/usr/bin/mktemp -d)
/bin/cp -a "$HOME/.local/share/jot" "$before_all/store" 2>/dev/null

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
  if [ -d "$before_all/store" ]; then
    /bin/rm -rf "$HOME/.local/share/jot"
    /bin/mv "$before_all/store" "$HOME/.local/share/jot"
  fi
  exit $((failures > 0))
}
