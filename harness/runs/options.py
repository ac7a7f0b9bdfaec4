"""The options of a run, from the command line or the ini file, or their defaults.

Read in every pytest run that names an option of ours, so that it imports nothing heavy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from harness.errors import UsageError
from harness.runs.shard import WHOLE, Shard, read_shard

SandboxChoice = Literal["auto", "e2b", "local"]
KeyChoice = Literal["auto", "platform", "sandbox"]
KeepChoice = Literal["none", "failed", "all"]
MAX_COST_USD = 10.0
"""The default of --max-cost."""
SourceChoice = Literal["auto", "api", "replay"]


@dataclass(frozen=True)
class Options:
    """The options of one invocation. `replay` names a run (or is None); `concurrency` None is the platform's own.

    `variant` has the names of those to run (none: all that `variants`, or else the file nearest to a task, declares);
    `seed` None is to be drawn.
    With `until_decided` a task gets `trials` trials at least and `max_trials` at most; `baseline` is what they are
    compared with, `fail_on` has the margins that they are settled against.
    `create_rate` is sandboxes a second (None: as fast as the platform takes it), `max_cost` US dollars (None: no
    limit), `grace` seconds; `resume` names a run (empty: the last), None starts a new one.
    """

    agent: str = "claude"
    sandbox: SandboxChoice = "auto"
    isolation: str | None = None
    model_source: SourceChoice = "auto"
    model_key: KeyChoice = "auto"
    replay: str | None = None
    concurrency: int | None = None
    trials: int = 1
    until_decided: bool = False
    max_trials: int = 20
    baseline: str | None = None
    fail_on: str | None = None
    variant: tuple[str, ...] = ()
    variants: Path | None = None
    seed: int | None = None
    retries: int = 2
    keep: KeepChoice = "none"
    keep_work: KeepChoice = "all"
    create_rate: float | None = None
    max_cost: float | None = MAX_COST_USD
    grace: float = 60.0
    resume: str | None = None
    shard: Shard = WHOLE
    plan: bool = False
    dataset: str | None = None
    limit: int | None = None
    sample: int | None = None
    results: Path = Path("results")

    @property
    def most_trials(self) -> int:
        """The most trials that a task folder may get under each variant."""
        return self.max_trials if self.until_decided else self.trials


_LEAST = {"limit": 1, "sample": 0, "concurrency": 1, "trials": 1, "max_trials": 1, "seed": 0, "retries": 0}
"""Options that are whole numbers, and the smallest that makes sense."""
_MOST = {"trials": 100_000, "max_trials": 100_000}
"""The largest: pytest makes an item of each trial before anything runs."""
_MOST_DIGITS = 18


def uses_local(options: Options) -> bool:
    """Tell whether the sandboxes are to come from a server on this machine."""
    return options.sandbox == "local" or (options.sandbox == "auto" and not os.environ.get("E2B_API_KEY"))


def read_options(given: Callable[[str], str | None], base: Callable[[str], Path]) -> Options:
    """Make options of text.

    Args:
        given: an option's text by its name (`model-source`), or None where it has its default.
        base: the folder that a relative path is below, by the option's name.

    Raises:
        UsageError: when a value cannot be used.
    """
    values: dict[str, Any] = {}
    for field in fields(Options):
        text = given(field.name.replace("_", "-"))
        if text is not None:
            least = _LEAST.get(field.name)
            values[field.name] = text if least is None else _number(field.name, text, least)
    if "create_rate" in values:
        values["create_rate"] = _amount("create-rate", values["create_rate"])
    if "max_cost" in values:
        values["max_cost"] = None if values["max_cost"] == "none" else _amount("max-cost", values["max_cost"])
    if "grace" in values:
        values["grace"] = _amount("grace", values["grace"], zero=True)
    if "shard" in values:
        values["shard"] = read_shard(values["shard"])
    values["plan"] = "plan" in values
    values["until_decided"] = "until_decided" in values
    values["results"] = base("results") / values.get("results", Options.results)
    values["variant"] = tuple(values.get("variant", "").split())
    if "variants" in values:
        values["variants"] = base("variants") / values["variants"]
    options = Options(**values)
    _refuse_rows_of_nothing(options)
    _refuse_impossible_rounds(options)
    return options


def _refuse_rows_of_nothing(options: Options) -> None:
    for name in ("limit", "sample"):
        if getattr(options, name) is not None and options.dataset is None:
            raise UsageError(f"--{name} is for a dataset's rows", remedy="name the dataset with --dataset")


def _refuse_impossible_rounds(options: Options) -> None:
    if options.until_decided and options.max_trials < options.trials:
        raise UsageError(
            f"--max-trials {options.max_trials} is less than --trials {options.trials}",
            remedy="--trials is the least that --until-decided does before its first look",
        )
    if options.until_decided and options.shard != WHOLE:
        raise UsageError(
            "--until-decided and --shard do not go together: a part of the trials decides nothing",
            remedy="use one of them",
        )


def _number(name: str, text: str, least: int) -> int:
    most = _MOST.get(name)
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not is_number or not least <= int(text) <= (most or int(text)):
        raise UsageError(
            f"--{name.replace('_', '-')} {text!r} is not a whole number",
            remedy=f"give one from {least} {f'to {most}' if most else 'on'}",
        )
    return int(text)


def _amount(name: str, text: str, *, zero: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (0 < number < math.inf or (zero and number == 0)):
        raise UsageError(f"--{name} {text!r} is not a number above 0", remedy=f"such as --{name} 2.5")
    return number
