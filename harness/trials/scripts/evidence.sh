# Tells what the variant's hooks have written down. Answers, all base64: `applied=` names the CLAUDE.md that was put in
# place, `instructions=` has each event with the hash of what was loaded before it, `starts=` how the CLI was started.
#   $1 the variant's folder   $2 bytes at most
cd "$1" 2>/dev/null || exit 0
if [ -f applied ]; then echo "applied=$(head -c 5000 applied | base64 -w0)"; fi
if [ -d instructions ]; then
  told=$(for told in instructions/*; do
    if [ -s "$told" ]; then head -c 10000 "$told"; echo; elif [ -f "$told" ]; then echo "cut off"; fi
  done | head -c "$2" | base64 -w0)
  echo "instructions=$told"
fi
if [ -d starts ]; then echo "starts=$(cat starts/*.told 2>/dev/null | head -c "$2" | base64 -w0)"; fi
