"""The failures of trials at a run's end: one entry for each task and failed check, however many trials failed it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, groupby
from typing import Any

import pytest

from harness.pytest_plugin.reporting import (
    FAILED_TRIAL,
    FAULT,
    check_headline,
    failed_headline,
    last_lines,
    show_command,
    shown_path,
    side_notes,
)
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult
from harness.records.store import RunFolder
from harness.report.sanitize import sanitize

_LINES = {"short": 3}
"""How many lines of a check's output `--tb` asks for, where it is not all that a report has of them."""


class GroupedFailures:
    """A pytest plugin that writes the failures of trials in place of pytest's own entries.

    Those of other tests are pytest's to write. `run` gives the run's folder, None where no trial ran.
    """

    def __init__(self, run: Callable[[], RunFolder | None]) -> None:
        self._run = run
        self._aside: dict[str, list[Any]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_terminal_summary")
    def pytest_put_trials_aside(self, terminalreporter: Any) -> Generator[None]:
        """Have pytest write the entries of other tests only; it writes them before `pytest_terminal_summary`."""
        for kind, mark in (("error", FAULT), ("failed", FAILED_TRIAL)):
            reports = terminalreporter.stats.get(kind)
            if reports and any(hasattr(report, mark) for report in reports):
                self._aside[kind] = reports
                terminalreporter.stats[kind] = [report for report in reports if not hasattr(report, mark)]
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Write the entries of trials, and give pytest its list back for what it writes next."""
        terminalreporter.stats.update(self._aside)
        self._write(terminalreporter, config)
        for report in chain.from_iterable(self._aside.values()):
            if hasattr(report, FAULT) or hasattr(report, FAILED_TRIAL):
                # pytest's short summary has one line of each; in CI and with -vv it would write all of it once more.
                report.longrepr = str(report.longrepr).partition("\n")[0]

    def _write(self, terminalreporter: Any, config: pytest.Config) -> None:
        style = config.getoption("tbstyle")
        if style == "no" or config.getoption("no_summary", False):
            return
        errors = [report for report in self._aside.get("error", ()) if hasattr(report, FAULT)]
        failed = [getattr(report, FAILED_TRIAL, None) for report in self._aside.get("failed", ())]
        run = self._run()
        if errors:
            _write_errors(terminalreporter, errors, style)
        if run and any(failed):
            _write_failures(terminalreporter, run, {name for name in failed if name}, style)


def _write_errors(terminal: Any, reports: Sequence[Any], style: str) -> None:
    """Write each text once, with the tests that it is about."""
    by_text: dict[str, list[str]] = {}
    for report in reports:
        by_text.setdefault(str(report.longrepr), []).append(report.head_line or report.nodeid)
    terminal.write_sep("=", "ERRORS of trials")
    for text, tests in by_text.items():
        if style == "line":
            first = text.partition("\n")[0]
            for test in tests:
                terminal.write_line(sanitize(f"{test}: {first}"))
            continue
        more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        terminal.write_sep("_", f"ERROR at setup of {tests[0]}{more}", red=True, bold=True)
        terminal.write_line(sanitize(text))


def _write_failures(terminal: Any, run: RunFolder, failed: set[str], style: str) -> None:
    records = read_records(run.path).records
    wanted = sorted((r for r in records if r.trial_id in failed), key=lambda r: (r.task, r.variant, r.index))
    terminal.write_sep("=", "FAILURES of trials")
    if style == "line":
        for record in wanted:
            terminal.write_line(sanitize(f"{record.trial_id}: {failed_headline(record)}"))
        return
    for task, found in groupby(wanted, key=lambda record: record.task):
        of_task = list(found)
        total = sum(record.task == task for record in records)
        terminal.write_sep("_", f"{sanitize(task)}: {len(of_task)} of {total} failed", red=True, bold=True)
        for line in grouped_lines(of_task, run, _LINES.get(style)):
            terminal.write_line(sanitize(line))


def grouped_lines(records: Sequence[TrialRecord], run: RunFolder, most: int | None = None) -> Iterator[str]:
    """Lines about the failed trials of one task: an entry for each check, its name first and its last lines once."""
    by_check: dict[str, list[tuple[TrialRecord, CheckResult]]] = {}
    by_note: dict[str, list[TrialRecord]] = {}
    for record in records:
        for check in record.checks:
            if not check.passed:
                by_check.setdefault(check.name, []).append((record, check))
        if all(check.passed for check in record.checks):
            by_note.setdefault(failed_headline(record), []).append(record)
        for sentence in side_notes(record):
            by_note.setdefault(f"note: {sentence}", []).append(record)
    for entries in by_check.values():
        record, check = entries[0]
        yield f"FAILED  {check_headline(check)}: {trial_labels([one for one, _ in entries])}"
        yield from (f"        {line}" for line in (last_lines(check, most) if most else last_lines(check)))
        if check.output:
            yield f"        log: {shown_path(run.path / check.output)}"
    for sentence, noted in by_note.items():
        yield f"{sentence} ({trial_labels(noted)})"
    yield f"all of it: {show_command(records[0], run.path.parent)}"


def trial_labels(records: Sequence[TrialRecord]) -> str:
    """Trials of one task in few words: `plain t1-t4, t6; brief t2`."""
    by_variant: dict[str, list[int]] = {}
    for record in records:
        by_variant.setdefault(record.variant, []).append(record.index)
    return "; ".join(
        f"{variant} {', '.join(_ranges(sorted(found)))}" for variant, found in by_variant.items()
    )


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield f"t{found[0]}" + (f"-t{found[-1]}" if len(found) > 1 else "")
