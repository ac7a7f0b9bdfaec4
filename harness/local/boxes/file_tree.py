"""Copying and removing the files of a sandbox from outside.

A sandbox may contain links, FIFOs, sparse files, folders of mode 000, and very deep folders. cp, chown, chmod and rm
handle all of them, and follow no link here. Nothing inside may run meanwhile: it could replace a folder by a link.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from harness.local.boxes.subordinate import NoRange, find_range


def copy_tree(source: Path, target: Path, account: int | None = None) -> None:
    """Copy a folder's content with all attributes into another folder, or a single file. Raises OSError.

    A missing target folder is made. `account` will own the copy.
    """
    if source.is_dir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        _run("cp", "-a", f"{source}/.", str(target))
    else:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _run("cp", "-a", "-T", str(source), str(target))
    if account is not None and os.geteuid() == 0:
        _run("chown", "-R", "-h", f"{account}:{account}", str(target))


def measure_tree(path: Path) -> int:
    """Return the bytes that a folder's files take. What runs in it may change it meanwhile; no link is followed.

    Raises OSError.
    """
    try:
        return _measure_here(path)
    except (
        OSError,
        RecursionError,
    ):  # a folder that this account may not enter, or too many below each other
        return _measure_for_all_accounts(path)


def _measure_here(path: Path) -> int:
    def is_gone(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    total = 0
    for _, folders, names, fd in os.fwalk(path, onerror=is_gone):
        for name in (*folders, *names):
            try:
                total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
            except OSError:
                continue  # removed since it was listed
    return total


def _measure_for_all_accounts(path: Path) -> int:
    """Let du measure a folder. What it cannot find any more changes nothing."""
    command = ["sh", "-c", 'du -sx --block-size=1 -- "$1" 2>/dev/null || :', "sh", str(path)]
    if os.geteuid() == 0:
        printed = _run(*command)
    else:
        try:
            printed = find_range().run(*command)
        except NoRange:
            printed = _run("unshare", "--user", "--map-root-user", *command)
    total, _, _ = printed.partition("\t")
    if not total.isdecimal():
        raise OSError(f"du could not measure {path}")
    return int(total)


def remove_tree(path: Path) -> None:
    """Remove a folder and its content, if it exists. Raises OSError."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        # folders that their owner may not enter, or too deep ones for Python, or those of another account inside
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], capture_output=True, check=False)
        _run_for_all_accounts("rm", "-rf", str(path))


def _run_for_all_accounts(*command: str) -> None:
    """Run a command with power over the files of every account inside: root's, or that of this account's range."""
    if os.geteuid() != 0:
        with contextlib.suppress(NoRange):  # all files are this account's then
            find_range().run(*command)
            return
    _run(*command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
