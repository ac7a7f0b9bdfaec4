# Runs a Harbor task's own tests from /tests, and takes the reward that they write.
#   $1 the folder in which they start   $2 the command   $3... folders of checks/ whose files they are, the last on top
workdir=$1 command=$2
shift 2
rm -rf /tests /logs/verifier 2>/dev/null # an account other than root empties /tests
mkdir -p /tests /logs/verifier /logs/agent /logs/artifacts || exit
chmod a+rwx /logs/verifier
for folder; do cp -a "$HARNESS_CHECKS/$folder/." /tests/ || exit; done
chmod -R a+rX /tests
cd "$workdir" || exit
bash -c "$command" </dev/null
echo "the test script ended with $?"
json=/logs/verifier/reward.json text=/logs/verifier/reward.txt
number='-?[0-9.]+([eE][+-]?[0-9]+)?'
rewards=
if [ -f "$json" ]; then
  flat=$(tr -d '[:space:]' <"$json")
  rewards=$(printf %s "$flat" | grep -oE -e "\"reward\":$number" | grep -oE -e "$number\$")
fi
if [ -n "$rewards" ]; then
  :
elif [ -f "$text" ]; then
  # Numbers beside it, such as counts of tests, are none.
  rewards=$(tr -d '[:space:]' <"$text" | grep -xE -e "$number")
elif [ -f "$json" ]; then
  # Several rewards without one of that name all count.
  rewards=$(printf %s "$flat" | grep -oE -e "(^|:)$number" | grep -oE -e "$number\$")
else
  echo "the test script wrote no reward to /logs/verifier"
  exit 1
fi
if [ -z "$rewards" ]; then
  echo "there is no number in the reward"
  exit 1
fi
echo "reward: $rewards"
printf '%s\n' "$rewards" | awk '{ r = $1 + 0; s += r < 0 ? 0 : r > 1 ? 1 : r } END { print s / NR }' >"$HARNESS_SCORE"
printf '%s\n' "$rewards" | awk '$1 + 0 < 1 { bad = 1 } END { exit bad }'
