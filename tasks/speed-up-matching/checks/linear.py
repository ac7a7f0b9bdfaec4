#!/usr/bin/env python3
"""The work grows with the number of documents, for each kind of crowd.

First the steps of the interpreter are counted on a small batch. Only if these are few, a large one is run: with seconds
of CPU time allowed where scans in C (`list.index` and the like) take many, and a linear pass a fraction of one.
"""

import json
import resource
import subprocess
import sys

PLAY = """
import json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, ".")
from reconcile import Invoice, Payment, match

size, most_steps = int(sys.argv[1]), int(sys.argv[2])
steps = 0

class TooManySteps(BaseException):
    pass

def count(frame, event, argument):
    global steps
    steps += 1
    if steps > most_steps * size:
        raise TooManySteps
    return count

CROWDS = {
    "all different": lambda n: (f"RE {n}", n),
    "one reference": lambda n: ("RE 1", n),
    "one amount": lambda n: (f"RE {n}", 100),
    "all the same": lambda n: ("RE 1", 100),
}
for name, document in CROWDS.items():
    steps = 0
    invoices = [Invoice(f"i{n}", *document(n)) for n in range(size)]
    payments = [Payment(f"p{n}", *document(n)) for n in reversed(range(size))]
    unreferenced = [Payment(f"q{n}", "", document(n)[1]) for n in range(0, size, 2)]
    for batch in (payments + unreferenced, unreferenced + payments):
        if most_steps:
            sys.settrace(count)
        try:
            found = len(match(invoices, batch).matched)
        except TooManySteps:
            found = "too many steps"
        sys.settrace(None)
        print(json.dumps([name, found]), flush=True)
"""
CROWDS = ("all different", "one reference", "one amount", "all the same")
CPU_SECONDS = 5


def run(size: int, most_steps: int) -> list[str]:
    """What is wrong; the steps that are allowed for each invoice are not counted when they are 0."""
    play = subprocess.run(
        [sys.executable, "-c", PLAY, str(size), str(most_steps)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1)),
    )
    done = [json.loads(line) for line in play.stdout.splitlines() if line.startswith("[")]
    expected = [[crowd, size] for crowd in CROWDS for _ in range(2)]
    for (crowd, matches), answer in zip(expected, done, strict=False):
        if answer != [crowd, matches]:
            return [f"{size} invoices, {crowd}: expected {matches} matches, got {answer[1]}"]
    if len(done) != len(expected):
        stopped = f"not done within {CPU_SECONDS} s of CPU time, or stopped"
        return [f"{size} invoices, {expected[len(done)][0]}: {stopped}\n{play.stderr[-1500:]}"]
    return []


def main() -> int:
    faults = run(1000, 300) or run(12_000, 0)
    print("\n".join(faults))
    return 1 if faults else 0


sys.exit(main())
