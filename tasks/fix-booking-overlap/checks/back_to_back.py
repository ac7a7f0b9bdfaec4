#!/usr/bin/env python3
"""Bookings that touch are accepted and form one block; those that overlap by a minute are refused."""

import json
import subprocess
import sys
from pathlib import Path

ADJACENT = [
    (("book", "10:00", "11:00", "Ada"), None),
    (("book", "11:00", "12:15", "Ben"), None),
    (("book", "09:45", "10:00", "Cleo"), None),
    (("busy",), ["09:45-12:15"]),
    (("free",), ["08:30-09:45", "12:15-17:00"]),
    (("book", "12:14", "13:00", "Dan"), "Conflict"),
    (("book", "09:00", "09:46", "Dan"), "Conflict"),
    (("book", "10:00", "11:00", "Dan"), "Conflict"),
    (("book", "08:30", "17:00", "Dan"), "Conflict"),
    (("book", "10:20", "10:30", "Dan"), "Conflict"),
    (("cancel", "10:00", "11:00"), None),
    (("busy",), ["09:45-10:00", "11:00-12:15"]),
    (("find", 60), "08:30"),
    (("find", 76), "12:15"),
]
SEARCH = [
    (("book", "08:30", "10:00", "Ada"), None),
    (("find", 60), "10:00"),
    (("book", "11:00", "13:00", "Ben"), None),
    (("find", 60), "10:00"),
    (("find", 61), "13:00"),
    (("find", 240), "13:00"),
    (("find", 241), None),
    (("book", "10:00", "11:00", "Cleo"), None),
    (("book", "13:00", "17:00", "Dan"), None),
    (("find", 1), None),
    (("busy",), ["08:30-17:00"]),
    (("free",), []),
]


def main() -> int:
    days = [{"hours": ["08:30", "17:00"], "calls": [call for call, _ in day]} for day in (ADJACENT, SEARCH)]
    play = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("play.py"))],
        input=json.dumps(days),
        capture_output=True,
        text=True,
        timeout=20,
    )
    if play.returncode != 0:
        print(f"the package cannot be used:\n{play.stderr}")
        return 1
    wrong = 0
    for day, answers in zip((ADJACENT, SEARCH), json.loads(play.stdout), strict=True):
        for (call, expected), answer in zip(day, answers, strict=True):
            if answer != expected:
                wrong += 1
                print(f"{call[0]}{call[1:]}: expected {expected!r}, got {answer!r}")
    return 1 if wrong else 0


sys.exit(main())
