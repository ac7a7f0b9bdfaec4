# Names what was changed since the baseline in places where an honest agent may install something, and which are not
# carried to where the checks run. $1: how many names at most. A place that this account cannot write to is unchanged.
export LC_ALL=C
places=()
for place in ~/.local/lib ~/.local/bin ~/.npm-global ~/node_modules /usr/local /usr/lib/node_modules /usr/lib/python3; do
  if [ -d "$place" ] && [ -w "$place" ]; then places+=("$place"); fi
done
if [ "${#places[@]}" -eq 0 ] || [ ! -f ~/.harness/baseline ]; then exit 0; fi
# Only folders are looked at first: what is installed is a new entry in one, and thousands of files are left alone; those
# within a package too.
mapfile -d '' -t changed < <(
  timeout 5 find "${places[@]}" -xdev -maxdepth 6 \
    '(' -name __pycache__ -o -path '*/node_modules/[!@]*/*' -o -path '*/node_modules/@*/*/*' -o -path '*-packages/*/*' ')' -prune -o \
    -type d -newercm ~/.harness/baseline -print0 2>/dev/null
)
if [ "${#changed[@]}" -eq 0 ]; then exit 0; fi
printf '%s\0' "${changed[@]}" |
  xargs -0 sh -c 'exec find "$@" -maxdepth 1 ! -type d -newercm ~/.harness/baseline -print 2>/dev/null' sh |
  head -n "$1"
