# Runs a Harbor task's own solution from /solution.
#   $1 the folder in which it starts
here=$(cd "$(dirname "$0")" && pwd)
rm -rf /solution 2>/dev/null # an account other than root empties it
mkdir -p /solution /logs/agent /logs/verifier /logs/artifacts || exit
cp -a "$here/files/." /solution/ || exit
export DEBIAN_FRONTEND=noninteractive
cd "$1" || exit
exec bash /solution/solve.sh </dev/null
