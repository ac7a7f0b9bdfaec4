# Packs what the agent has left, in a tar. Nothing here is trusted: what the agent can forge is its own work. The bounds
# are what keeps a hostile tree from costing more than they say.
#   $1 a folder   $2 what of it: `.` without the .git at its top, or a name below it
#   $3 files   $4 KiB on disk   $5 folders below each other   $6 bytes of the tar   $7 bytes that are told
#   $8...      patterns that are left out
# Answers: `kib=` and `files=` of what was packed, then `tar=` (base64, when it is small) or `path=` (a file), or
# `absent=` where there is nothing of that name. `refused=` says why there is nothing to be had.
folder=$1 what=$2 max_files=$3 max_kib=$4 max_depth=$5 max_bytes=$6 told_bytes=$7
shift 7
export LC_ALL=C
refuse() {
  echo "refused=$1"
  exit 0
}
[ -w ~ ] || chmod u+rwx ~ 2>/dev/null
if [ "$what" = . ]; then
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then refuse "it is no folder any more"; fi
  [ -x "$folder" ] || chmod u+rwx "$folder" 2>/dev/null
fi
cd "$folder" 2>/dev/null || refuse "it cannot be entered"
if [ ! -e "$what" ] && [ ! -L "$what" ]; then
  echo "absent=1"
  exit 0
fi
skip=(-path ./.git)
exclude=(--exclude=./.git)
for pattern; do
  skip+=(-o -path "./$pattern")
  exclude+=("--exclude=./$pattern")
done
sizes=$(
  find "$what" -xdev '(' "${skip[@]}" ')' -prune -o -type d ! -perm -700 -exec chmod u+rwx {} \; -printf '%k %d %p\0' \
    -o -type f ! -perm -400 -exec chmod u+r {} \; -printf '%k %d %p\0' -o -printf '%k %d %p\0' 2>/dev/null |
    awk -v RS='\0' -v files="$max_files" -v kib="$max_kib" -v depth="$max_depth" '
      { count += 1; sum += $1
        if (count > files) { print "refused=it has more than " files " files"; told = 1; exit }
        if (sum > kib) { print "refused=it has more than " kib " KiB on disk"; told = 1; exit }
        if ($2 > depth) { print "refused=it has folders more than " depth " deep"; told = 1; exit }
        if (length($0) > 4000) { print "refused=it has a path of more than 4000 bytes"; told = 1; exit } }
      END { if (!told) { print "files=" count; print "kib=" sum } }'
)
echo "$sizes"
case $sizes in *refused=*) exit 0 ;; esac
kib=${sizes##*kib=}
pack() {
  tar --anchored "${exclude[@]}" --one-file-system -S --no-xattrs --numeric-owner -cf - -- "$what"
}
if [ "$kib" -le $((told_bytes / 1024)) ]; then
  told=$(pack 2>/dev/null | base64 -w0)
  if [ "${#told}" -le $((told_bytes * 4)) ]; then
    echo "tar=$told"
    exit 0
  fi
fi
file=$(mktemp ~/.harness-work-XXXXXXXX 2>/dev/null || mktemp /tmp/harness-work-XXXXXXXX 2>/dev/null) ||
  refuse "the sandbox has no room to pack it"
{
  pack 2>"$file.err"
  echo "$?" >"$file.code"
} | head -c "$((max_bytes + 1))" >"$file" || refuse "the sandbox has no room to pack it"
code=$(cat "$file.code")
if [ "$(wc -c <"$file")" -gt "$max_bytes" ]; then
  rm -f "$file"
  refuse "it has more than $max_bytes bytes"
fi
if [ "${code:-2}" -gt 1 ]; then refuse "it cannot be read: $(head -c 300 "$file.err" | tr '\n' ' ')"; fi
echo "path=$file"
