"""An open run, and its header."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.records.store import RunLock
from harness.runs.engine import Engine
from harness.runs.options import Options
from harness.runs.request import RunRequest
from harness.runs.resources import RunResources
from harness.runs.resume import ResumedRun
from harness.sandboxes.platform import FULL_TIERS, Platform
from harness.trials.context import RunContext


@dataclass(frozen=True)
class OpenRun:
    """An open run: its resources and engine, the run that it resumes, its lock, and the request it was opened for."""

    resources: RunResources
    engine: Engine
    resumed: ResumedRun
    lock: RunLock
    request: RunRequest

    @property
    def context(self) -> RunContext:
        """The context that its trials share."""
        return self.resources.context


def header_lines(run: OpenRun, options: Options, notes: Iterable[str]) -> list[str]:
    """Lines about a run: what runs, where, and where the records go."""
    context, budget = run.context, run.engine.budget
    lines = [
        f"harness: agent {options.agent}, model {context.model.description}, "
        f"sandbox {context.platform.description}, {run.engine.concurrency} at once, "
        f"results {_shown(context.folder.path)}"
    ]
    if budget.limit is not None:
        lines.append(f"harness: at most {budget.limit:.2f} USD (--max-cost), {budget.spent:.2f} spent so far")
    if run.resumed.folder:
        lines.append(f"harness: going on with a run that has {len(run.resumed.records)} records")
    variants = [variant.name for variant in run.request.variants]
    if len(variants) > 1:
        seed = run.request.seed
        lines.append(f"harness: variants {', '.join(variants)}; in an order drawn from --seed {seed}")
    notes = [f"harness: {note}" for note in notes]
    return [*lines, *_warnings(context.platform), *notes]


def _warnings(platform: Platform) -> list[str]:
    if platform.isolation not in (None, *FULL_TIERS):
        enforced = ", ".join(platform.enforces or ()) or "nothing"
        why = f" ({platform.shortcoming})" if platform.shortcoming else ""
        return [
            f"harness: restricted isolation ({platform.isolation}): enforced are {enforced}{why}; see docs/isolation.md"
        ]
    if platform.isolation == FULL_TIERS[0] and "accounts" not in (platform.enforces or ()):
        why = platform.shortcoming or "its server does not say why"
        return [f"harness: one account: `user` is root in sandboxes: {why}; see docs/isolation.md"]
    return []


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
