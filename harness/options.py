"""What was asked for: on the command line, in the ini file, or not at all.

Read in every pytest run that names an option of ours, so that it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from harness.errors import UsageError

AgentChoice = Literal["claude", "oracle", "nop"]
SandboxChoice = Literal["auto", "e2b", "local"]
SourceChoice = Literal["auto", "api", "replay"]


@dataclass(frozen=True)
class Options:
    """The options of one invocation. `replay` names a run (or is None); `concurrency` None is the platform's own.

    `variant` has the names of those to run (none: all that `variants`, or else the file nearest to a task, declares);
    `seed` None is to be drawn.
    """

    agent: AgentChoice = "claude"
    sandbox: SandboxChoice = "auto"
    isolation: str | None = None
    model_source: SourceChoice = "auto"
    replay: str | None = None
    concurrency: int | None = None
    trials: int = 1
    variant: tuple[str, ...] = ()
    variants: Path | None = None
    seed: int | None = None
    retries: int = 2
    results: Path = Path("results")


_LEAST = {"concurrency": 1, "trials": 1, "seed": 0, "retries": 0}
"""Options that are whole numbers, and the smallest that makes sense."""


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
    values["results"] = base("results") / values.get("results", Options.results)
    values["variant"] = tuple(values.get("variant", "").split())
    if "variants" in values:
        values["variants"] = base("variants") / values["variants"]
    return Options(**values)


def _number(name: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise UsageError(f"--{name} {text!r} is not a whole number", remedy=f"give one from {least} on")
    return int(text)
