# Names the files that an agent can read beside its repo and that hold one of some lines.
#   $1 a file with the lines   $2 folders, by spaces
# Answers: `file=PATH` for each, up to 50.
for folder in $2; do
  [ -d "$folder" ] || continue
  timeout 60 find "$folder" -xdev '(' -path ~/repo -o -name node_modules -o -path "$1" ')' -prune -o \
    -type f -readable -size -1000k -print0 2>/dev/null
done | timeout 60 xargs -0 -r grep -lIF -f "$1" -- 2>/dev/null | head -n 50 | sed 's/^/file=/'
