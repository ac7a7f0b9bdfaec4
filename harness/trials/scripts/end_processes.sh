# Ends every process that was started since the baseline, whoever owns it: what was left behind could forge a verdict.
#   $1 clock ticks of the baseline   $2 `all`, or `marked` where processes of others are in sight: then only those that
#   carry the trial's mark   $3 the mark   $4 the id of the harness's own process   $5 when it started, in clock ticks
since=$1 scope=$2 mark=HARNESS_TRIAL=$3
# An engine may run on the harness's machine without walls, and not tell: then all of that machine's processes are here.
if { read -r line <"/proc/$4/stat"; } 2>/dev/null; then
  started=$5
  # shellcheck disable=SC2086
  set -- ${line##*) }
  [ "${20}" != "$started" ] || scope=marked
fi
keep=" $BASHPID "
pid=$BASHPID
while [ "$pid" -gt 1 ] && read -r line <"/proc/$pid/stat"; do
  # shellcheck disable=SC2086
  set -- ${line##*) }
  pid=$2
  keep="$keep$pid "
done
for ((round = 1; round <= 100; round++)); do
  left=0
  # One that was killed is in sight until it has had the CPU once more, so later rounds wait.
  [ "$round" -le 3 ] || sleep 0.05
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    case "$keep" in *" $pid "*) continue ;; esac
    { read -r line <"$dir/stat"; } 2>/dev/null || continue
    # shellcheck disable=SC2086
    set -- ${line##*) }
    # One whose main thread alone has ended looks like a zombie, and goes on: it has other threads.
    if [ "$1" = X ] || { [ "$1" = Z ] && [ "${18}" -le 1 ]; }; then continue; fi
    if [ $(($7 & 0x200000)) -ne 0 ]; then continue; fi
    if [ "${20}" -lt "$since" ]; then continue; fi
    # Where the main thread alone has ended, only the others have the variables.
    if [ "$scope" != all ] && ! cat "$dir"/task/*/environ 2>/dev/null | tr '\0' '\n' | grep -qx "$mark"; then continue; fi
    kill -KILL "$pid" 2>/dev/null && left=$((left + 1))
  done
  [ "$left" -eq 0 ] && break
done
if [ "$left" -ne 0 ]; then
  echo "$left processes keep coming back" >&2
  exit 1
fi
