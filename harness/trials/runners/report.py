"""The report that a runner leaves: what each test came to, in signed lines, from the first to the last."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast, get_args

from harness.records.record_parts import TestOutcome

RANKS: tuple[TestOutcome, ...] = ("missing", "passed", "skipped", "failed", "error")
"""Outcomes from the best to the worst; a test that is told twice has the worse."""
_FIELDS = {"start": 0, "collected": 1, "test": 2, "problem": 1, "end": 0}
REPORT_BYTES = 16 * 1024 * 1024
"""A longer report is not read."""


@dataclass(frozen=True)
class TestsReport:
    """The outcomes by test, in the order of the tests. `problem` is why the run counts for nothing."""

    outcomes: Mapping[str, TestOutcome] = field(default_factory=dict)
    problem: str | None = None


def read_report(data: bytes, key: bytes) -> TestsReport:
    """Read the lines of a report. A test that was collected, and of which nothing more is said, is `missing`."""
    outcomes: dict[str, TestOutcome] = {}
    problem, has_ended = None, False
    lines = data.rstrip(b"\0").decode("ascii", "replace").splitlines()
    for number, line in enumerate(lines):
        signature, _, text = line.partition(" ")
        if not hmac.compare_digest(signature.encode(), _signature(key, number, text)):
            return TestsReport(outcomes, "the report was changed by something else than what runs the tests")
        kind, *fields = text.split(" ")
        try:
            words = [_word(one) for one in fields]
        except ValueError:
            words = []
        # The code under test may have found the key.
        if len(words) != _FIELDS.get(kind):
            return TestsReport(outcomes, f"the report has a line that nothing of ours writes: {text[:100]}")
        if kind == "collected":
            outcomes.setdefault(words[0], "missing")
        elif kind == "test" and words[0] in get_args(TestOutcome):
            outcome = cast(TestOutcome, words[0])
            outcomes[words[1]] = max(outcomes.get(words[1], outcome), outcome, key=RANKS.index)
        elif kind == "problem":
            problem = problem or words[0]
        has_ended = kind == "end"
    if problem is None and not has_ended:
        problem = "the tests ended early: there is no end of the report" if lines else "there is no report"
    return TestsReport(outcomes, problem)


def _signature(key: bytes, number: int, text: str) -> bytes:
    return hmac.digest(key, f"{number} {text}".encode(), "sha256").hex().encode()


def _word(text: str) -> str:
    return "" if text == "-" else bytes.fromhex(text).decode("utf-8", "replace")
