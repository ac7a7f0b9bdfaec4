"""pytest for Claude Code: tasks, variants, trials and records that can be trusted."""

__version__ = "0.1.0"
