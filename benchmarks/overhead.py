"""What the harness costs, beside Claude Code and the checks: real trials against a bare shell loop that does the same.

    python benchmarks/overhead.py [--trials 40] [--concurrency 1 2 4] [--rounds 3]

Both play the shipped tasks' recorded sessions to the real Claude Code. The shell loop copies the starter repo, starts
the replay server and `claude -p`, and runs the checks, under `xargs -P`, with no isolation, no records, no fresh
system. The harness does it as `pytest tasks --sandbox local` does: a sandbox for each trial, hidden checks, protected
files, diff, transcript, record. Rounds alternate; the medians of both are printed, of the rounds' ratios, and of their
differences, since machines are not as fast at all times. With one trial at a time, the difference a trial is the
harness's own share of it.

Ratios are of the trials alone; `start` is what pytest, the plugin and the sandbox server take once in a run. What the
shell loop leaves is removed after the last round: file systems without a journal make new files slowly for minutes
after many were removed (see harness/local/state.py), which would burden whoever comes next.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from harness.agents.claude import ENV, argv
from harness.local.template import claude_template
from harness.models.model import load_recording
from harness.records.reading import list_runs
from harness.records.trial_spec import TrialSpec
from harness.tasks.loading import load_task
from harness.tasks.task import Check, Task
from harness.variants.variant import DEFAULT

ROOT = Path(__file__).parents[1]


def shell_trial(task: Task, folder: Path) -> str:
    """One trial as a shell script that does the least that is needed."""
    assert task.replay, "a shipped task has a recorded session"
    spec, session = TrialSpec(task, DEFAULT, 1, "claude"), str(uuid.uuid4())
    model = load_recording(task.replay).model
    lines = [f"mkdir -p {folder}/home && cp -r {task.path}/repo {folder}/repo && cd {folder}/repo || exit 1"]
    lines += ["git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm start"]
    lines += [f"export HOME={folder}/home ANTHROPIC_API_KEY=replay"]
    lines += [f"export {shlex.join(f'{name}={value}' for name, value in ENV.items())}"]
    for number, turn in enumerate(task.turns, 1):
        prompt = folder.with_suffix(f".{number}.md")
        prompt.write_text(turn.prompt)
        program = f"PYTHONPATH={ROOT} python3 -S -m harness.models.replay_server"
        server = f'{program} --transcript {task.replay} --cwd "$PWD"'
        lines += [f"mkfifo {folder}/{number} && {{ {server} >{folder}/{number} & }}; server=$!"]
        lines += [f"read -r ANTHROPIC_BASE_URL <{folder}/{number}; export ANTHROPIC_BASE_URL"]
        lines += [
            f"{shlex.join(argv(spec, session, number, model))} <{prompt} >>{folder}/out.jsonl || exit 1"
        ]
        lines += ["kill $server"]
    lines += [f"export HARNESS_SCORE={folder}/score HARNESS_CHECKS={task.checks_folder}"]
    for check in task.checks:
        lines += [f"bash -c {shlex.quote(shell_check(task, check))} >{folder}/check.out 2>&1 || exit 1"]
    return "\n".join(lines)


def shell_check(task: Task, check: Check) -> str:
    """The command that asks the same with nothing around it."""
    if check.tests is None:
        return check.command or f"{task.checks_folder}/{check.file}"
    unittest = f"python3 -m unittest {shlex.join(check.tests.paths)}"
    return {"unittest": unittest, "node": "node --test"}[check.tests.runner]


def shell_loop(tasks: list[Task], at_once: int, place: Path) -> float:
    """Seconds for all of them, in a new folder in `place`."""
    work = Path(tempfile.mkdtemp(dir=place))
    programs = work / "bin"
    programs.mkdir()
    template = claude_template()
    for name, inside in template.programs.items():
        mount, here = next((m, h) for m, h in template.binds.items() if inside.startswith(f"{m}/"))
        (programs / name).symlink_to(f"{here}{inside.removeprefix(mount)}")
    for number, task in enumerate(tasks):
        (work / f"{number}.sh").write_text(shell_trial(task, work / str(number)))
    env = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    scripts = "\n".join(str(work / f"{number}.sh") for number in range(len(tasks)))
    start = time.monotonic()
    done = subprocess.run(
        ["xargs", "-P", str(at_once), "-n", "1", "bash"], input=scripts, text=True, env=env, check=False
    )
    took = time.monotonic() - start
    if done.returncode:
        sys.exit(f"the shell loop failed; its files are in {work}")
    return took


@dataclass(frozen=True)
class HarnessRun:
    """Seconds: of the trials, from the first one's start to the last one's end, and of all."""

    trials: float
    total: float


def harness_run(tasks: list[Task], at_once: int) -> HarnessRun:
    """The same trials by pytest."""
    names = sorted({str(task.path) for task in tasks})
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names, "--sandbox=local"]
        command += ["--model-source=replay", f"--concurrency={at_once}", f"--results={results}"]
        command += [f"--trials={len(tasks) // len(names)}"]
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        total = time.monotonic() - start
        if done.returncode:
            sys.exit(done.stdout)
        records = [json.loads(line) for line in (list_runs(Path(results))[0].path / "records.jsonl").open()]
    stamps = [time_of(record[name]) for record in records for name in ("started_at", "finished_at")]
    return HarnessRun(max(stamps) - min(stamps), total)


def time_of(stamp: str) -> float:
    """Seconds since the epoch."""
    from datetime import datetime

    return datetime.fromisoformat(stamp).timestamp()


def measure(tasks: list[Task], at_once: int, rounds: int, place: Path) -> Iterator[str]:
    """A line of results."""
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(shell_loop(tasks, at_once, place))
        ours.append(harness_run(tasks, at_once))
    shell, trials = median(bare), median(run.trials for run in ours)
    start = median(run.total - run.trials for run in ours)
    ratio = median(run.trials / took for run, took in zip(ours, bare, strict=True))
    more = median(run.trials - took for run, took in zip(ours, bare, strict=True))
    share = more * at_once / len(tasks) * 1000
    yield (
        f"{at_once:11d}  {shell:7.2f} s  {trials:7.2f} s  {ratio:5.2f}  {share:8.0f} ms  {start:5.2f} s"
        f"  {trials * at_once / len(tasks):5.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.pop("E2B_API_KEY", None)
    # Users' machines keep bytecode; without it each start of pytest would compile everything.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    shipped = [load_task(path.parent) for path in sorted((ROOT / "tasks").glob("*/task.toml"))]
    # Checks of the agent's own sandbox judge a home, which the shell loop has not.
    shipped = [task for task in shipped if not task.grade_in_agents_sandbox]
    # As many of each task, so that both sides run the same; no fewer in all than asked for.
    each = -(-options.trials // len(shipped))
    tasks = list(islice(cycle(shipped), each * len(shipped)))
    print(
        f"{len(tasks)} trials of {len(shipped)} tasks, {os.cpu_count()} cores, median of {options.rounds} rounds"
    )
    print("concurrency  shell loop    harness  ratio  share/trial    start  each")
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    for at_once in options.concurrency:
        for line in measure(tasks, at_once, options.rounds, place):
            print(line, flush=True)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
