"""A server on this machine that speaks E2B's protocol."""
