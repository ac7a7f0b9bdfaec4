#!/usr/bin/env python3
"""The JSON report, and what is said of months that are none."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ENTRIES = (
    "2024-05-01,0.7,tea,\n2024-05-02,0.1,tea,\n2024-05-09,7,cake,\n2024-06-01,3,tea,\n2024-06-01,-3,milk,\n"
)
CASES = [
    (
        ["--month", "2024-05", "--json"],
        {"month": "2024-05", "categories": {"cake": "7.00", "tea": "0.80"}, "total": "7.80"},
    ),
    (
        ["--json"],
        {"month": None, "categories": {"cake": "7.00", "tea": "3.80", "milk": "-3.00"}, "total": "7.80"},
    ),
    (["--json", "--month", "2023-05"], {"month": "2023-05", "categories": {}, "total": "0.00"}),
]
NO_MONTHS = ["2024-13", "2024-00", "2024-5", "2024-05-01", "May"]


def report(file: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ledger", str(file), "report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def json_faults(file: Path) -> list[str]:
    faults = []
    for arguments, expected in CASES:
        answer = report(file, arguments)
        try:
            got = json.loads(answer.stdout)
        except ValueError:
            got = answer.stdout + answer.stderr[-500:]
        if not same(got, expected):
            faults.append(f"report {' '.join(arguments)}: expected {expected}, got {got}")
    return faults


def same(got: object, expected: dict[str, object]) -> bool:
    """Equal, the order of the categories included; the order of the outer keys is free."""
    if not isinstance(got, dict) or got != expected:
        return False
    return list(got["categories"]) == list(expected["categories"])


def error_faults(file: Path) -> list[str]:
    faults = []
    for month in NO_MONTHS:
        answer = report(file, ["--month", month])
        if answer.returncode != 2 or answer.stdout or not answer.stderr or "Traceback" in answer.stderr:
            said = answer.stdout + answer.stderr[-300:]
            faults.append(f"--month {month!r}: expected a usage error, got exit {answer.returncode}: {said}")
    return faults


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ledger.csv")
        file.write_text(ENTRIES, encoding="utf-8")
        faults = json_faults(file) + error_faults(file)
    print("\n".join(faults))
    return 1 if faults else 0


sys.exit(main())
