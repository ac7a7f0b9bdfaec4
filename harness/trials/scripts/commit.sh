# Commits the starter repo in ~/repo. The repo gets a history of exactly one commit, so that none can leak the fix,
# with all of its files in it, whatever its .gitignore says.
# Files that count as large go into one pack: one by one, each would be a folder and a file to make.
set -e
cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2025-01-01T00:00:00Z' GIT_COMMITTER_DATE='2025-01-01T00:00:00Z'
git -c core.bigFileThreshold=1 -c core.fsync=none add -A -f && git commit -q --allow-empty -m 'Initial commit'
