#!/usr/bin/env bash
# A wrong N does nothing, and a snapshot that fails removes nothing.
. "$(dirname "$0")/lib.sh"

store=$work/store
mkdir -p "$store/snap-20240101-000000" "$store/snap-20240102-000000"
before=$(names "$store")

for number in 0 -1 two "" 1.5 1x; do
  SNAPSHOT_TIME=20240103-000000 "$snapshot" --keep "$number" "$work/source" "$store" > "$work/out" 2> "$work/err"
  expect "exit status of --keep '$number'" 2 $?
  expect "the store after --keep '$number'" "$before" "$(names "$store")"
done
SNAPSHOT_TIME=20240103-000000 "$snapshot" --keep 1 "$work/source" > "$work/out" 2> "$work/err"
expect "exit status without STORE" 2 $?
expect "the usage line names --keep" 1 "$(grep -c -e --keep "$work/err")"

SNAPSHOT_TIME=20240103-000000 "$snapshot" --keep 1 "$work/missing" "$store" > "$work/out" 2> "$work/err"
expect "exit status when SOURCE is missing" 1 $?
SNAPSHOT_TIME=20240102-000000 "$snapshot" --keep 1 "$work/source" "$store" > "$work/out" 2> "$work/err"
expect "exit status when the snapshot exists" 1 $?
expect "the store after snapshots that failed" "$before" "$(names "$store")"

SNAPSHOT_TIME=20240103-000000 "$snapshot" --keep 1 "$work/source" "$store" > "$work/out" 2> "$work/err"
expect "exit status of --keep 1" 0 $?
expect "the store after --keep 1" snap-20240103-000000 "$(names "$store")"
finish
