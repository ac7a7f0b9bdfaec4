"""From the start of `pytest tasks` to the first trial's first request, beside what it is made of.

    python benchmarks/startup.py [--rounds 9] [--most 0.3]

Measured in turn, round by round, and told as medians: `pytest` with one empty test and without this plugin; `import
e2b` (less Python's own start, which is in pytest's); Claude Code's own start, from its process to its first request, in
a git repo with the flags and variables that harness gives it; and a run of one task, from pytest's start to the first
request of its session. The last less the three others is harness's own: options, collection, the local server, a fresh
sandbox, the repo in it. Exits with 1 when it is above --most seconds. A server on loopback takes the requests.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.agents.claude import ENV, argv
from harness.local.template import claude_template
from harness.records.trial_spec import TrialSpec
from harness.tasks.loading import load_task
from harness.variants.variant import DEFAULT
from tests.support.folders import task_folder
from tests.support.messages_api import MessagesApi, Reply, Request, Say

COMMIT = "git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm start"


def timed(command: list[str], cwd: Path, env: Mapping[str, str]) -> float:
    start = time.monotonic()
    subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def until_request(command: list[str], cwd: Path, env: Mapping[str, str], arrivals: list[float]) -> float:
    """The time until the command's session first asks the model."""
    arrivals.clear()
    start = time.monotonic()
    subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return arrivals[0] - start


def parts(root: Path, api: MessagesApi, arrivals: list[float]) -> dict[str, Callable[[], float]]:
    """What is measured: each takes its time once."""
    (root / "empty").mkdir()
    (root / "empty" / "test_empty.py").write_text("def test_empty(): pass\n")
    folder = task_folder(root / "tasks", checks={"true.sh": "#!/bin/sh\n"})
    repo = root / "repo"
    repo.mkdir()
    (repo / "question.txt").write_text("6 x 7?\n")
    subprocess.run(COMMIT, shell=True, cwd=repo, check=True)
    template = claude_template()
    inside = template.programs["claude"]
    mount, here = next((m, h) for m, h in template.binds.items() if inside.startswith(f"{m}/"))
    program = f"{here}{inside.removeprefix(mount)}"
    plain = {"PATH": os.environ["PATH"], "HOME": str(root), "LANG": "C.UTF-8"}
    bare = {**plain, **ENV, **api.env()}
    spec = TrialSpec(load_task(folder), DEFAULT, 1, "claude")
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    def claude() -> float:
        command = shlex.join([program, *argv(spec, str(uuid.uuid4()), 1, None)[1:]])
        return until_request(["sh", "-c", f"echo hi | {command}"], repo, bare, arrivals)

    def imported() -> float:
        return timed([sys.executable, "-c", "import e2b"], root, plain) - timed(
            [sys.executable, "-c", ""], root, plain
        )

    def harness() -> float:
        command = [*pytest, "tasks", "--sandbox", "local", "--model-source", "api", "--max-cost", "none"]
        return until_request(command, root, {**plain, **api.env()}, arrivals)

    return {
        "pytest, one empty test": lambda: timed([*pytest, "-p", "no:harness", "empty"], root, plain),
        "import e2b": imported,
        "Claude Code's start": claude,
        "pytest tasks": harness,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--most", type=float, default=0.3)
    options = parser.parse_args()
    arrivals: list[float] = []

    def arrive(request: Request) -> Reply:
        arrivals.append(time.monotonic())
        return Say("Done.")

    with MessagesApi([arrive]) as api, tempfile.TemporaryDirectory() as folder:
        measured = parts(Path(folder), api, arrivals)
        for measure in measured.values():
            measure()  # Bytecode and caches are there for all rounds.
        rounds = [{name: measure() for name, measure in measured.items()} for _ in range(options.rounds)]
    for name in measured:
        print(f"{name:24} {median(one[name] for one in rounds):6.2f} s")
    own = median(2 * one["pytest tasks"] - sum(one.values()) for one in rounds)
    print(f"{'harness itself':24} {own:6.2f} s (at most {options.most:g} are wanted)")
    sys.exit(int(own > options.most))


if __name__ == "__main__":
    main()
