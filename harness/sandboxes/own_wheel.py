"""A wheel of the repo's own package, as an editable install makes one: metadata and commands, and its code where it is.

It is made before the repo's files are there, and of what is declared alone: no program of the repo is run.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from harness.tasks.ownpackage import OwnPackage

_REPO = "/home/user/repo"
_WHEEL = "Wheel-Version: 1.0\nGenerator: harness\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_FINDER = '''"""Finds the packages of the repo, after all others."""

import sys
from importlib.machinery import PathFinder

ROOTS = {roots!r}


class RepoFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        # What the interpreter looks for by itself when it starts is not the repo's to say.
        if path is None and name not in ("sitecustomize", "usercustomize"):
            return PathFinder.find_spec(name, ROOTS)


sys.meta_path.append(RepoFinder)
'''


def write_wheel(package: OwnPackage, folder: Path) -> str:
    """Write the wheel into a folder; its name."""
    stem = f"{re.sub(r'[-_.]+', '_', package.name).lower()}-{package.version.replace('-', '_')}"
    finder, info = f"__editable_{stem.partition('-')[0]}_finder", f"{stem}.dist-info"
    roots = [f"{_REPO}/{root}".rstrip("/") for root in package.roots]
    groups = dict.fromkeys(group for group, _, _ in package.entry_points)
    points = {group: [point for point in package.entry_points if point[0] == group] for group in groups}
    files = {
        f"{finder}.py": _FINDER.format(roots=roots),
        f"{finder}.pth": f"import {finder}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n",
        f"{info}/WHEEL": _WHEEL,
        f"{info}/entry_points.txt": "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for _, name, target in found) + "\n"
            for group, found in points.items()
        ),
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
