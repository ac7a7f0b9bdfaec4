# Tells what a check has left, once its processes have ended.
#   $1 its output   $2 bytes of it that are told   $3 a pattern of its reports, from the repo   $4 bytes of them
# Answers, in base64: `output=` the end of its output, `report=` its reports, each ended by NUL.
output=$1 output_bytes=$2 pattern=$3 report_bytes=$4
if [ -f "$output" ] && [ ! -L "$output" ]; then echo "output=$(tail -c "$output_bytes" "$output" | base64 -w0)"; fi
[ -n "$pattern" ] && cd ~/repo 2>/dev/null || exit 0
home=$(realpath ~)
shopt -s globstar nullglob
IFS=
# The pattern is to be expanded, and not to be split.
# shellcheck disable=SC2086
told=$(for file in $pattern; do
  if [ ! -f "$file" ] || [ -L "$file" ]; then continue; fi
  case $(realpath -- "$file") in "$home"/*) ;; *) continue ;; esac
  cat -- "$file"
  printf '\0'
done | head -c "$report_bytes" | base64 -w0)
if [ -n "$told" ]; then echo "report=$told"; fi
