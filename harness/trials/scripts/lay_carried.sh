# Puts a path that was carried in its place, in a sandbox where no agent has been. Runs as root.
#   $1 the path   $2 UID:GID of the sandbox's user   $3 the tar, below the home; none: the path is to be absent
set -e
path=$1 owner=$2 tar=$3
rm -rf -- "$path"
if [ -z "$tar" ]; then exit 0; fi
parent=$(dirname -- "$path")
mkdir -p -- "$parent"
tar -xpf "$HOME/$tar" -C "$parent" --numeric-owner -- "./$(basename -- "$path")"
rm -f -- "$HOME/$tar"
find "$path" -xdev -type f -perm /6000 -exec chmod ug-s {} +
case $path in "$HOME"/*) chown -hR "$owner" "$path" ;; esac
