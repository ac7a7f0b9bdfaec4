"""E2B's control plane: sandboxes and templates, made, found, paused and ended."""
