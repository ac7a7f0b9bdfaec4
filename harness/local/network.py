"""What a sandbox may reach."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkPolicy:
    """Egress rules with E2B's meaning: what `allow_out` names is allowed, what `deny_out` names is not, the
    rest is allowed unless internet access is off. `127.0.0.1:PORT` in `allow_out` (an extension) opens that
    one port of this machine's loopback.
    """

    allow_internet_access: bool = True
    allow_out: tuple[str, ...] = ()
    deny_out: tuple[str, ...] = ()
