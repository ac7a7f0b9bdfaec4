"""From the tests' outcomes to the check's verdict: what was demanded, and how much of it came."""

from __future__ import annotations

from collections.abc import Mapping

from harness.records.record_parts import TestOutcome, TestVerdict
from harness.tasks.globs import fits_stars
from harness.tasks.manifest import RunnerSpec
from harness.trials.check_plan import Verdict

_MAX_VERDICTS = 2_000
_MAX_NAME = 1_000
_SHOWN = 20


def judge_tests(spec: RunnerSpec, outcomes: Mapping[str, TestOutcome], problem: str | None) -> Verdict:
    """The verdict on tests. With a `problem` the run counts for nothing, whatever it reported.

    The score is the share of the demanded tests that passed.
    """
    demanded = _demanded([*spec.must_pass, *spec.must_still_pass], outcomes)
    ordered = [*demanded, *(name for name in outcomes if name not in demanded)]
    verdicts = tuple(
        TestVerdict(name=name[:_MAX_NAME], outcome=outcomes.get(name, "missing"))
        for name in ordered[:_MAX_VERDICTS]
    )
    if problem:
        return Verdict(False, 0.0, problem, verdicts)
    passed = [name for name in demanded if outcomes.get(name) == "passed"]
    share = len(passed) / len(demanded) if demanded else 1.0
    words = [f"{len(passed)} of {len(demanded)} demanded tests passed"] if demanded else []
    wrong = [name for name in demanded if name not in set(passed)]
    words += [f"  {name[:_MAX_NAME]}: {outcomes.get(name, 'missing')}" for name in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        words.append(f"  and {len(wrong) - _SHOWN} more")
    if spec.at_least is not None:
        count = sum(outcome == "passed" for outcome in outcomes.values())
        share = min(share, count / spec.at_least)
        words.append(f"{count} tests passed; at least {spec.at_least} have to")
    return Verdict(share == 1, share, "\n".join(words), verdicts)


def _demanded(patterns: list[str], outcomes: Mapping[str, TestOutcome]) -> dict[str, None]:
    """The tests that the patterns name, in order; a pattern that fits none stands for a test that is missing."""
    demanded: dict[str, None] = {}
    for pattern in patterns:
        found = [pattern] if pattern in outcomes else [name for name in outcomes if fits_stars(pattern, name)]
        demanded.update(dict.fromkeys(found or [pattern]))
    return demanded
