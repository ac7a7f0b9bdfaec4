"""`harness compare`: from sources to a view, the gate, and a text."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.records.reading import list_runs
from harness.report import as_json
from harness.report.gate import read_fail_on
from harness.report.run_verdict import judge_match
from harness.report.sources import match, read_source

_LATEST = 3


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without looking for cycles: records have none, and among a hundred thousand it takes a second."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_collection()
def compare_command(
    results: Path,
    base: str | None,
    new: str | None,
    *,
    baseline: str | None,
    fail_on: str,
    form: str,
    color: bool,
) -> tuple[str, bool]:
    """The comparison as text, and whether the gate failed.

    Raises:
        UsageError: when a source, a variant or a condition cannot be used.
    """
    if base is None:
        raise UsageError(
            "harness compare needs a run, or two",
            remedy="`harness compare RUN` compares its variants, `harness compare BASE NEW` two runs; "
            f"{_latest(results)}",
        )
    conditions = read_fail_on(fail_on) if fail_on else ()
    found = match(read_source(base, results), read_source(new, results) if new else None, baseline)
    if not found.pairs and new is None:
        raise UsageError(
            f"{base} has one variant only: there is nothing to compare it with",
            remedy=f"name another run before it (`harness compare BASE {base}`); {_latest(results)}",
        )
    verdict = judge_match(found, conditions)
    text = verdict.text(color=color)
    if form != "terminal":
        text = verdict.markdown() if form == "markdown" else as_json.render(verdict.view, verdict.gate)
    return text, bool(verdict.gate and verdict.gate.failed)


def _latest(results: Path) -> str:
    """The names that may be given, the newest first."""
    names = [run.id for run in list_runs(results)][-_LATEST:][::-1]
    return f"the latest runs: {', '.join(names)}" if names else f"there is no run in {results}"
