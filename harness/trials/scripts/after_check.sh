# Tells what a check has left, once its processes have ended.
#   $1 its output   $2 its score   $3 bytes of the output that are told
# Answers, in base64: `output=` the end of its output, `score=`.
if [ -f "$2" ] && [ ! -L "$2" ]; then echo "score=$(head -c 100 "$2" | base64 -w0)"; fi
if [ -f "$1" ] && [ ! -L "$1" ]; then echo "output=$(tail -c "$3" "$1" | base64 -w0)"; fi
