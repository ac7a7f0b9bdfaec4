"""The agent that applies the reference solution: every check passes with it, or the task is wrong."""

from __future__ import annotations

from pathlib import Path

from harness.agents.base import AgentContext
from harness.errors import CheckFault
from harness.records.record import Stop
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.archive import pack
from harness.sandboxes.layout import work_folder
from harness.sandboxes.sandbox import CommandTimeoutError
from harness.sandboxes.shell import handed_over
from harness.tasks.task import Task
from harness.text import keep_end

_SOLUTION = ".harness/solution"
_APPLY = """
set -e
if [ -e ~/.harness/solution ]; then rm -rf ~/.harness/solution; fi
(cd ~ && %s)
if [ -f ~/.harness/solution/solve.sh ]; then exec bash ~/.harness/solution/solve.sh; fi
cp -a ~/.harness/solution/. .
"""
_APPLY_PATCH = "git apply --whitespace=nowarn ~/.harness/solution.patch"


class Oracle:
    """Lays `solution/` over the repo, runs its `solve.sh`, or applies `solution.patch`; those of turns come before."""

    needs_model = False
    is_proved = False

    async def run(self, spec: TrialSpec, context: AgentContext) -> Stop:
        """Apply the solutions of the turns, and the task's own.

        Raises:
            CheckFault: when there is none, or one cannot be applied.
        """
        task = spec.task
        turns = {turn: own.solution for turn, own in enumerate(task.turns, 1) if own.solution}
        context.answer = task.answer
        if task.solution is None and not turns and task.answer is None:
            raise CheckFault("no_solution", f"task {task.name!r} has no solution for the oracle")
        for turn, folder in turns.items():
            stop = await _apply(context, task, folder)
            if stop != "completed":
                return stop
            if turn < len(task.turns) and not await context.on_turn_end(turn):
                return "completed"
        return await _apply(context, task, task.solution) if task.solution else "completed"


def _patch_in(solution: Path) -> bytes | None:
    return solution.read_bytes() if solution.is_file() else None


async def _apply(context: AgentContext, task: Task, solution: Path) -> Stop:
    """Apply one of a task's solutions, and say what ended it. One that was killed is judged, as Claude Code is."""
    patch = _patch_in(solution)
    if patch is not None:
        await context.sandbox.write(".harness/solution.patch", patch)
        script = _APPLY_PATCH
    else:
        archive = pack({}, {_SOLUTION: solution}, {_SOLUTION: task.hash})
        unpack = await handed_over(context.sandbox, archive, f"{_SOLUTION}.tar")
        script = _APPLY % unpack
    try:
        result = await context.sandbox.run(script, cwd=work_folder(task), timeout=task.timeout)
    except CommandTimeoutError:
        return "timeout"
    if result.exit_code < 0:
        return "killed"
    if result.exit_code:
        raise CheckFault(
            "solution_failed",
            f"the solution ended with exit code {result.exit_code}: {keep_end(result.stderr.strip(), 2000)}",
        )
    return "completed"
