"""A check's verdict, judged again from the evidence that was kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.tasks.manifest import RunnerSpec
from harness.trials.check_kinds import judge_score
from harness.trials.check_plan import Ended, Verdict
from harness.trials.runners.judging import judge_tests
from harness.trials.runners.tests_check import judge_junit


def judged_again(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a check's result that its evidence decides, as JSON values.

    Raises:
        ValueError: when it is no evidence of a check.
    """
    try:
        verdict = _verdict(evidence)
        return {
            "passed": verdict.passed,
            "score": verdict.score,
            "exit_code": evidence["exit_code"],
            "timed_out": evidence["timed_out"],
            "duration_ms": evidence["duration_ms"],
            "tests": [test.model_dump(mode="json") for test in verdict.tests]
            if verdict.tests is not None
            else None,
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no evidence of a check: {error}") from error


def _verdict(evidence: Mapping[str, Any]) -> Verdict:
    if "tests" not in evidence:
        return judge_score(evidence["exit_code"], evidence["score"])
    spec = RunnerSpec.model_validate(evidence["tests"])
    if "junit" in evidence:
        return judge_junit(
            spec, Ended(evidence["exit_code"], evidence["junit"].encode("utf-8", "surrogateescape"))
        )
    return judge_tests(spec, evidence["outcomes"], evidence["problem"])
