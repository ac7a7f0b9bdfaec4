"""What all trials of a run share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class RunContext:
    """What all trials of a run share.

    `secrets` has the values that variants refer to by name, `template_ids` the platform's ids of templates by their
    names, each asked for once: by whoever holds `asking`. `invalid_settings` has what is wrong with the settings of a
    variant (by its hash) where Claude Code is of a template or snapshot, once that was asked.
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
    invalid_settings: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    snapshots: Snapshots = field(default_factory=Snapshots)
    disk: DiskExecutor = field(default_factory=DiskExecutor)
    secrets: Mapping[str, str] = field(default_factory=dict)
    keep: Keep = "none"
    keep_work: Keep = "all"

    async def remember_template_id(self, name: str, is_snapshot: bool, sandbox: Sandbox) -> str | None:
        """The platform's id of a template, asked for once a run; a sandbox from a snapshot does not know it."""
        async with self.asking:
            if name not in self.template_ids and not is_snapshot:
                self.template_ids[name] = await sandbox.template_id()
        return self.template_ids.get(name)

    async def remember_claude_sha256(self, name: str, sandbox: Sandbox) -> str | None:
        """The SHA-256 of a template's Claude Code, asked for once a run; None where the program may not be read."""
        if name not in self.claude_sha256s:
            result = await sandbox.run(_DIGEST, timeout=60.0)
            found = re.match("[0-9a-f]{64}", result.stdout)
            self.claude_sha256s[name] = found[0] if found else None
        return self.claude_sha256s[name]
