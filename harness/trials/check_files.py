"""The files that checks go by, put in place anew before each check: what ran before may have changed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.sandboxes.archive import pack, unpack_command
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import handed_over
from harness.tasks.contents import files_in
from harness.tasks.globs import matching_files
from harness.tasks.task import Task


@dataclass(frozen=True)
class CheckFiles:
    """A tar, for `/`, of all that checks go by; None where there is nothing.

    It has `checks/` and what is told of the session, in a folder of their own, and in the repo the starter's protected
    files and the task's overlay.
    """

    tar: bytes | None

    @classmethod
    def of(
        cls,
        task: Task,
        told: Mapping[str, bytes],
        *,
        folder: str,
        repo: str,
        is_anew: bool,
        but: frozenset[str] = frozenset(),
    ) -> CheckFiles:
        """The task's, for its `folder` and `repo` in the sandbox. What is protected has been put in place once; it is
        needed where that is done anew.

        `but` names files of the repo that are not the starter's: a variant has laid its own there.
        """
        own, into = folder.strip("/"), repo.strip("/")
        found = matching_files(task.repo, task.protect) if is_anew and task.repo and task.protect else []
        files = {name: task.repo / name for name in found if name not in but} if task.repo else {}
        if task.overlay:
            files |= {path.relative_to(task.overlay).as_posix(): path for path in files_in(task.overlay)}
        checks = {f"{own}/checks": task.checks_folder} if task.checks_folder else {}
        if not (files or checks or told):
            return cls(None)
        return cls(
            pack(
                {f"{own}/": b"", **{f"{own}/told/{name}": content for name, content in told.items()}},
                {**checks, **{f"{into}/{name}": path for name, path in files.items()}},
                dict.fromkeys(checks, task.hash),
                is_readable=True,
            )
        )

    @property
    def is_small(self) -> bool:
        """True if they go with a command, without an upload."""
        return self.tar is None or unpack_command(self.tar) is not None

    async def lay_command(self, sandbox: Sandbox) -> str:
        """A command for root that puts them in place. What stands there goes first: it may be another's, say of an
        agent with root's power. What is for checks alone belongs to root: where that is another account, the code under
        test cannot write it.

        Raises:
            SandboxFault: when the sandbox is lost.
        """
        if self.tar is None:
            return "true"
        return f"cd / && {await handed_over(sandbox, self.tar, '.harness/checks.tar', anew=True)}"
