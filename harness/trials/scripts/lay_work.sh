# Replaces the repo by the work, in a sandbox where no agent has been. The starter stays beside it, for the diff and for
# what is protected. The work's tar is its standard input.
set -e
if [ -e ~/.harness/starter ] || [ -L ~/.harness/starter ]; then rm -rf ~/.harness/starter; fi
mv ~/repo ~/.harness/starter
mkdir ~/repo
tar --no-same-owner -xpf - -C ~/repo || { echo "the work cannot be unpacked" >&2; exit 97; }
if [ ! -r ~/repo ] || [ ! -w ~/repo ] || [ ! -x ~/repo ]; then chmod u+rwx ~/repo; fi
if [ -e ~/repo/.git ] || [ -L ~/repo/.git ]; then rm -rf ~/repo/.git; fi
# Linked, for it may be large: once the diff is told, nobody reads the starter's.
cp -rl ~/.harness/starter/.git ~/repo/.git
