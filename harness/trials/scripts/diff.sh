# Tells what the work changed, by a git that the agent never touched: ~/.harness/diff.git has its settings, and finds the
# starter's objects.
#   $1 `setup` where setup commands have changed the starter since its commit, else `commit`
#   $2 bytes: a larger file is left out   $3 bytes of the diff that are told   $4 how many ignored paths are told
# The trees have the files of nested repositories, and no settings of the repo's own take part. Answers: `large=`,
# `refused=` and `ignored=` (base64 of names, each ended by NUL), and `diff=` (base64) or `path=`.
set -e
since=$1 largest=$2 told=$3 names=$4
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_DIR=$HOME/.harness/diff.git
export GIT_INDEX_FILE=$HOME/.harness/starter/.git/index
read -r before <~/.harness/starter/.git/refs/heads/main
# Puts all of a folder into the index, but files that are too large.
add_all() {
  export GIT_WORK_TREE=$1
  cd "$1"
  # A file of rules that is no file, or a huge one, git would read for ever.
  # Its own name in other letters, and a link of the name of its modules' file, it takes from nobody.
  find . -mindepth 1 -path ./.git -prune -o -name .git -fprintf "$GIT_DIR/nested" '%h\0' -prune \
    -o '(' -iname .git -o -name .gitmodules -type l ')' -fprintf "$GIT_DIR/refused" '%P\0' -prune \
    -o -name '.git?*' ! -type d ! -type l '(' ! -type f -o -size +1024k ')' -exec rm -f {} + \
    -o -type f -name .gitignore -fprintf "$GIT_DIR/rules" '%P\0' \
    -o -type f -size +"$largest"c -fprintf "$GIT_DIR/large" '%P\0'
  # A nested repository's HEAD it would read too: that may be a FIFO.
  if [ -s "$GIT_DIR/large" ] || [ -s "$GIT_DIR/nested" ]; then
    { printf ':/\0'; cat "$GIT_DIR/large" "$GIT_DIR/nested" | sed -z 's/^/:(exclude,literal)/'; } |
      git add -A --ignore-errors --pathspec-from-file=- --pathspec-file-nul 2>/dev/null || true
  else
    git add -A --ignore-errors 2>/dev/null || true
  fi
  # Files in a repository of the agent's own are its work too; git would take each for a submodule.
  while IFS= read -r -d '' nested; do
    git rm -rfq --cached --ignore-unmatch -- "$nested" 2>/dev/null || true
    find "$nested" '(' -iname .git -o -name .gitmodules -type l ')' -prune -o '(' -type f ! -size +"$largest"c -o -type l ')' -print0 |
      sed -z 's,^\./,,' | git update-index --add -z --stdin
  done <"$GIT_DIR/nested"
  : >"$GIT_DIR/ignored"
  if [ -s "$GIT_DIR/rules" ]; then list_ignored; fi
  # A rule that hides itself is told all the same.
  if [ -s "$GIT_DIR/ignored" ] && grep -zE '(^|/)\.gitignore$' "$GIT_DIR/ignored" >"$GIT_DIR/hidden"; then
    git update-index --add -z --stdin <"$GIT_DIR/hidden"
    list_ignored
  fi
}
list_ignored() { git ls-files -o -i --exclude-standard --directory -z >"$GIT_DIR/ignored"; }
if [ "$since" = setup ]; then
  add_all ~/.harness/starter
  before=$(git write-tree)
fi
add_all ~/repo
if [ -s "$GIT_DIR/large" ]; then echo "large=$(base64 -w0 <"$GIT_DIR/large")"; fi
if [ -s "$GIT_DIR/refused" ]; then echo "refused=$(head -zn "$names" "$GIT_DIR/refused" | base64 -w0)"; fi
if [ -s "$GIT_DIR/ignored" ]; then echo "ignored=$(head -zn "$names" "$GIT_DIR/ignored" | base64 -w0)"; fi
git -c core.quotePath=false diff --cached --binary --no-ext-diff --no-textconv --no-color "$before" >"$GIT_DIR/diff.patch"
size=$(wc -c <"$GIT_DIR/diff.patch")
if [ "$size" -le "$told" ]; then echo "diff=$(base64 -w0 <"$GIT_DIR/diff.patch")"; else echo "path=$GIT_DIR/diff.patch"; fi
