"""pytest for Claude Code: tasks, variants, trials and records that can be trusted."""
