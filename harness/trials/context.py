"""The context that all trials of a run share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from harness.models.model import Model
from harness.models.provider import Provider
from harness.records.store import RunFolder
from harness.sandboxes.pacing import Pacer
from harness.sandboxes.platform import Platform
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.templates import Templates
from harness.tasks.gitrepo import Repos
from harness.trials.disk import DiskExecutor
from harness.trials.snapshots import Snapshots
from harness.trials.timeouts import DEFAULT_TIMEOUTS, Timeouts

_DIGEST = (
    'program=$(readlink -f "$(command -v claude)"); '
    'cat "${program%/*}/claude.sha256" 2>/dev/null || sha256sum <"$program"'
)
"""Where a program may be run and not read, the server that put it there has put its digest beside."""
Keep = Literal["none", "failed", "all"]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class RunContext:
    """The context that all trials of a run share.

    `secrets` has the values that variants refer to by name, `template_ids` the platform's ids of templates by their
    names, each asked for once: by whoever holds `asking`. `networks` has whether the engine enforces them, once that
    was tried; `invalid_settings` what is wrong with the settings of a variant (by its hash) where Claude Code is of a
    template or snapshot, once that was asked.
    """

    platform: Platform
    model: Model
    folder: RunFolder
    repos: Repos
    templates: Templates
    git_commit: str | None = None
    pacer: Pacer = field(default_factory=Pacer)
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    provider: Provider = field(default_factory=Provider)
    template_ids: dict[str, str] = field(default_factory=dict)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    claude_sha256s: dict[str, str | None] = field(default_factory=dict)
    networks: dict[str, bool | None] = field(default_factory=dict)
    invalid_settings: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    snapshots: Snapshots = field(default_factory=Snapshots)
    disk: DiskExecutor = field(default_factory=DiskExecutor)
    secrets: Mapping[str, str] = field(default_factory=dict)
    keep: Keep = "none"
    keep_work: Keep = "all"

    async def remember_template_id(self, name: str, is_snapshot: bool, sandbox: Sandbox) -> str | None:
        """The platform's id of a template, asked for once a run; a sandbox from a snapshot does not know it."""
        if is_snapshot:
            return self.template_ids.get(name)
        return await self.ask_once(self.template_ids, name, sandbox.template_id)

    async def remember_claude_sha256(self, name: str, sandbox: Sandbox) -> str | None:
        """The SHA-256 of a template's Claude Code, asked for once a run; None where the program may not be read."""

        async def ask() -> str | None:
            result = await sandbox.run(_DIGEST, timeout=60.0)
            found = re.match("[0-9a-f]{64}", result.stdout)
            return found[0] if found else None

        return await self.ask_once(self.claude_sha256s, name, ask)

    async def ask_once(self, known: dict[K, V], key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer under a key, asked for once a run; when that fails, whoever waits asks by its own sandbox."""
        if key not in known:
            async with self.asking:
                if key not in known:
                    known[key] = await ask()
        return known[key]
