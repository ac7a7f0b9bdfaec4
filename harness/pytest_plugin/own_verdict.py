"""The verdict on a test with the fixtures, by pytest's reports of it: a trial behind fixtures is judged by this."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from harness.errors import Fault, TaskFault


@dataclass(frozen=True)
class OwnVerdict:
    """Pytest's reports on a test before its teardown.

    `called` is True once its own lines have ended, by whatever outcome. `part_failed` tells that they, or one of its
    subtests, have failed, and `failed` has expected failures, too; `skipped` is the reason that the test gave, and
    `setup` says how its fixtures failed.
    """

    called: bool = False
    part_failed: bool = False
    failed: bool = False
    skipped: str | None = None
    setup: str | None = None

    @property
    def fault(self) -> Fault | None:
        """The fault for which the trial does not count; None when its test has passed or failed."""
        if self.failed:
            return None
        if self.skipped is not None:
            return TaskFault("skipped", f"the test skipped itself: {self.skipped}")
        if self.setup is not None:
            return TaskFault("test_setup", f"a fixture of the test failed: {self.setup}")
        if self.called:
            return None
        # A process in which no test has the fixtures loads neither this nor the SDK under it.
        from harness.trials.attempt import interrupted

        return interrupted()


_VERDICT = pytest.StashKey[OwnVerdict]()


def verdict_of(item: pytest.Item) -> OwnVerdict:
    """The verdict on a test so far."""
    return item.stash.get(_VERDICT, OwnVerdict())


def note_report(item: pytest.Item, report: pytest.TestReport) -> None:
    """Learn from a report, after the plugins that know of expected failures. Subtests come before their test."""
    before = verdict_of(item)
    expected = hasattr(report, "wasxfail")
    if report.when == "call":
        skipped = _reason(report) if report.skipped and not expected else None
        part_failed = before.part_failed or report.failed
        failed = part_failed or (report.skipped and expected)
        item.stash[_VERDICT] = OwnVerdict(True, part_failed, failed, skipped)
    elif report.when == "setup" and report.skipped and not expected:
        item.stash[_VERDICT] = replace(before, skipped=_reason(report))
    elif report.when == "setup" and not report.passed:
        crash = getattr(report.longrepr, "reprcrash", None)
        item.stash[_VERDICT] = replace(
            before, setup=crash.message.partition("\n")[0] if crash else "see above"
        )


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return told[2].removeprefix("Skipped: ") if isinstance(told, tuple) else "Skipped"
