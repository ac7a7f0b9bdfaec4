#!/usr/bin/env python3
"""The text report: exact sums, order, columns, one month or all."""

import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from ledger_runs import ledger  # noqa: E402

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

OCTOBER = """\
rent              1200.00
books and papers    64.75
groceries           64.75
transport           12.50
total             1342.00
"""
EVERYTHING = """\
rent              1200.00
books and papers    69.75
groceries           64.75
transport           12.50
fees                 0.30
total             1347.30
"""
HUGE_SUMS = """\
house    90071992547409.94
deposit              -0.50
total    90071992547409.44
"""
CASES = [
    (HOUSEHOLD, ["--month", "2023-10"], OCTOBER),
    (HOUSEHOLD, [], EVERYTHING),
    (HOUSEHOLD, ["--month", "2023-01"], "fees   0.30\ntotal  0.30\n"),
    (HOUSEHOLD, ["--month", "2024-10"], "total  0.00\n"),
    (HUGE, ["--month", "2024-02"], HUGE_SUMS),
    (None, [], "total  0.00\n"),
]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.csv") for number in range(len(CASES))]
        for file, (content, _, _) in zip(files, CASES, strict=True):
            if content is not None:
                file.write_text(content, encoding="utf-8")
        answers = ledger(*([str(file), "report", *case[1]] for file, case in zip(files, CASES, strict=True)))
    wrong = 0
    for (content, arguments, expected), (code, out, err) in zip(CASES, answers, strict=True):
        if (code, out) != (0, expected):
            wrong += 1
            print(f"report {' '.join(arguments)} on:\n{content}\nexpected:\n{expected}")
            print(f"got exit {code}:\n{out}{err[-500:]}\n")
    return 1 if wrong else 0


sys.exit(main())
