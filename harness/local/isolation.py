"""How sandboxes are kept apart from this machine: tiers, and which of them works here.

| tier | walls |
|---|---|
| bubblewrap | namespaces: own files, processes, network, account |
| unsafe | none: by explicit choice alone |
"""

import os
import socket
from dataclasses import dataclass, field
from typing import Literal

from harness.local import bubblewrap
from harness.local.cgroups import Cgroups
from harness.local.launching import Launched, Plan, unconfined

Tier = Literal["bubblewrap", "landlock", "container", "unsafe"]


class IsolationError(Exception):
    """No tier, or not the requested one, works on this machine."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class PassedOver:
    """A better tier that does not work here, with its own words and what would help."""

    tier: Tier
    error: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Isolation:
    """A tier that works here."""

    tier: Tier
    enforces: frozenset[str]
    """Of "files", "processes", "network", "memory", "pids", "cpu": what a sandbox cannot get around."""
    passed_over: tuple[PassedOver, ...] = ()
    cgroups: Cgroups = field(default_factory=Cgroups)

    @property
    def own_account(self) -> bool:
        """Sandboxes do not run as the server does, if it is root."""
        return self.tier != "unsafe"

    @property
    def counts_own_processes(self) -> bool:
        """The kernel counts a sandbox's processes apart from all others, so that a limit means its own."""
        return self.tier == "bubblewrap" or (self.own_account and os.geteuid() == 0)

    @classmethod
    def probe(cls, requested: str | None = None) -> "Isolation":
        """The best tier that works on this machine, or the requested one.

        Raises IsolationError when the requested tier, or any tier at all, cannot be had.
        """
        requested = requested or os.environ.get("HARNESS_ISOLATION")
        if requested == "unsafe":
            return cls(tier="unsafe", enforces=frozenset())
        return cls(
            tier="bubblewrap",
            enforces=frozenset({"files", "processes", "network", "pids"}),
            cgroups=Cgroups.detect(),
        )

    def launch(self, plan: Plan, control: socket.socket) -> Launched:
        """Start a guest that holds the other end of the server's socket."""
        if self.tier == "unsafe":
            return unconfined(plan, control)
        return bubblewrap.launch(plan, control)
