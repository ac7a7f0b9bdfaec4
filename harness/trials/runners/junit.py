"""JUnit's XML, as many tools write it: the outcome of each of its test cases."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from harness.records.record import TestOutcome
from harness.trials.runners.report import RANKS, REPORT_BYTES, Report

_OUTCOMES: tuple[tuple[str, TestOutcome], ...] = (
    ("error", "error"),
    ("failure", "failed"),
    ("skipped", "skipped"),
)


def read_junit(data: bytes) -> Report:
    """Read the files of a report, each ended by NUL. A test of that several cases tell has the worst of their outcomes.

    Its name is its case's, after the class's and "::" where there is one.
    """
    if len(data) >= REPORT_BYTES:
        return Report(problem=f"the report has more than {REPORT_BYTES // 2**20} MiB")
    files = [file for file in data.split(b"\0") if file.strip()]
    outcomes: dict[str, TestOutcome] = {}
    for file in files:
        if b"<!DOCTYPE" in file or b"<!ENTITY" in file:
            return Report(outcomes, "the report declares entities, which no test report needs")
        try:
            cases = ElementTree.fromstring(file).iter("testcase")
            for case in cases:
                name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
                found = _outcome(case)
                outcomes[name] = max(outcomes.get(name, found), found, key=RANKS.index)
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            return Report(outcomes, f"the report is no XML that can be read: {error}")
    return Report(outcomes, None if files else "the command left no report")


def _outcome(case: ElementTree.Element) -> TestOutcome:
    return next((outcome for tag, outcome in _OUTCOMES if case.find(tag) is not None), "passed")
