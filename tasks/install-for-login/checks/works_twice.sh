#!/bin/bash
# A second installation adds nothing twice, and keeps what was written since the first, and what ~/.profile had.
. "$(/usr/bin/dirname "$0")/lib.sh"

login 'jot add later'
before=$(login 'jot list')
lines=$(/usr/bin/wc -l <"$HOME/.profile")
(cd "$HOME/repo" && /bin/bash install.sh) >/dev/null 2>&1
expect "exit status of install.sh" 0 $?
expect "the notes" "$before" "$(login 'jot list')"
expect "the lines of ~/.profile" "$lines" "$(/usr/bin/wc -l <"$HOME/.profile")"
finish
