"""The installation of the packages of a repo's package.json, by the program whose lock file it has."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_QUIET = ("--no-audit", "--no-fund", "--prefer-offline")
_PNPM_OF_LOCK = {"5": "7", "6": "8"}
_YARN_OF_LOCK = {"4": "2", "5": "3", "6": "3"}


@dataclass(frozen=True)
class Way:
    """A call of npm: its arguments, environment, and the lock file that it follows, if any. No scripts are run."""

    words: tuple[str, ...]
    lock: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> str:
        """As a shell command."""
        env = "".join(f"{name}={shlex.quote(value)} " for name, value in self.env.items())
        return f"{env}npm {shlex.join(self.words)}"


def ways_to_install(folder: Path) -> Iterator[Way]:
    """Ways to install what a folder's package.json wants, the best first; the last follows no lock file."""
    for lock in ("package-lock.json", "npm-shrinkwrap.json"):
        if (folder / lock).is_file():
            yield Way(("ci", "--ignore-scripts", *_QUIET), lock)
            break
    else:
        if (folder / "pnpm-lock.yaml").is_file():
            yield _pnpm(folder)
        elif (folder / "yarn.lock").is_file():
            yield _yarn(folder)
    yield Way(("install", "--ignore-scripts", "--no-package-lock", *_QUIET))


def _pnpm(folder: Path) -> Way:
    lock = (folder / "pnpm-lock.yaml").read_text(errors="replace")
    found = re.search(r"^lockfileVersion: '?(\d+)", lock, re.MULTILINE)
    version = _named(folder, "pnpm") or _PNPM_OF_LOCK.get(found.group(1) if found else "", "9")
    # Packages in one flat folder, as npm has them, and none that are links into the user's own store.
    options = ("--frozen-lockfile", "--ignore-scripts", "--prefer-offline", "--config.node-linker=hoisted")
    plain = ("--config.package-import-method=copy", "--config.manage-package-manager-versions=false")
    return Way(
        ("exec", "--yes", "--", f"pnpm@{version}", "install", *options, *plain), "pnpm-lock.yaml", {"CI": "1"}
    )


def _yarn(folder: Path) -> Way:
    lock = (folder / "yarn.lock").read_text(errors="replace")
    found = re.search(r"^__metadata:\n\s+version: (\d+)", lock, re.MULTILINE)
    if found is None:
        options = ("--frozen-lockfile", "--ignore-scripts", "--non-interactive", "--ignore-engines")
        return Way(("exec", "--yes", "--", "yarn@1", "install", *options), "yarn.lock", {"CI": "1"})
    version = _named(folder, "yarn") or _YARN_OF_LOCK.get(found.group(1), "4")
    # A newer yarn writes the lock file anew, with the same versions in it.
    off = (
        "YARN_ENABLE_TELEMETRY",
        "YARN_ENABLE_SCRIPTS",
        "YARN_ENABLE_IMMUTABLE_INSTALLS",
        "YARN_ENABLE_HARDENED_MODE",
    )
    env = {"YARN_NODE_LINKER": "node-modules", **dict.fromkeys(off, "0")}
    words = ("exec", "--yes", f"--package=@yarnpkg/cli-dist@{version}", "--", "yarn", "install")
    return Way(words, "yarn.lock", env)


def _named(folder: Path, manager: str) -> str | None:
    """The version of a package manager that package.json asks for."""
    try:
        asked = json.loads((folder / "package.json").read_text(encoding="utf-8")).get("packageManager")
    except (ValueError, AttributeError):
        return None
    found = re.fullmatch(rf"{manager}@(\d[\w.-]*)(\+.*)?", asked) if isinstance(asked, str) else None
    return found.group(1) if found else None


def in_the_sandbox(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry of node_modules as it is to be beside the repo: of no time, so that the template's name is made of its
    content; a workspace's link leads into the repo.
    """
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.issym() and not info.linkname.startswith("/"):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname))
        if not target.startswith(("node_modules/", "../")):
            info.linkname = "../" * info.name.count("/") + f"repo/{target}"
    return info
