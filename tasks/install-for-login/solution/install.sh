#!/usr/bin/env bash
# Installs jot for this user, with the old notes; a second time changes nothing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

bin=$HOME/.local/bin
notes=$HOME/.local/share/jot/notes.txt
mkdir -p -- "$bin" "$(dirname -- "$notes")"
install -m 755 bin/jot "$bin/jot"
[ -e "$notes" ] || cp -- old-notes.txt "$notes"

# A login shell of bash reads the first of these that is there.
profile=$HOME/.profile
for file in "$HOME/.bash_profile" "$HOME/.bash_login"; do
  if [ -e "$file" ]; then
    profile=$file
    break
  fi
done
touch "$HOME/.profile"
line='export PATH="$HOME/.local/bin:$PATH"'
grep -qxF -- "$line" "$profile" || printf '%s\n' "$line" >>"$profile"
