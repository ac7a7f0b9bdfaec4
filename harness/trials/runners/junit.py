"""JUnit's XML, as many tools write it: the outcome of each of its test cases."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

from harness.records.record_parts import TestOutcome
from harness.trials.runners.report import RANKS, REPORT_BYTES, TestsReport

_OUTCOMES: Mapping[str, TestOutcome] = {"error": "error", "failure": "failed", "skipped": "skipped"}
_NOT_RUN = frozenset({"disabled", "notrun", "skipped", "suppressed"})
"""Words of googletest, and of tools like it, in a case's `status` or `result`: it has no element that says so."""


def read_junit(data: bytes) -> TestsReport:
    """Read the files of a report, each ended by NUL. A test of that several cases tell has the worst of their outcomes.

    Its name is its case's, after the class's and "::" where there is one.
    """
    if len(data) >= REPORT_BYTES:
        return TestsReport(problem=f"the report has more than {REPORT_BYTES // 2**20} MiB")
    files = [file for file in data.split(b"\0") if file.strip()]
    cases = _Cases()
    for file in files:
        if b"<!DOCTYPE" in file or b"<!ENTITY" in file:
            return TestsReport(cases.outcomes, "the report declares entities, which no test report needs")
        try:
            parser = ElementTree.XMLParser(target=cases)
            parser.feed(file)
            parser.close()
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            return TestsReport(cases.outcomes, f"the report is no XML that can be read: {error}")
    return TestsReport(cases.outcomes, None if files else "the command left no report")


class _Cases:
    """Takes in the elements as they are parsed, and keeps the outcomes alone: a report may be millions of elements."""

    def __init__(self) -> None:
        self.outcomes: dict[str, TestOutcome] = {}
        self._depth = 0
        self._open: list[tuple[int, str]] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """As XMLParser tells it."""
        tag = tag.rpartition("}")[2]
        self._depth += 1
        if tag == "testcase":
            name = "::".join(filter(None, (attributes.get("classname"), attributes.get("name"))))
            self._open.append((self._depth, name))
            has_run = _NOT_RUN.isdisjoint((attributes.get("status"), attributes.get("result")))
            self._take(name, "passed" if has_run else "skipped")
        elif tag in _OUTCOMES and self._open and self._open[-1][0] == self._depth - 1:
            self._take(self._open[-1][1], _OUTCOMES[tag])

    def end(self, tag: str) -> None:
        """As XMLParser tells it."""
        if self._open and self._open[-1][0] == self._depth:
            self._open.pop()
        self._depth -= 1

    def _take(self, name: str, outcome: TestOutcome) -> None:
        self.outcomes[name] = max(self.outcomes.get(name, outcome), outcome, key=RANKS.index)
