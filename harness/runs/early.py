"""The start of a run's server before the run's own modules are loaded: this imports nothing heavy."""

from __future__ import annotations

from harness.local.launch import StartingServer
from harness.runs.options import Options, uses_local


def begin_server(options: Options) -> StartingServer | None:
    """Start the server of a run on this machine, and wait for nothing; None where the run takes another."""
    return StartingServer(options.isolation) if uses_local(options) and options.keep == "none" else None
