# Makes the protected paths of ~/repo the starter's again, and tells what the agent had done to them.
#   $1 the folder with the starter   $2... patterns, as bash's globstar and dotglob read them
# Answers: `modified=`, `deleted=`, `added=`: base64 of names, each ended by NUL.
set -e
export LC_ALL=C
starter=$1
shift
shopt -s globstar dotglob nullglob
scratch=$(mktemp -d ~/.harness/protect-XXXXXXXX)
# What stands in the way of a protected path's folders goes first: a link there would lead the rest astray.
clear_way() {
  while IFS= read -r -d '' name; do
    way=
    while [ "${name#*/}" != "$name" ]; do
      way=$way${name%%/*}
      name=${name#*/}
      if [ -L "$way" ] || { [ -e "$way" ] && [ ! -d "$way" ]; }; then
        printf '%s\0' "$way"
        rm -f -- "$way"
      fi
      way=$way/
    done
  done
}
matches() {
  cd "$1"
  (
    IFS=
    for pattern in "${patterns[@]}"; do
      # The pattern is to be expanded, and not to be split.
      # shellcheck disable=SC2086
      for name in $pattern; do
        name=${name%/}
        case /$name/ in */.git/* | */__pycache__/*) continue ;; esac
        # A pattern without a wildcard stands for itself, whether or not there is such a file.
        if [ -L "$name" ] || { [ -e "$name" ] && [ ! -d "$name" ]; }; then printf '%s\0' "$name"; fi
      done
    done
  ) | sort -zu
}
patterns=("$@")
matches "$starter" >"$scratch/starter"
cd ~/repo
for pattern; do
  printf '%s\0' "${pattern%%[][*?]*}"
done | cat - "$scratch/starter" | clear_way >"$scratch/way"
matches ~/repo >"$scratch/work"
cd ~/repo
comm -z -23 "$scratch/starter" "$scratch/work" >"$scratch/deleted"
comm -z -13 "$scratch/starter" "$scratch/work" >"$scratch/added"
comm -z -12 "$scratch/starter" "$scratch/work" | while IFS= read -r -d '' name; do
  if [ -L "$name" ] || [ -L "$starter/$name" ]; then
    [ "$(readlink -- "$name")" = "$(readlink -- "$starter/$name")" ] || printf '%s\0' "$name"
  elif [ ! -f "$name" ]; then
    printf '%s\0' "$name"
  else
    printf '%s\0' "$name" >&3
  fi
done >"$scratch/modified" 3>"$scratch/files"
# What has another size is not read: a sparse file may be without an end.
sizes() { cd "$1" && xargs -0r stat --printf '%s %n\0' -- <"$scratch/files" | sort -z; }
sizes "$starter" >"$scratch/sizes"
sizes ~/repo >"$scratch/sizes-now"
comm -z -13 "$scratch/sizes" "$scratch/sizes-now" | sed -z 's/^[0-9]* //' >>"$scratch/modified"
comm -z -12 "$scratch/sizes" "$scratch/sizes-now" | sed -z 's/^[0-9]* //' >"$scratch/same-size"
hashes() { cd "$1" && xargs -0r sha256sum -z -- <"$scratch/same-size" | sort -z; }
comm -z -13 <(hashes "$starter") <(hashes ~/repo) | cut -z -c67- >>"$scratch/modified"
# A folder that stands where the starter has a file is in the way too.
cat "$scratch/deleted" "$scratch/modified" "$scratch/added" | xargs -0r rm -rf --
cat "$scratch/deleted" "$scratch/modified" | tar -C "$starter" --null --no-recursion -T - -cf - | tar -xpf -
find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} +
for change in modified deleted; do echo "$change=$(base64 -w0 <"$scratch/$change")"; done
echo "added=$(cat "$scratch/way" "$scratch/added" | base64 -w0)"
