#!/usr/bin/env python3
"""The text report: exact sums, order, columns, one month or all."""

import subprocess
import sys
import tempfile
from pathlib import Path

HOUSEHOLD = """\
2023-10-31,12.50,transport,
2023-01-05,0.10,fees,
2023-01-06,0.10,fees,
2023-01-07,0.10,fees,
2023-10-02,1200,rent,October
2023-10-03,-15.5,groceries,"returned, broken"
2023-10-04,80.25,groceries,
2023-10-05,64.75,books and papers,
2022-10-05,5,books and papers,
"""
HUGE = "2024-02-29,90071992547409.93,house,\n2024-02-29,0.01,house,\n2024-02-28,-0.5,deposit,\n"

CASES = [
    (
        HOUSEHOLD,
        ["report", "--month", "2023-10"],
        """\
rent              1200.00
books and papers    64.75
groceries           64.75
transport           12.50
total             1342.00
""",
    ),
    (
        HOUSEHOLD,
        ["report"],
        """\
rent              1200.00
books and papers    69.75
groceries           64.75
transport           12.50
fees                 0.30
total             1347.30
""",
    ),
    (HOUSEHOLD, ["report", "--month", "2023-01"], "fees   0.30\ntotal  0.30\n"),
    (
        HUGE,
        ["report", "--month", "2024-02"],
        """\
house    90071992547409.94
deposit              -0.50
total    90071992547409.44
""",
    ),
    (None, ["report"], "total  0.00\n"),
]


def main() -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (content, arguments, expected) in enumerate(CASES):
            file = Path(folder, f"{number}.csv")
            if content is not None:
                file.write_text(content, encoding="utf-8")
            command = [sys.executable, "-m", "ledger", str(file), *arguments]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
            if answer.returncode != 0 or answer.stdout != expected:
                wrong += 1
                print(f"{' '.join(arguments)} on:\n{content}\nexpected:\n{expected}")
                print(f"got exit {answer.returncode}:\n{answer.stdout}{answer.stderr[-500:]}\n")
    return 1 if wrong else 0


sys.exit(main())
