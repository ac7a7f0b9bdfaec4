"""The defects found in a task, told as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from harness.report.table import Column, as_text, wrapped

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a task (`error`), may be (`warning`), or should be known (`note`).

    `kind` is a stable word for programs. `check` names the check that it is about.
    """

    kind: str
    what: str
    remedy: str | None = None
    level: Level = "error"
    check: str | None = None

    def __str__(self) -> str:
        return self.what + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True)
class Survivor:
    """A mutant of the solution that all checks passed."""

    path: str
    how: str
    diff: str


@dataclass(frozen=True)
class Sharpness:
    """The mutants of the solution that the checks were tried with: their number, and those that no check noticed."""

    mutants: int = 0
    survivors: tuple[Survivor, ...] = ()

    @property
    def share(self) -> float | None:
        """The share that they noticed; None without mutants."""
        return 1 - len(self.survivors) / self.mutants if self.mutants else None


@dataclass(frozen=True)
class ValidationReport:
    """The result of validating one task. `runs` is the number of times that each check judged the solution."""

    task: str
    path: str
    findings: tuple[Finding, ...] = ()
    checks: tuple[str, ...] = ()
    runs: int = 0
    nop_runs: int = 0
    sharpness: Sharpness = field(default_factory=Sharpness)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """True if nothing is wrong."""
        return all(finding.level != "error" for finding in self.findings)


def as_json(reports: Sequence[ValidationReport]) -> str:
    """All of it, for programs."""
    found = [
        {
            **asdict(report),
            "ok": report.is_clean,
            "sharpness": {**asdict(report.sharpness), "share": report.sharpness.share},
        }
        for report in reports
    ]
    return (
        json.dumps({"schema": 1, "ok": all(report.is_clean for report in reports), "tasks": found}, indent=2)
        + "\n"
    )


def as_table(reports: Sequence[ValidationReport], *, width: int = 100, color: bool = False) -> str:
    """A line for each task, then what is wrong, then the mutants that no check noticed."""
    columns = [
        Column("task"),
        Column("verdict"),
        Column("checks", right=True),
        Column("runs", right=True),
        Column("mutants", right=True),
        Column("noticed", right=True),
        Column("time", right=True),
    ]
    rows = [_row(report) for report in reports]
    lines = [as_text(columns, rows, width=width, color=color)]
    for report in reports:
        for finding in report.findings:
            mark = f"{report.task}: {finding.level}: {finding.kind}: "
            words = " ".join(f"{mark}{finding}".split())
            lines += [f"{line}\n" for line in wrapped(words, width=width)]
    for report in reports:
        for survivor in report.sharpness.survivors:
            lines.append(f"\n{report.task}: no check noticed this ({survivor.how}):\n{_shown(survivor.diff)}")
    wrong = sum(not report.is_clean for report in reports)
    total = f"{len(reports)} task{'s' * (len(reports) != 1)}"
    lines.append(f"\n{total}: {wrong} with errors\n" if wrong else f"\n{total}: no errors\n")
    return "".join(lines)


def _row(report: ValidationReport) -> list[str]:
    share = report.sharpness.share
    return [
        report.task,
        "ok" if report.is_clean else "wrong",
        str(len(report.checks)) if report.checks else "-",
        str(report.runs) if report.runs else "-",
        str(report.sharpness.mutants) if share is not None else "-",
        f"{share:.0%}" if share is not None else "-",
        f"{report.seconds:.0f} s" if report.seconds else "-",
    ]


def _shown(diff: str) -> str:
    return "".join(f"  {line}\n" for line in diff.splitlines())
