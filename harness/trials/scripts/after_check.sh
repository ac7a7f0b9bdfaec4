# Tells what a check has left, once its processes have ended.
#   $1 its output   $2 bytes of it that are told   $3 a pattern of its reports, from the repo   $4 bytes of them
# Answers, in base64, where there is any: `output=` the end of its output, `report=` its reports, each ended by NUL.
output=$1 output_bytes=$2 pattern=$3 report_bytes=$4
if [ -f "$output" ] && [ ! -L "$output" ] && [ -s "$output" ]; then
  printf output=
  tail -c "$output_bytes" "$output" | base64 -w0
  echo
fi
[ -n "$pattern" ] && cd -P ~/repo 2>/dev/null || exit 0
repo=$PWD
cd -P ~ && home=$PWD
cd "$repo" || exit 0
shopt -s globstar nullglob
IFS=
reports=()
# The pattern is to be expanded, and not to be split. A report is the work's own, or lies in the home.
# shellcheck disable=SC2086
for file in $pattern; do
  if [ ! -f "$file" ] || [ -L "$file" ]; then continue; fi
  case $file in /*) ;; *) file=$repo/$file ;; esac
  cd -P -- "${file%/*}/" 2>/dev/null || continue
  case $PWD/ in "$home"/* | "$repo"/*) reports+=("$PWD/${file##*/}") ;; esac
  cd "$repo" || exit 0
done
if [ "${#reports[@]}" -eq 0 ]; then exit 0; fi
printf report=
for file in "${reports[@]}"; do
  cat -- "$file"
  printf '\0'
done | head -c "$report_bytes" | base64 -w0
echo
