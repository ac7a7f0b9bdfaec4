#!/usr/bin/env bash
# Names that are taken get a number, and a dry run says the same as a real one without doing anything.
. "$(dirname "$0")/lib.sh"

fill() { # INBOX LIBRARY
  mkdir -p "$1" "$2/2024/03" "$2/2023/12/IMG_20231224.d"
  for name in 'IMG_20240309_1.jpg' 'IMG_20240309_2.tar.gz' 'IMG_20240309 three' 'IMG_20231224.d' 'IMG_20240309_1-1.jpg' \
    'IMG_20250101_new.jpg' 'IMG_20240309_..jpg'; do
    printf '%s' "new $name" > "$1/$name"
  done
  for name in 'IMG_20240309_1.jpg' 'IMG_20240309_2.tar.gz' 'IMG_20240309_2.tar-1.gz' 'IMG_20240309 three'; do
    printf '%s' "old $name" > "$2/2024/03/$name"
  done
  ln -s nowhere "$2/2024/03/IMG_20240309_..jpg"
}

fill "$work/in box" "$work/library"
before=$(tree "$work")
lines=$(cat << 'EOF'
IMG_20231224.d -> 2023/12/IMG_20231224-1.d
IMG_20240309 three -> 2024/03/IMG_20240309 three-1
IMG_20240309_..jpg -> 2024/03/IMG_20240309_.-1.jpg
IMG_20240309_1-1.jpg -> 2024/03/IMG_20240309_1-1.jpg
IMG_20240309_1.jpg -> 2024/03/IMG_20240309_1-2.jpg
IMG_20240309_2.tar.gz -> 2024/03/IMG_20240309_2.tar-2.gz
IMG_20250101_new.jpg -> 2025/01/IMG_20250101_new.jpg
EOF
)

said=$("$sort_photos" --dry-run "$work/in box" "$work/library")
expect "the dry run's exit status" 0 $?
expect "the dry run's lines" "$lines" "$said"
expect "everything after a dry run" "$before" "$(tree "$work")"
"$sort_photos" --dry-run "$work/in box" "$work/library that is new" > /dev/null
expect "a library that a dry run does not make" "no" "$([ -e "$work/library that is new" ] && echo yes || echo no)"

said=$("$sort_photos" "$work/in box" "$work/library")
expect "the real run's lines" "$lines" "$said"
expect "the library after the real run" "$(cat << 'EOF'
./
./2023/
./2023/12/
./2023/12/IMG_20231224-1.d: new IMG_20231224.d
./2023/12/IMG_20231224.d/
./2024/
./2024/03/
./2024/03/IMG_20240309\ three-1: new IMG_20240309 three
./2024/03/IMG_20240309\ three: old IMG_20240309 three
./2024/03/IMG_20240309_.-1.jpg: new IMG_20240309_..jpg
./2024/03/IMG_20240309_1-1.jpg: new IMG_20240309_1-1.jpg
./2024/03/IMG_20240309_1-2.jpg: new IMG_20240309_1.jpg
./2024/03/IMG_20240309_1.jpg: old IMG_20240309_1.jpg
./2024/03/IMG_20240309_2.tar-1.gz: old IMG_20240309_2.tar-1.gz
./2024/03/IMG_20240309_2.tar-2.gz: new IMG_20240309_2.tar.gz
./2024/03/IMG_20240309_2.tar.gz: old IMG_20240309_2.tar.gz
./2025/
./2025/01/
./2025/01/IMG_20250101_new.jpg: new IMG_20250101_new.jpg
EOF
)" "$(tree "$work/library")"
expect "the inbox after the real run" "./" "$(tree "$work/in box")"

"$sort_photos" --dry-run "$work/in box" 2> /dev/null
expect "--dry-run needs two folders" 2 $?
finish
