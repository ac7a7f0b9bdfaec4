"""The accounts of this machine that sandboxes run as.

A sandbox of root's would have root's power over this machine's files and /proc/sys, whatever uid is shown inside. So a
server that is root gives every sandbox ids of its own, which own nothing else. A server that is not root can only use
its own account, and the range that it may have.
"""

import functools
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from harness.local.boxes.procfs import has_processes

IDS = 65_536
"""The ids of one sandbox that is a machine: all that the files of a distribution have."""

UNUSED = range(1_879_048_192, 2_147_352_575)
"""uids that are given to neither users, subordinate ranges nor system services (systemd's UIDS-GIDS)."""

STORED = UNUSED.start
"""The id on disk of sandboxes' root. No process has an id of this first range."""

RANGES = range(STORED + IDS, UNUSED.stop - IDS, IDS)
"""The first id of each range that a sandbox may be given."""

NOBODY = 65_534


NEEDED = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""Capabilities needed to run processes as another account, to kill them, and to remove their files."""


class NoAccount(Exception):
    """A server that is root cannot change to another account here."""


def new_account() -> int:
    """Return a uid for one sandbox: the server's own, or, for root, a random unused one, the first of its range.

    When a sandbox ends, all processes of its uid are killed. So no two sandboxes share a uid, on this server or on
    another one that runs.

    Raises NoAccount if this root may not change accounts, or if its user namespace has no others.
    """
    if os.geteuid() != 0:
        return os.geteuid()
    return pick_account(_list_accounts())


@functools.cache
def _list_accounts() -> range:
    """Return the accounts that this root may change to. Raises NoAccount."""
    capabilities = _capabilities()
    missing = {name for name, number in NEEDED.items() if not capabilities >> number & 1}
    if missing:
        raise NoAccount(f"this root may not change accounts: it lacks {', '.join(sorted(missing))}")
    return list_candidates(Path("/proc/self/uid_map").read_text())


_given: set[int] = set()
"""The accounts that this process has given to its sandboxes, including those that have ended."""


def pick_account(accounts: range) -> int:
    """Pick one of these accounts that was not picked before and has no processes. Raises NoAccount."""
    before = {account for account in _given if account in accounts}
    if len(before) > len(accounts) // 2:  # most of them ended long ago, and those in use still have processes
        _given.difference_update(before)
    for _ in range(1000):
        account = secrets.choice(accounts)
        if account not in _given and not has_processes(account):
            _given.add(account)
            return account
    raise NoAccount("every account that this root could give to a sandbox is at work")


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))


def find_account(state: Path) -> int:
    """Return the uid of the sandbox with this state directory: the one it was made for, or a new one.

    Raises NoAccount.
    """
    group = state.stat().st_gid if os.geteuid() == 0 and state.exists() else 0
    return group or new_account()


def prepare_state(state: Path, account: int, places: Iterable[str]) -> None:
    """Make the sandbox's places and give them to its account. Raises OSError.

    The state directory itself stays the server's, and no other account may enter it. Else a sandbox could put a link
    where the server expects a folder.
    """
    own = account == os.geteuid()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in places:
        if not os.path.lexists(state / name):  # a template's place may be a single file
            (state / name).mkdir(mode=0o755)
        if not own:
            os.chown(state / name, account, account, follow_symlinks=False)
    os.chmod(state / "tmp", 0o1777)
    if not own:
        os.chown(state, os.geteuid(), account)
    os.chmod(state, 0o700 if own else 0o710)


def list_candidates(uid_map: str) -> range:
    """Return the uids to pick from, given the map of the server's user namespace. Raises NoAccount."""
    extents = [(int(first), int(count)) for first, _, count in map(str.split, uid_map.splitlines())]
    for first, count in extents:
        if first <= UNUSED.start and first + count >= UNUSED.stop:
            return RANGES
    first, count = max(extents, key=lambda extent: extent[1])
    if first + count > 2 * NOBODY:
        upper = range(max(first + count // 2, NOBODY + 2), first + count)
    else:
        upper = range(first + count // 2, min(first + count, NOBODY))
    if len(upper) < 256:
        raise NoAccount("this root's user namespace has no other accounts")
    return upper
