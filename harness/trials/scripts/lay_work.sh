# Replaces the repo by the work, in a sandbox where no agent has been. The starter stays beside it, for the diff and for
# what is protected. Runs in the home.
#   $1 the work's tar, below the home
set -e
if [ -e ~/.harness/starter ] || [ -e ~/.harness/work ]; then rm -rf ~/.harness/starter ~/.harness/work; fi
mkdir -p ~/.harness/work
tar --no-same-owner -xpf ~/"$1" -C ~/.harness/work || { echo "the work cannot be unpacked" >&2; exit 97; }
rm -rf ~/"$1" ~/.harness/work/.git
chmod u+rwx ~/.harness/work
# Git would read such a file of rules for ever.
find ~/.harness/work -name '.git?*' ! -type d ! -type l '(' ! -type f -o -size +1024k ')' -delete
mv ~/repo ~/.harness/starter
mv ~/.harness/work ~/repo
cp -r ~/.harness/starter/.git ~/repo/.git
