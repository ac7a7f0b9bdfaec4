"""Runs the repo's program for several lists of arguments, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path


def ledger(*runs: list[str]) -> list[tuple[int, str, str]]:
    """For each run's arguments the exit status, standard output and standard error; ends the check where none come."""
    play = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("play.py"))],
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        timeout=20,
    )
    if play.returncode != 0:
        sys.exit(f"the program cannot be run:\n{play.stderr[-2000:]}")
    return [tuple(answer) for answer in json.loads(play.stdout)]
