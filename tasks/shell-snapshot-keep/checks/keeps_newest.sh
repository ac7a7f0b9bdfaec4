#!/usr/bin/env bash
# The newest N by name are kept, the new one among them, and only real snapshots count or go.
. "$(dirname "$0")/lib.sh"

store="$work/my store [1]"
mkdir -p "$store"
# The older the name, the newer the file time.
stamp=202001011200
for name in snap-20240105-000000 snap-20240104-235959 snap-20240104-000000 snap-20231231-235959; do
  mkdir "$store/$name"
  touch -t "$stamp" "$store/$name"
  stamp=$((stamp + 1))
done
mkdir "$store/snap-archive" "$store/snap-20200101-000000.partial" "$store/snap-20200101-0000001" \
  "$store/xsnap-20200101-000000" "$store/snap-2020010a-000000" "$store/other place"
ln -s "other place" "$store/snap-20200102-000000"
echo keep > "$store/other place/file"
echo note > "$store/snap-20200103-000000"
echo note > "$store/notes on snap-20200101-000000.txt"
others=$(names "$store" | grep -v -e '^snap-2023' -e '^snap-2024')

made=$(SNAPSHOT_TIME=20240105-120000 "$snapshot" --keep 3 "$work/source" "$store")
expect "exit status" 0 $?
expect "standard output" "$store/snap-20240105-120000" "$made"
expect "snapshots after --keep 3" $'snap-20240104-235959\nsnap-20240105-000000\nsnap-20240105-120000' \
  "$(names "$store" | grep -e '^snap-2023' -e '^snap-2024')"
expect "everything else stays" "$others" "$(names "$store" | grep -v -e '^snap-2023' -e '^snap-2024')"
expect "what a link points to stays" keep "$(cat "$store/other place/file")"
expect "the new snapshot is whole" new "$(cat "$store/snap-20240105-120000/file")"

SNAPSHOT_TIME=20240106-120000 "$snapshot" --keep 10 "$work/source" "$store" > /dev/null
expect "snapshots after --keep 10" 4 "$(names "$store" | grep -c '^snap-2024')"
SNAPSHOT_TIME=20240106-180000 "$snapshot" --keep 4 "$work/source" "$store" > /dev/null
expect "snapshots after --keep 4" $'snap-20240105-000000\nsnap-20240105-120000\nsnap-20240106-120000\nsnap-20240106-180000' \
  "$(names "$store" | grep '^snap-2024')"
SNAPSHOT_TIME=20240107-120000 "$snapshot" --keep 1 "$work/source" "$store" > /dev/null
expect "snapshots after --keep 1" snap-20240107-120000 "$(names "$store" | grep '^snap-2024')"
SNAPSHOT_TIME=20240108-120000 "$snapshot" "$work/source" "$store" > /dev/null
expect "without --keep nothing goes" 2 "$(names "$store" | grep -c '^snap-2024')"
finish
