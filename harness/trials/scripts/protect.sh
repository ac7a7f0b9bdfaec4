# Makes the protected paths of ~/repo the starter's again, and tells what the agent had done to them. The starter is in
# ~/.harness/starter.
#   $1 an extended regular expression of protected paths, or nothing
#   $2... what each pattern begins with, up to its first wildcard
# Answers: `modified=`, `deleted=`, `added=`: base64 of names, each ended by NUL; nothing where there are none.
set -e
export LC_ALL=C
starter=~/.harness/starter protected=$1
shift
# Each key begins with a slash: as a subscript, `@` alone would mean all of them.
declare -A had hashes modes
added=() deleted=() modified=() other_mode=() same_size=()
# For each protected file: its type, size and target, its mode, and its name.
list() {
  cd "$1" && exec find . -regextype posix-extended -name .git -prune -o -name __pycache__ -prune -o ! -type d \
    -regex "\./$protected" -printf '%y %s %l\0%m\0%P\0'
}
# What stands in the way of a protected path's folders goes first: a link there would lead the rest astray.
clear_way() {
  local name=$1 way=
  while [ "${name#*/}" != "$name" ]; do
    way=$way${name%%/*}
    name=${name#*/}
    if [ -L "$way" ] || { [ -e "$way" ] && [ ! -d "$way" ]; }; then
      added+=("$way")
      rm -f -- "$way"
    fi
    way=$way/
  done
}
# The hashes of files of the work, then of the same files of the starter: each with its name, from the home.
hash_same_size() {
  cd && printf '%s\0' "${same_size[@]/#/repo/}" "${same_size[@]/#/.harness/starter/}" | xargs -0 sha256sum -z --
}
told() { [ $# -le 1 ] || echo "$1=$(printf '%s\0' "${@:2}" | base64 -w0)"; }
cd ~/repo
for start; do clear_way "$start"; done
if [ -n "$protected" ]; then
  while IFS= read -r -d '' what && IFS= read -r -d '' mode && IFS= read -r -d '' name; do
    had[/$name]=$what modes[/$name]=$mode
    clear_way "$name"
  done < <(list "$starter")
  while IFS= read -r -d '' what && IFS= read -r -d '' mode && IFS= read -r -d '' name; do
    [ "${modes[/$name]-$mode}" = "$mode" ] || other_mode+=("$name")
    case ${had[/$name]-} in
      '') added+=("$name") && continue ;;
      # What has another size is not read: a sparse file may be without an end.
      "$what") if [ "${what%% *}" = f ]; then same_size+=("$name"); fi ;;
      *) modified+=("$name") ;;
    esac
    had[/$name]=
  done < <(list ~/repo)
  # Also a folder that stands where the starter has a file.
  for key in "${!had[@]}"; do [ -z "${had[$key]}" ] || deleted+=("${key#/}"); done
fi
if [ ${#same_size[@]} -gt 0 ]; then
  while IFS= read -r -d '' line; do
    hash=${line::64} file=${line:66}
    case $file in
      repo/*) hashes[/${file#repo/}]=$hash ;;
      *)
        name=${file#.harness/starter/}
        [ "${hashes[/$name]-}" = "$hash" ] || modified+=("$name")
        ;;
    esac
  done < <(hash_same_size)
fi
if [ $((${#deleted[@]} + ${#modified[@]} + ${#added[@]})) -gt 0 ]; then
  printf '%s\0' "${deleted[@]}" "${modified[@]}" "${added[@]}" | xargs -0 rm -rf --
fi
# Another mode alone is none of tampering: `chmod -R` is an everyday command.
if [ $((${#deleted[@]} + ${#modified[@]} + ${#other_mode[@]})) -gt 0 ]; then
  printf '%s\0' "${deleted[@]}" "${modified[@]}" "${other_mode[@]}" | tar -C "$starter" --null --no-recursion -T - -cf - | tar -xpf -
fi
find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} +
told modified "${modified[@]}"
told deleted "${deleted[@]}"
told added "${added[@]}"
