# Adds what a variant has put into the repo to its one commit, so that no diff shows it.
set -e
cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_COMMITTER_DATE='2025-01-01T00:00:00Z'
overlay=~/.harness/variant/overlay/repo
{
  printf 'CLAUDE.md\0.claude/CLAUDE.md\0AGENTS.md\0'
  [ -e CLAUDE.local.md ] || printf 'CLAUDE.local.md\0'
  if [ -d "$overlay" ]; then find "$overlay" ! -type d -printf '%P\0'; fi
} | git update-index --add --remove -z --stdin
git commit -q --amend --allow-empty --no-edit
