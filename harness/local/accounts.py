"""Which of this machine's accounts sandboxes run as.

bwrap started by root would give the guest root's powers over this machine's files and /proc/sys, whatever
uid it shows inside. So a server that is root gives every sandbox an account of its own, which owns nothing
else; a server that is not root can only use its own.
"""

import os
import secrets
from pathlib import Path

UNUSED = range(1_879_048_192, 2_147_352_575)
"""uids that neither users, subordinate ranges nor system services are given (systemd's UIDS-GIDS)."""

NOBODY = 65_534


class NoAccount(Exception):
    """A server that is root cannot become anybody else here."""


def new_account() -> int:
    """A uid for one sandbox: one's own, or, for root, one picked at random from those nobody has.

    Raises NoAccount when this root is alone in its user namespace.
    """
    if os.geteuid() != 0:
        return os.geteuid()
    return secrets.choice(candidates(Path("/proc/self/uid_map").read_text()))


def account_of(state: Path) -> int:
    """The uid that a sandbox with this state directory runs as: its owner, if it has been made already.

    Raises NoAccount.
    """
    owner = state.stat().st_uid if state.exists() else 0
    return owner or new_account()


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
