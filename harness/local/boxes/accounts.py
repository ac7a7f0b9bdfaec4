"""Which of this machine's accounts sandboxes run as.

bwrap started by root would give the guest root's powers over this machine's files and /proc/sys, whatever
uid it shows inside. So a server that is root gives every sandbox an account of its own, which owns nothing
else; a server that is not root can only use its own.
"""

import functools
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from harness.local.boxes.procfs import has_processes

UNUSED = range(1_879_048_192, 2_147_352_575)
"""uids that neither users, subordinate ranges nor system services are given (systemd's UIDS-GIDS)."""

NOBODY = 65_534


NEEDED = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What it takes to run something as another account, and to end it and remove its files."""


class NoAccount(Exception):
    """A server that is root cannot become anybody else here."""


def new_account() -> int:
    """A uid for one sandbox: one's own, or, for root, one picked at random from those nobody has.

    A sandbox's end is the end of all that runs under its uid, so no two have the same: not of this server, and
    none of another's that is at work.

    Raises NoAccount when this root may not become anybody else, or is alone in its user namespace.
    """
    if os.geteuid() != 0:
        return os.geteuid()
    return pick(_others())


@functools.cache
def _others() -> range:
    """The accounts that this root may become. Raises NoAccount."""
    capabilities = _capabilities()
    missing = {name for name, number in NEEDED.items() if not capabilities >> number & 1}
    if missing:
        raise NoAccount(f"this root may not change accounts: it lacks {', '.join(sorted(missing))}")
    return candidates(Path("/proc/self/uid_map").read_text())


_given: set[int] = set()
"""What this process has given to its sandboxes, those that have ended included."""


def pick(accounts: range) -> int:
    """One of these that was not given away before, and that no process has. Raises NoAccount."""
    before = {account for account in _given if account in accounts}
    if len(before) > len(accounts) // 2:  # most of these have ended long ago, and those at work are seen
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


def account_of(state: Path) -> int:
    """The uid that a sandbox with this state directory runs as: the one it was made for, if it has been made.

    Raises NoAccount.
    """
    group = state.stat().st_gid if os.geteuid() == 0 and state.exists() else 0
    return group or new_account()


def prepare_state(state: Path, account: int, places: Iterable[str]) -> None:
    """Make the sandbox's places and give them to its account. The state directory itself, which no other
    account may enter, stays ours: else a sandbox could put a link where we expect a folder. Raises OSError.
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


def candidates(uid_map: str) -> range:
    """The uids to pick from, given the map of the user namespace that the server is in."""
    extents = [(int(first), int(count)) for first, _, count in map(str.split, uid_map.splitlines())]
    for first, count in extents:
        if first <= UNUSED.start and first + count >= UNUSED.stop:
            return UNUSED
    first, count = max(extents, key=lambda extent: extent[1])
    if first + count > 2 * NOBODY:
        upper = range(max(first + count // 2, NOBODY + 2), first + count)
    else:
        upper = range(first + count // 2, min(first + count, NOBODY))
    if len(upper) < 256:
        raise NoAccount("this root's user namespace has no other accounts")
    return upper
