"""The agent that applies the reference solution: every check passes with it, or the task is wrong."""

from __future__ import annotations

from harness.agents.base import Workplace
from harness.archive import pack_folder
from harness.errors import CheckFault
from harness.record import Stop, TrialSpec
from harness.sandbox import REPO, CommandTimeoutError

_APPLY = """
set -e
mkdir -p ~/.harness/solution && tar -xzf ~/.harness/solution.tgz -C ~/.harness/solution
if [ -f ~/.harness/solution/solve.sh ]; then exec bash ~/.harness/solution/solve.sh; fi
cp -a ~/.harness/solution/. .
"""


class Oracle:
    """Lays `solution/` over the repo, or runs its `solve.sh` there."""

    async def run(self, spec: TrialSpec, place: Workplace) -> Stop:
        """Apply the solution.

        Raises:
            CheckFault: when the task has none, or it cannot be applied.
        """
        task = spec.task
        if task.solution is None:
            raise CheckFault(
                "no_solution",
                f"task {task.name!r} has no solution/ for the oracle",
                retry=False,
                remedy="add one, or leave the task out with -k",
            )
        await place.sandbox.write(".harness/solution.tgz", pack_folder(task.solution))
        try:
            result = await place.sandbox.run(_APPLY, cwd=REPO, timeout=task.timeout)
        except CommandTimeoutError:
            return "timeout"
        if result.exit_code:
            raise CheckFault(
                "solution_failed",
                f"the solution ended with exit code {result.exit_code}: {result.stderr.strip()[-2000:]}",
                retry=False,
            )
        return "completed"
