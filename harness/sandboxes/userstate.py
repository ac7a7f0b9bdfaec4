"""The folder for what outlives a run, shared by this user's processes on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """The folder, which need not be there yet (XDG Base Directory Specification: `$XDG_STATE_HOME`)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "harness"
