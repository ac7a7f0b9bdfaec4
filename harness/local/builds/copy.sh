# bash -l -c THIS copy STAGING SOURCE TARGET MODE OWNER
# Unpack STAGING/archive, and copy SOURCE (a file, a folder, or a pattern) to TARGET. The content of a folder is copied
# into TARGET. A file becomes TARGET, or is copied into it if TARGET is a folder or if there are several files. OWNER owns
# the copies; where it is empty, who runs this.
set -eu
shopt -s nullglob dotglob globstar
staging=$1 source=$2 target=$3 mode=$4 owner=$5
case $target in /*) ;; *) target=$PWD/$target ;; esac
mkdir "$staging/files"
tar --extract --no-same-owner --file "$staging/archive" --directory "$staging/files"
cd "$staging/files"
if [ -e "$source" ] || [ -L "$source" ]; then
    found=("$source")
else
    # shellcheck disable=SC2206  # a pattern is to be spread
    IFS= found=($source)
fi
[ ${#found[@]} -gt 0 ] || { echo "nothing matches $source" >&2; exit 1; }
if [ -n "$mode" ]; then
    chmod -R "$mode" "${found[@]}"
fi
if [ -n "$owner" ]; then
    chown -R -h "$owner" "${found[@]}"
fi
if [ ${#found[@]} -gt 1 ]; then
    target=${target%/}/
fi
for one in "${found[@]}"; do
    if [ -d "$one" ] && [ ! -L "$one" ]; then
        mkdir -p "$target"
        cp -a "$one/." "$target"
    else
        case $target in */) mkdir -p "$target" ;; *) mkdir -p "$(dirname "$target")" ;; esac
        cp -a "$one" "$target"
    fi
done
cd /
rm -rf "$staging"
