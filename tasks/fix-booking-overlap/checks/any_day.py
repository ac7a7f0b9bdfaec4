#!/usr/bin/env python3
"""Sixty random days: every answer is that of a model which simply marks the minutes taken."""

import json
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

OPENS, CLOSES = 8 * 60, 12 * 60


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def stretches(minutes: list[int]) -> list[str]:
    runs = (list(run) for _, run in groupby(enumerate(minutes), lambda pair: pair[1] - pair[0]))
    return [f"{clock(run[0][1])}-{clock(run[-1][1] + 1)}" for run in runs]


class Model:
    def __init__(self) -> None:
        self.taken: set[int] = set()

    def book(self, start: int, end: int) -> str | None:
        if self.taken & set(range(start, end)):
            return "Conflict"
        self.taken |= set(range(start, end))
        return None

    def find(self, length: int) -> str | None:
        for start in range(OPENS, CLOSES - length + 1):
            if not self.taken & set(range(start, start + length)):
                return clock(start)
        return None

    def busy(self) -> list[str]:
        return stretches(sorted(self.taken))

    def free(self) -> list[str]:
        return stretches([minute for minute in range(OPENS, CLOSES) if minute not in self.taken])


def random_day(random: random.Random) -> tuple[list[list[object]], list[object]]:
    model = Model()
    calls: list[list[object]] = []
    answers: list[object] = []
    for _ in range(6):
        start, end = sorted(random.sample(range(OPENS, CLOSES + 1, 20), 2))
        calls.append(["book", clock(start), clock(end), "Ada"])
        answers.append(model.book(start, end))
        length = random.randrange(10, 90, 10)
        calls += [["find", length], ["busy"], ["free"]]
        answers += [model.find(length), model.busy(), model.free()]
    return calls, answers


def main() -> int:
    days = [random_day(random.Random(seed)) for seed in range(60)]
    request = [{"hours": [clock(OPENS), clock(CLOSES)], "calls": calls} for calls, _ in days]
    play = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("play.py"))],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=20,
    )
    if play.returncode != 0:
        print(f"the package cannot be used:\n{play.stderr}")
        return 1
    for (calls, expected), answers in zip(days, json.loads(play.stdout), strict=True):
        for position, (call, right, answer) in enumerate(zip(calls, expected, answers, strict=True)):
            if right != answer:
                before = [earlier[1:3] for earlier in calls[:position] if earlier[0] == "book"]
                print(f"opening hours {clock(OPENS)}-{clock(CLOSES)}, book called with {before},")
                print(f"then {call[0]}{tuple(call[1:])}: expected {right!r}, got {answer!r}")
                return 1
    return 0


sys.exit(main())
