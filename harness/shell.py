"""Scripts of the harness's own in a sandbox where an agent has been."""

from __future__ import annotations

from collections.abc import Mapping

from harness.sandbox import HOME, Result, Sandbox, without_profile


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

    Its $HOME is the directory that it starts in: the user's home, or `cwd`.
    """
    own, variables = without_profile(script, env or {})
    return await sandbox.run(own, timeout=timeout, cwd=cwd, env=variables, user=user)
