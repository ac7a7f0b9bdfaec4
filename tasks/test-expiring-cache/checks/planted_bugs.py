#!/usr/bin/env python3
"""The tests pass on the right implementations, and fail on every planted bug. The score is the share found."""

import os
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path

CHECKS = Path(__file__).resolve().parent
ORIGINAL = (CHECKS / "original.py").read_text(encoding="utf-8")
RIGHT = {"the present code": ORIGINAL, "a rewrite": (CHECKS / "rewrite.py").read_text(encoding="utf-8")}
DROP = "        self._drop_expired()\n"
USE = "        self._entries.move_to_end(key)\n"

# What is wrong: (the method it is in, the text there, what stands there instead)
BUGS = {
    "get does not count as use": ("get", USE, ""),
    "put of a known key does not count as use": ("put", USE, ""),
    "put of a known key makes room for a new one": ("put", "key not in self._entries and ", ""),
    "put of a known key does not make it young again": (
        "put",
        "(self._clock(), value)",
        "(self._entries.get(key, (self._clock(),))[0], value)",
    ),
    "put of a known key keeps the old value": (
        "put",
        "(self._clock(), value)",
        "(self._clock(), self._entries.get(key, (0, value))[1])",
    ),
    "get makes a value younger": (
        "get",
        "        return self._entries[key][1]\n",
        "        self._entries[key] = (self._clock(), self._entries[key][1])\n"
        "        return self._entries[key][1]\n",
    ),
    "a stored None counts as no value": (
        "get",
        "        return self._entries[key][1]\n",
        "        value = self._entries[key][1]\n        return default if value is None else value\n",
    ),
    "the value used last goes first": ("put", "last=False", "last=True"),
    "one value more than the capacity": ("put", ">= self._capacity", "> self._capacity"),
    "expired values take room": ("put", DROP, ""),
    "a value expires only after max_age": ("_drop_expired", ">= self._max_age", "> self._max_age"),
    "len counts expired values": ("__len__", DROP, ""),
    "in counts as use": (
        "__contains__",
        "        return key in self._entries\n",
        "        if key in self._entries:\n            self._entries.move_to_end(key)\n"
        "        return key in self._entries\n",
    ),
    "remove of an unknown key is silent": (
        "remove",
        "del self._entries[key]",
        "self._entries.pop(key, None)",
    ),
    "a capacity of 0 is accepted": ("__init__", "capacity < 1", "capacity < 0"),
}


def planted(method: str, right: str, wrong: str) -> str:
    head, name, rest = ORIGINAL.partition(f"    def {method}(")
    body, end, tail = rest.partition("\n    def ")
    if body.count(right) != 1:
        raise ValueError(f"{right!r} is not in {method} once")
    return head + name + body.replace(right, wrong) + end + tail


def run_tests(implementation: str, output: Path) -> bool:
    """Whether the repo's tests pass with that text as `expiring.py`; a process of its own, at most 10 s."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(tests_in(implementation, output))
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    return status == 0


def tests_in(implementation: str, output: Path) -> int:
    signal.alarm(10)
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder, output.open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        # A compiled module that the agent left could stand in for the text that is written here.
        shutil.copytree(".", folder, ignore=shutil.ignore_patterns(".git", "__pycache__"), dirs_exist_ok=True)
        Path(folder, "expiring.py").write_text(implementation, encoding="utf-8")
        os.chdir(folder)
        sys.path[0] = folder
        suite = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
        result = unittest.TextTestRunner(stream=log).run(suite)
    if result.testsRun == len(result.skipped):
        return 2
    return 0 if result.wasSuccessful() else 1


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        for name, implementation in RIGHT.items():
            if not run_tests(implementation, output):
                print(f"there are no tests, or they do not pass on {name}:\n{output.read_text()[-3000:]}")
                return report(0.0)
        missed = [name for name, bug in BUGS.items() if run_tests(planted(*bug), output)]
    for name in missed:
        print(f"not found: {name}")
    return report(1 - len(missed) / len(BUGS))


def report(score: float) -> int:
    if "HARNESS_SCORE" in os.environ:
        Path(os.environ["HARNESS_SCORE"]).write_text(f"{score:.4f}\n")
    return 0 if score == 1 else 1


sys.exit(main())
