#!/usr/bin/env python3
"""On three hundred random days the report is, character by character, that of the original."""

import json
import random
import subprocess
import sys

sys.dont_write_bytecode = True
import original  # noqa: E402

PLAY = """
import json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, ".")
from shopreport.report import build_report
print(json.dumps([build_report(lines) for lines in json.load(sys.stdin)]))
"""
ODD_LINES = [
    "",
    "   ",
    "# a comment, with, commas",
    "  # indented",
    "ORDER,COUNTRY,item",
    "order,country,item,quantity,unit_price,coupon",
    "A1,de,mug",
    "A1,de,mug,1,100,TENOFF,more",
    "A1,de,mug,1.5,100",
    "A1,de,mug, 2 ,1_000,",
    "A9,fr,jug,0,100",
    "A9,fr,jug,1,-5",
    ",,,1,1",
    "A8 , fr , jug , 3 , 333 , TENOFF ",
    "A8,fr,cup,2,333,FREEONE",
    "A7,fr,cup,3,333,HALF",
    "A7,it,cup,-3,333,HALF",
    "A6,Fr,plate,-1,100,TENOFF",
]


def random_line(random: random.Random) -> str:
    if random.random() < 0.2:
        return random.choice(ODD_LINES)
    columns = [
        random.choice(["A1", "A2", "A3", "A4", "A5", "A6"]),
        random.choice(["de", "DE", "at", "", "ch"]),
        random.choice(["mug", "tea", "pot", "cup", "jug", "cosy"]),
        str(random.choice([-3, -1, 0, 1, 1, 1, 2, 2, 3, 4])),
        str(random.choice([0, 5, 99, 100, 450, 995, 123456])),
        random.choice(["", "", "TENOFF", "FREEONE", "XMAS"]),
    ]
    return ",".join(columns[:5] if columns[5] == "" and random.random() < 0.5 else columns)


def random_day(seed: int) -> list[str]:
    source = random.Random(seed)
    return [random_line(source) for _ in range(source.randrange(25))]


def main() -> int:
    days = [random_day(seed) for seed in range(300)]
    command = [sys.executable, "-c", PLAY]
    play = subprocess.run(command, input=json.dumps(days), capture_output=True, text=True, timeout=20)
    if play.returncode != 0:
        print(f"build_report fails:\n{play.stderr[-2000:]}")
        return 1
    for day, report in zip(days, json.loads(play.stdout), strict=True):
        expected = original.build_report(day)
        if report != expected:
            print("for the lines:", *day, f"expected:\n{expected}", f"got:\n{report}", sep="\n")
            return 1
    return 0


sys.exit(main())
