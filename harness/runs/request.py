"""The request of a run: its variants, its tasks, the seed, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import UsageError
from harness.records.redaction import SHORTEST_SECRET
from harness.report.setup import TaskWords
from harness.variants.variant import DEFAULT, Variant


@dataclass(frozen=True)
class RunRequest:
    """The variants of a run, the seed of their order, its tasks by name, and the command as it was typed.

    `task_secrets` names the variables of this machine with its tasks' secrets.
    """

    variants: tuple[Variant, ...] = (DEFAULT,)
    seed: int = 0
    task_secrets: tuple[str, ...] = ()
    tasks: Mapping[str, TaskWords] = field(default_factory=dict)
    command: str | None = None

    def secrets(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The secret values that the variants refer to.

        Raises:
            UsageError: when one is not there, or is too short to be told from other text.
        """
        wanted = {name: variant.name for variant in reversed(self.variants) for name in variant.secrets}
        for name, variant in wanted.items():
            if len(environ.get(name, "")) < SHORTEST_SECRET:
                what = (
                    "has fewer than 8 characters, too few to be kept out of records"
                    if environ.get(name)
                    else "is not set"
                )
                raise UsageError(
                    f"variant {variant!r} refers to ${{env:{name}}}, and {name} {what}",
                    remedy=f"set {name} to the secret; a value that is not secret can stand in variants.toml itself",
                )
        return {name: environ[name] for name in wanted}
