"""The files that checks go by, put in place anew before each check: what ran before may have changed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.sandboxes.archive import pack, pack_folder, unpack_command
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import chain, handed_over
from harness.tasks.contents import files_in
from harness.tasks.globs import matching_files
from harness.tasks.task import Task

_TOGETHER = 96 * 1024
"""Commands that are longer, together, are not one command: its length has a limit."""


@dataclass(frozen=True)
class CheckFiles:
    """Tars of `checks/`, and of the files that the repo gets: the starter's protected ones, and the task's overlay.
    None where there are none.
    """

    checks: bytes | None
    protected: bytes | None
    told: bytes | None = None

    @classmethod
    def of(
        cls, task: Task, told: Mapping[str, bytes], *, is_anew: bool, but: frozenset[str] = frozenset()
    ) -> CheckFiles:
        """The task's. What is protected has been put in place once; it is needed where that is done anew.

        `but` names files of the repo that are not the starter's: a variant has laid its own there.
        """
        folder = task.checks_folder
        found = matching_files(task.repo, task.protect) if is_anew and task.repo and task.protect else []
        files = {name: task.repo / name for name in found if name not in but} if task.repo else {}
        if task.overlay:
            files |= {path.relative_to(task.overlay).as_posix(): path for path in files_in(task.overlay)}
        return cls(
            checks=pack_folder(folder, task.hash, "checks") if folder else None,
            protected=pack({}, files) if files else None,
            told=pack({f"told/{name}": content for name, content in told.items()}, {}) if told else None,
        )

    @property
    def is_small(self) -> bool:
        """True if they go with a command, without an upload."""
        commands = [
            unpack_command(tar) for tar in (self.checks, self.protected, self.told) if tar is not None
        ]
        known = [command for command in commands if command is not None]
        return len(known) == len(commands) and sum(map(len, known)) <= _TOGETHER

    async def lay_command(self, sandbox: Sandbox, folder: str) -> str:
        """A command for root that puts them in place, whatever stands there: what is for checks alone in a folder.

        Raises:
            SandboxFault: when the sandbox is lost.
        """
        is_large = not self.is_small
        # What is there may be another's: of an agent with root's power, say.
        steps = [f"rm -rf {folder} && mkdir -p {folder}"]
        if self.checks is not None:
            unpack = await handed_over(
                sandbox, self.checks, ".harness/checks.tar", secret=is_large, anew=True
            )
            # They are not the user's: where root is another account, the code under test cannot write them.
            steps.append(f"cd {folder} && {unpack} && chmod -R a+rX checks")
        if self.protected is not None:
            unpack = await handed_over(
                sandbox, self.protected, ".harness/protected.tar", secret=is_large, anew=True
            )
            steps.append(f"cd ~/repo && {unpack}")
        if self.told is not None:
            unpack = await handed_over(sandbox, self.told, ".harness/told.tar", secret=is_large, anew=True)
            steps.append(f"cd {folder} && {unpack} && chmod -R a+rX told")
        return chain(*steps)
