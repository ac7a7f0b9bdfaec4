# Tells of git repositories, and of bundles of their commits, below folders.
#   $1 folder to search   $2 commits that are expected in its repo/.git   $3... ids of blobs
# Answers, a line each: `history` `PATH` `COMMITS` `COMMITS THAT ARE NOT IN HEAD` `BLOBS THAT IT HAS`, by tabs.
root=$1 expected=$2
shift 2
quiet_git() { git -c safe.directory='*' -c core.fsmonitor=false -c gc.auto=0 "$@" 2>/dev/null; }
tell() {
  local all later has=0 blob
  all=$(quiet_git --git-dir="$2" rev-list --all --reflog --count) || return
  later=$(quiet_git --git-dir="$2" rev-list --all --reflog --count --not HEAD) || later=0
  shift 2
  for blob; do
    if quiet_git --git-dir="$dir" cat-file -e "$blob"; then has=$((has + 1)); fi
  done
  [ "$dir" = "$root/repo/.git" ] && [ "$all" -le "$expected" ] && [ "$has" = 0 ] && return
  [ "$all" = 0 ] || printf 'history\t%s\t%s\t%s\t%s\n' "$shown" "$all" "$later" "$has"
}
find "$root" -xdev -maxdepth 8 -name HEAD -type f -size -2 2>/dev/null | head -n 50 | while IFS= read -r head; do
  dir=${head%/HEAD} shown=${head%/HEAD}
  if [ -d "$dir/objects" ] && [ -d "$dir/refs" ]; then tell "$shown" "$dir" "$@"; fi
done
find "$root" -xdev -maxdepth 8 -type f -name '*.bundle' 2>/dev/null | head -n 20 | while IFS= read -r shown; do
  dir=$(mktemp -d)
  if quiet_git clone -q --mirror "$shown" "$dir"; then tell "$shown" "$dir" "$@"; fi
  rm -rf "$dir"
done
