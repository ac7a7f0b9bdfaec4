"""The kind of check that is tests: run by a script of ours in the sandbox, judged by what that script reports."""

from __future__ import annotations

import base64
import functools
import json
import secrets
import shlex
from dataclasses import replace
from pathlib import Path

from harness.tasks.contents import files_in
from harness.tasks.globs import matching_files
from harness.tasks.manifest import RunnerSpec
from harness.tasks.runnerspec import lies_in_checks
from harness.tasks.task import Check, Task
from harness.trials.check_plan import CheckPlan, Ended, Verdict
from harness.trials.runners.judging import judge_tests
from harness.trials.runners.junit import read_junit
from harness.trials.runners.report import REPORT_BYTES, TestsReport, read_report

_FOLDER = Path(__file__).parent
_PYTHON = (_FOLDER / "python_tests.py", "exec python3 -I -S")
_SCRIPTS = {
    "pytest": _PYTHON,
    "unittest": _PYTHON,
    "node": (_FOLDER / "node_tests.mjs", "exec node"),
}
_CONFIGURING = frozenset(
    "conftest.py pytest.toml .pytest.toml pytest.ini .pytest.ini pyproject.toml tox.ini setup.cfg".split()  # noqa: SIM905
)
_NOT_THERE = 127


class TestsCheck:
    """Tests of `[checks.tests.NAME]`."""

    __test__ = False  # It is no test of pytest's.

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""
        return check.tests is not None

    def plan(self, check: Check, task: Task, home: str, token: str) -> CheckPlan:
        """The runner's report decides, whatever the code under test prints or exits with."""
        spec = check.tests
        assert spec is not None, "it is of this kind"
        if spec.runner == "junit":
            return _plan_junit(spec)
        key, report = secrets.token_bytes(32), f"{home}/.harness/report-{token}"
        script, command = _SCRIPTS[spec.runner]
        folder = f"{home}/.harness/run-{token}"
        file = shlex.quote(f"{folder}/{script.name}")
        orders = {**_orders(spec, task, home), "report": report, "key": key.hex()}
        return CheckPlan(
            f"{command} {file}",
            lambda ended: _judge(spec, ended, read_report(ended.report or b"", key)),
            reports=report,
            report_bytes=REPORT_BYTES,
            steps=f"mkdir -m 700 {shlex.quote(folder)} && printf %s {_packed(script)} | base64 -d >{file} || exit",
            stdin=json.dumps(orders),
        )


def _plan_junit(spec: RunnerSpec) -> CheckPlan:
    """The reports are gone before the command runs, so that what is read then is its own; where they cannot be removed,
    it is not run. They may be more than a command's arguments can name.
    """
    return CheckPlan(
        spec.command or "",
        lambda ended: judge_junit(spec, ended),
        reports=spec.report or "",
        report_bytes=REPORT_BYTES,
        steps=(
            f"shopt -s globstar nullglob; set -o pipefail\nprintf '%s\\0' {_unquoted(spec.report or '')} | "
            "xargs -0 rm -rf -- || kill -KILL $$"
        ),
    )


def judge_junit(spec: RunnerSpec, ended: Ended) -> Verdict:
    """The verdict on tests whose command has left JUnit's reports."""
    return _judge(spec, ended, read_junit(ended.report or b""))


def _unquoted(pattern: str) -> str:
    """A pattern for bash, of which only the wildcards have a meaning."""
    return "".join(part if part in "*?[]" else shlex.quote(part) for part in pattern)


def _orders(spec: RunnerSpec, task: Task, home: str) -> dict[str, object]:
    in_checks = [path for path in spec.paths if lies_in_checks(path, task.checks_folder)]
    trusted = matching_files(task.repo, task.protect) if task.repo else []
    if task.overlay:
        trusted += [path.relative_to(task.overlay).as_posix() for path in files_in(task.overlay)]
    return {
        "runner": spec.runner,
        "repo": f"{home}/repo",
        "starter": f"{home}/.harness/starter",
        "paths": [path for path in spec.paths if path not in in_checks],
        "paths_in_checks": in_checks,
        "trusted": [name for name in trusted if name.rpartition("/")[2] in _CONFIGURING],
        "plugins": spec.plugins,
        "pythonpath": spec.pythonpath,
        # The agent's own installations count only where they are a part of the work.
        "with_user_site": not task.grade_in_agents_sandbox,
    }


def _judge(spec: RunnerSpec, ended: Ended, report: TestsReport) -> Verdict:
    problem = report.problem
    if not report.outcomes and ended.exit_code == _NOT_THERE and spec.runner != "junit":
        problem = f"the sandbox's template has no {'node' if spec.runner == 'node' else 'python3'}"
    elif ended.exit_code is None:
        left = ", or reports of before could not be removed" if spec.runner == "junit" else ""
        problem = problem or f"the tests did not come to their end{left}"
    told: dict[str, object] = {"tests": spec.model_dump(mode="json")}
    if spec.runner == "junit":
        told["junit"] = (ended.report or b"").decode("utf-8", "surrogateescape")
    else:
        told |= {"outcomes": dict(report.outcomes), "problem": problem}
    return replace(judge_tests(spec, report.outcomes, problem), evidence=told)


@functools.cache
def _packed(script: Path) -> str:
    return base64.b64encode(script.read_bytes()).decode()
