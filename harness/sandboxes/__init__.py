"""E2B's SDK behind one module: sandboxes, templates, what runs in them, and what is left of them."""

import os

# The SDK reads these when it is loaded, and its default is 200 connections. Over plain HTTP/1.1, each command that runs
# holds one.
os.environ.setdefault("E2B_MAX_CONNECTIONS", "20000")
os.environ.setdefault("E2B_MAX_KEEPALIVE_CONNECTIONS", "256")
