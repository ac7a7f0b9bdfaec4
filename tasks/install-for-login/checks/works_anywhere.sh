#!/bin/bash
# In a new login shell, in another directory, a copy of `jot` has the old notes and takes a new one.
. "$(/usr/bin/dirname "$0")/lib.sh"

expect "where jot is found" "a copy of bin/jot outside of the checkout" "$(place)"
expect "the notes" "$(numbered)" "$(login 'jot list')"
login 'jot add "a new  one"'
expect "the notes with a new one" "$(numbered; echo '5 a new  one')" "$(login 'jot list')"
expect "what ~/.profile set before" "ed more" "$(login 'echo $EDITOR $PAGER')"
finish
