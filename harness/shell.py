"""Scripts of the harness's own in a sandbox where an agent has been."""

from __future__ import annotations

from collections.abc import Mapping

from harness.sandbox import HOME, Result, Sandbox


async def run_own(
    sandbox: Sandbox,
    script: str,
    *,
    timeout: float,
    cwd: str = HOME,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Result:
    """Run a script, as `Sandbox.run` does, without what an agent may have put into the shell's start-up files.

    The platform's shell is a login shell, which reads those of $HOME: one line in them could forge any verdict.
    So it gets a home without any, and the script the directory that it starts in: the user's home, or `cwd`.
    """
    own = f"export HOME=$PWD\n{script}"
    return await sandbox.run(own, timeout=timeout, cwd=cwd, env={**(env or {}), "HOME": "/"}, user=user)
