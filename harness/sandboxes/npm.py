"""Claude Code's versions on npm: which is the latest, and the program of one."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from harness.errors import TaskFault

PACKAGE = "@anthropic-ai/claude-code"
PROGRAM, DIGEST = "claude", "claude.sha256"
_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT = httpx.Timeout(30.0, read=120.0)
_ARCHITECTURES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}


def latest() -> str:
    """The version that npm has as the latest. Raises TaskFault."""
    return str(_about(PACKAGE, "latest")["version"])


def download(version: str, folder: Path) -> None:
    """Put a version's program for this machine into a folder, to be run and not read, and beside it its SHA-256.

    Raises:
        TaskFault: when npm cannot be reached, does not have it, or sent something else.
        OSError: when it cannot be written.
    """
    about = _about(f"{PACKAGE}-{_architecture()}", version)
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as making:
        archive = Path(making) / "package.tgz"
        _download(about["dist"], archive)
        ready = Path(making) / "ready"
        ready.mkdir(mode=0o755)
        (ready / DIGEST).write_text(f"{_unpack(archive, ready / PROGRAM)}\n")
        (ready / PROGRAM).chmod(0o111)
        ready.rename(folder)


def _architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise TaskFault("claude_version", f"npm has no Claude Code for Linux on {machine}")
    return _ARCHITECTURES[machine]


def _about(package: str, version: str) -> Mapping[str, Any]:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    url = f"{registry.rstrip('/')}/{package.replace('/', '%2f')}/{version}"
    try:
        reply = httpx.get(url, timeout=_TIMEOUT, follow_redirects=True)
        if reply.status_code == 404:
            raise TaskFault(
                "claude_version",
                f"npm has no {package} {version}",
                remedy=f"https://www.npmjs.com/package/{PACKAGE}?activeTab=versions has those that there are",
            )
        about: Mapping[str, Any] = reply.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise _unreachable(url, error) from error
    return about


def _download(dist: Mapping[str, Any], archive: Path) -> None:
    digest = hashlib.sha512()
    try:
        with (
            httpx.stream("GET", dist["tarball"], timeout=_TIMEOUT, follow_redirects=True) as reply,
            archive.open("wb") as file,
        ):
            reply.raise_for_status()
            for chunk in reply.iter_bytes():
                digest.update(chunk)
                file.write(chunk)
    except httpx.HTTPError as error:
        raise _unreachable(str(dist["tarball"]), error) from error
    if f"sha512-{base64.b64encode(digest.digest()).decode()}" not in str(dist.get("integrity")).split():
        raise TaskFault("claude_version", f"{dist['tarball']} is not what npm says that it is")


def _unpack(archive: Path, program: Path) -> str:
    """The program of a package; returns its SHA-256."""
    digest = hashlib.sha256()
    with tarfile.open(archive) as package:
        source = package.extractfile(f"package/{PROGRAM}")
        if source is None:
            raise TaskFault("claude_version", f"there is no program in {archive.name}")
        with source, program.open("wb") as target:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                target.write(chunk)
    return digest.hexdigest()


def _unreachable(url: str, error: Exception) -> TaskFault:
    words = " ".join(str(error).split()) or type(error).__name__
    return TaskFault(
        "claude_version",
        f"npm cannot be asked for Claude Code ({url}): {words}",
        remedy="`claude_version` needs npm's registry (NPM_CONFIG_REGISTRY names another), or use a template that has "
        "the version",
    )
