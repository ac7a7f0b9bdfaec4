"""A task in Harbor's format, run by Harbor itself on the local sandbox server: what other tools of E2B's find here.

    python benchmarks/harbor_run.py [--harbor PATH] [TASK]

Harbor is not installed with the project: `pip install 'harbor[e2b]==0.26.0'` into an environment of its own, with
Python 3.12. The oracle must be rewarded with 1 and an agent that does nothing with 0. Other tasks must be built from
`e2bdev/base` where no registry is in reach.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.local.launch import start_server

REWARDS = {"oracle": 1.0, "nop": 0.0}
FILES = {
    "task.toml": 'version = "1.0"\n[agent]\ntimeout_sec = 60.0\n[verifier]\ntimeout_sec = 60.0\n',
    "instruction.md": "Write 42 into /app/answer.txt.\n",
    "environment/Dockerfile": "FROM e2bdev/base\nWORKDIR /app\n",
    "solution/solve.sh": "#!/bin/bash\necho 42 >/app/answer.txt\n",
    "tests/test.sh": "#!/bin/bash\ngrep -qx 42 /app/answer.txt && echo 1 >/logs/verifier/reward.txt || "
    "echo 0 >/logs/verifier/reward.txt\n",
}


def main() -> int:
    """Run the task with each agent and print its reward."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", type=Path, metavar="TASK")
    parser.add_argument("--harbor", default="harbor", metavar="PATH")
    asked = parser.parse_args()
    server = start_server()
    env = {
        **os.environ,
        "E2B_API_KEY": server.api_key,
        "E2B_API_URL": server.url,
        "E2B_SANDBOX_URL": server.url,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        task = (asked.task or _write_task(folder / "answer")).resolve()
        rewards = {agent: _reward(asked.harbor, task, agent, folder / agent, env) for agent in REWARDS}
    for agent, reward in rewards.items():
        print(f"{agent:8} reward {reward} (expected {REWARDS[agent]})")
    return int(rewards != REWARDS)


def _write_task(folder: Path) -> Path:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _reward(harbor: str, task: Path, agent: str, jobs: Path, env: dict[str, str]) -> float | None:
    """The mean reward of a job of one trial; None where Harbor has none, and its output is shown."""
    command = [harbor, "run", "-p", str(task), "-a", agent, "-e", "e2b", "--jobs-dir", str(jobs)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    results = [json.loads(path.read_text()) for path in jobs.glob("*/result.json")]
    for evaluation in results[0]["stats"]["evals"].values() if results else ():
        for metric in evaluation["metrics"]:
            return float(metric["mean"])
    print(ran.stdout + ran.stderr, file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
