"""Whatever breaks between the harness and its sandboxes: one record a trial, and nothing is left behind."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local.launch import LocalServer
from harness.models.model import NO_MODEL
from harness.records.events import parse_transcript
from harness.records.history import History
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import Budget
from harness.runs.engine import Engine
from harness.sandboxes.cleanup import kill_run_sandboxes, list_orphans
from harness.sandboxes.platform import Platform
from harness.sandboxes.templates import Templates
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_task
from harness.trials.context import RunContext
from harness.trials.runner import Retries
from harness.trials.timeouts import DEFAULT_TIMEOUTS, Timeouts
from harness.variants.variant import Variant
from tests.support.chaos_proxy import FAULTS, ChaosProxy, Fault
from tests.support.folders import by_hand, says, task_folder, uses

TRIALS = 3
SCHEDULES = st.lists(st.sampled_from(["pass", *FAULTS]), max_size=60)


def run_under(
    server: LocalServer,
    schedule: Iterable[Fault],
    folder: Path,
    toml: str = "",
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> tuple[list[TrialRecord], bytes, int]:
    """Trials by the oracle through the proxy; their records, the raw file, and how many sandboxes are left."""
    task = load_task(task_folder(folder / "tasks", toml=toml))
    run = RunFolder.create(folder / "results", "chaos", {}, NO_REDACTION)
    params = {"api_url": server.url, "sandbox_url": server.url, "api_key": server.api_key}
    direct = Platform("e2b", params)
    with ChaosProxy(server.url, schedule) as proxy:
        platform = Platform("e2b", {**params, "api_url": proxy.url, "sandbox_url": proxy.url})
        templates = Templates(platform, run.path / "templates")
        context = RunContext(platform, NO_MODEL, run, Repos(run.path / "repos"), templates, timeouts=timeouts)
        engine = Engine(
            context,
            concurrency=TRIALS,
            retries=Retries(base_s=0.01, cap_s=0.05),
            budget=Budget(None, History()),
        )
        futures = [
            engine.submit(TrialSpec(task, Variant("default"), index, "oracle"))
            for index in range(1, TRIALS + 1)
        ]
        returned = [future.result() for future in futures]
        engine.finish(0)
        engine.loop.call(kill_run_sandboxes("chaos", direct))
        left = len(engine.loop.call(list_orphans("chaos", params)))
        engine.close()
    return returned, run.records_file.read_bytes(), left


def check(server: LocalServer, schedule: list[Fault]) -> list[TrialRecord]:
    """What holds after any schedule."""
    with tempfile.TemporaryDirectory() as name:
        returned, raw, left = run_under(server, schedule, Path(name))
        stored = read_records(Path(name, "results", "chaos"))
    assert stored.bad == ()
    assert len(raw.splitlines()) == TRIALS
    assert {record.trial_id for record in stored.records} == {record.trial_id for record in returned}
    assert len(stored.records) == TRIALS
    assert left == 0
    for record in stored.records:
        # The solution is right: whatever breaks on the way is never a failed task.
        assert record.outcome in ("passed", "error")
        assert record.outcome == "passed" or (record.error and record.error.cause in ("sandbox", "check"))
    return list(stored.records)


def test_without_faults_all_pass(server: LocalServer) -> None:
    """The proxy itself breaks nothing."""
    assert [record.outcome for record in check(server, [])] == ["passed"] * TRIALS


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_of_each_kind_now_and_then_is_got_over(server: LocalServer, fault: Fault) -> None:
    """Every eighth request meets it; calls that may be repeated are, and else a new attempt is made."""
    schedule: list[Fault] = ["pass", "pass", "pass", fault, "pass", "pass", "pass", "pass"]
    check(server, schedule * 3)


@settings(max_examples=4, suppress_health_check=list(HealthCheck), database=None)
@given(schedule=SCHEDULES)
def test_after_any_schedule_each_trial_has_one_record(server: LocalServer, schedule: list[Fault]) -> None:
    """Few schedules, for every run of the tests."""
    check(server, schedule)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
@given(schedule=SCHEDULES)
def test_after_any_of_many_schedules_each_trial_has_one_record(
    server: LocalServer, schedule: list[Fault]
) -> None:
    """Many."""
    check(server, schedule)


@pytest.mark.slow
def test_a_trial_that_the_platform_holds_up_is_an_error(server: LocalServer, tmp_path: Path) -> None:
    """Setup, agent and checks have limits of their own; what takes too long beside them is nobody's failed task."""
    schedule: Iterable[Fault] = chain(["pass"] * TRIALS, repeat("stall"))
    limits = "timeout = 0.5\n[checks]\ntimeout = 0.25\n[checks.work]\ntimeout = 0.25\n"
    found, _, left = run_under(server, schedule, tmp_path, limits, Timeouts(platform_s=0.25))
    assert left == 0
    for record in found:
        assert record.error
        assert (record.outcome, record.error.cause, record.error.type) == (
            "error",
            "sandbox",
            "trial_timeout",
        )
        assert "after 1.25 s: 1 s are its task's own" in record.error.message
        assert [attempt.error.type for attempt in record.attempts] == ["trial_timeout"] * 2


WORK = "for i in 1 2 3 4 5 6; do seq 1000; sleep 0.05; done"
SAME = {"same.sh": "#!/bin/sh\nsha256sum <said\n"}
TEE = r"""
[setup]
run = ['''mkdir ~/bin && cat >~/bin/claude <<'EOF' && chmod +x ~/bin/claude
#!/bin/bash
/opt/claude/claude "$@" | tee ~/repo/said
EOF''']
[sandbox]
env = {PATH = "/home/user/bin:/opt/bin:/usr/local/bin:/usr/bin:/bin"}
"""
FOLLOWED = [b"HARNESS_JOB", b"process.Process/Connect"]
"""What is in the requests that follow the agent's output."""


@pytest.mark.parametrize(
    "faults", [[], ["cut", "truncate", "tear", "tear", "reset"]], ids=["no faults", "faults"]
)
def test_no_event_of_a_broken_stream_is_lost_or_doubled(
    as_e2b: LocalServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, faults: list[Fault]
) -> None:
    """What Claude Code wrote is in the transcript, byte by byte, beside the harness's own lines."""
    steps = [[uses("Bash", command=WORK)] for _ in range(3)]
    task_folder(pytester.path / "tasks", toml=TEE, checks=SAME, replay=by_hand(*steps, [says("Done.")]))
    with ChaosProxy(as_e2b.url, faults, only=FOLLOWED) as proxy:
        monkeypatch.setenv("E2B_API_URL", proxy.url)
        monkeypatch.setenv("E2B_SANDBOX_URL", proxy.url)
        pytester.runpytest("tasks").assert_outcomes(passed=1)
        del proxy.met["pass"]
        assert proxy.met == Counter(faults), "all of them were met"
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    assert not record.attempts
    transcript = (run.path / str(record.transcript)).read_bytes()
    own = [line for line in transcript.splitlines(keepends=True) if line.startswith(b'{"type": "harness"')]
    assert parse_transcript(own[0])[0].subtype == "turn"
    written = b"".join(line for line in transcript.splitlines(keepends=True) if line not in own)
    assert record.checks[0].output_tail.split()[0] == sha256(written).hexdigest()
    kinds = Counter(event.kind for event in parse_transcript(transcript))
    assert kinds["result"] == 1
    assert kinds["malformed"] == 0
