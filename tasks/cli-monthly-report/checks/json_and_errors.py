#!/usr/bin/env python3
"""The JSON report, and what is said of months that are none."""

import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from ledger_runs import ledger  # noqa: E402

ENTRIES = """\
2024-05-01,0.7,tea,
2024-05-02,0.1,tea,
2024-05-09,7,cake,
2024-06-01,3,tea,
2024-06-01,-3,milk,
"""
MAY = {"month": "2024-05", "categories": {"cake": "7.00", "tea": "0.80"}, "total": "7.80"}
ALL = {"month": None, "categories": {"cake": "7.00", "tea": "3.80", "milk": "-3.00"}, "total": "7.80"}
NONE = {"month": "2023-05", "categories": {}, "total": "0.00"}
CASES = [
    (["--month", "2024-05", "--json"], MAY),
    (["--json"], ALL),
    (["--json", "--month", "2023-05"], NONE),
]
NO_MONTHS = ["2024-13", "2024-00", "2024-5", "24-05", "2024-05-01", "2024", "May"]


def is_right(out: str, expected: dict[str, object]) -> bool:
    """Equal, the order of the categories included; the order of the outer keys is free."""
    try:
        got = json.loads(out)
    except ValueError:
        return False
    return got == expected and list(got["categories"]) == list(expected["categories"])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ledger.csv")
        file.write_text(ENTRIES, encoding="utf-8")
        reports = ledger(*([str(file), "report", *arguments] for arguments, _ in CASES))
        errors = ledger(*([str(file), "report", "--month", month] for month in NO_MONTHS))
    faults = [
        f"report {' '.join(arguments)}: expected {expected}, got exit {code}: {out}{err[-500:]}"
        for (arguments, expected), (code, out, err) in zip(CASES, reports, strict=True)
        if code != 0 or not is_right(out, expected)
    ]
    faults += [
        f"--month {month!r}: expected a usage error, got exit {code}: {out}{err[-300:]}"
        for month, (code, out, err) in zip(NO_MONTHS, errors, strict=True)
        if code != 2 or out or not err or "Traceback" in err
    ]
    print("\n".join(faults))
    return 1 if faults else 0


sys.exit(main())
