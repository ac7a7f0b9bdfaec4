"""A variant: a named treatment, the same for every trial that it is applied to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Variant:
    """What differs from running `claude` plainly. None or empty leaves Claude Code's own default.

    `args` are appended to the CLI's argument vector; `env` is laid over the task's; `template` replaces the
    task's.
    """

    name: str = "default"
    model: str | None = None
    template: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over everything but the name, in hexadecimal."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


DEFAULT = Variant()
