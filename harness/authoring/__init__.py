"""Making tasks, and proving them: `harness new`, `harness mine` and `harness validate`."""
