#!/usr/bin/env bash
# Any name works, of photos and of folders; everything else stays where it is.
. "$(dirname "$0")/lib.sh"

inbox="$work/my inbox * [a]"
library="$work/-my  library"
mkdir -p "$inbox/IMG_20240309 folder" "$inbox/sub"
for name in 'IMG_20240309 with  two spaces.jpg' 'IMG_20240309_*.jpg' 'IMG_20240309_a.jpg' $'IMG_20240310_line\nbreak.jpg' \
  'IMG_20231201_\n.jpg' 'IMG_20231201_$(touch pwned).jpg' 'IMG_20240309' 'IMG_20231202_[x]?.png'; do
  printf '%s' "photo" > "$inbox/$name"
done
for name in '-e' '--help' '-IMG_20240309.jpg' ' IMG_20240309.jpg' 'IMG_2024030.jpg' $'x\nIMG_20240309.jpg' '.hidden' '*'; do
  printf '%s' "other" > "$inbox/$name"
done

said=$(cd "$work" && "$sort_photos" "$inbox" "$library")
expect "exit status" 0 $?
expect "lines" "$(cat << 'EOF'
IMG_20231201_$(touch pwned).jpg -> 2023/12/IMG_20231201_$(touch pwned).jpg
IMG_20231201_\n.jpg -> 2023/12/IMG_20231201_\n.jpg
IMG_20231202_[x]?.png -> 2023/12/IMG_20231202_[x]?.png
IMG_20240309 -> 2024/03/IMG_20240309
IMG_20240309 with  two spaces.jpg -> 2024/03/IMG_20240309 with  two spaces.jpg
IMG_20240309_*.jpg -> 2024/03/IMG_20240309_*.jpg
IMG_20240309_a.jpg -> 2024/03/IMG_20240309_a.jpg
IMG_20240310_line
break.jpg -> 2024/03/IMG_20240310_line
break.jpg
EOF
)" "$said"
expect "what stays" "$(cat << 'EOF'
$'./x\nIMG_20240309.jpg': other
./
./--help: other
./-IMG_20240309.jpg: other
./-e: other
./.hidden: other
./IMG_2024030.jpg: other
./IMG_20240309\ folder/
./\ IMG_20240309.jpg: other
./\*: other
./sub/
EOF
)" "$(tree "$inbox")"
expect "the number of photos in the library" 8 "$(find "$library" -type f -print0 | tr -dc '\0' | wc -c | tr -d ' ')"
expect "other files in the work folder" "" "$(find "$work" -name pwned)"

mkdir "$work/empty"
said=$("$sort_photos" "$work/empty" "$work/none")
expect "an empty inbox" "0 " "$? $said"

cd "$work" || exit 1
mkdir ./-in
echo photo > ./-in/IMG_20240309.jpg
said=$("$sort_photos" -in -out 2>&1)
expect "folders with a dash" "0 IMG_20240309.jpg -> 2024/03/IMG_20240309.jpg" "$? $said"
expect "where it went" photo "$(cat ./-out/2024/03/IMG_20240309.jpg)"
finish
