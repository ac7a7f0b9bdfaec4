"""The isolation of sandboxes from this machine: tiers, and the choice of one that works.

| tier | isolation by |
|---|---|
| namespaces | a machine of its own: root file system, accounts, processes, network |
| landlock | no namespaces: the kernel limits processes to their own folders, and their signals to each other |
| unsafe | nothing: only if requested |

A tier works if a real guest can be started and set up in it.
"""

import contextlib
import json
import marshal
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from harness.local.boxes import equal_files, restricted
from harness.local.boxes.accounts import NoAccount, find_account
from harness.local.boxes.cgroups import Cgroups
from harness.local.boxes.diagnosis import explain_no_landlock, explain_no_namespaces
from harness.local.boxes.guest_launch import LaunchedGuest, LaunchSpec, setup_request
from harness.local.boxes.namespaces import UPPER, Namespaces, list_ways
from harness.local.template import base_template

Tier = Literal["namespaces", "landlock", "unsafe"]
OLD_NAMES: Mapping[str, Tier] = {"bubblewrap": "namespaces"}
"""Names that options and records had before."""

PROBE_TIMEOUT_S = 20.0
SIGNALS_SCOPED = 6
"""The first version of Landlock in which a sandbox cannot send signals outside."""


class IsolationError(Exception):
    """No tier works on this machine, or the requested one does not."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class UnavailableTier:
    """A tier that does not work here, with its error, the cause, and a remedy."""

    tier: Tier
    error: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Isolation:
    """A tier that works here."""

    tier: Tier
    enforces: frozenset[str]
    """The limits that a sandbox cannot escape, of "files", "processes", "network", "memory", "pids", "cpu", "disk",
    "accounts" (`user` has not root's power).

    Memory, pids, cpu and disk are limited only if the sandbox's limits say so."""
    unavailable: tuple[UnavailableTier, ...] = ()
    """The better tiers that do not work here."""
    cgroups: Cgroups = field(default_factory=Cgroups)
    namespaces: Namespaces | None = None
    """How sandboxes of the tier `namespaces` are made."""
    one_account: str | None = None
    """Why `user` and root are one account in the tier `namespaces`; None where they are two."""

    @property
    def shortcoming(self) -> str | None:
        """The reason for which sandboxes are not kept apart better; None where nothing better was tried."""
        parts = [f"{each.tier}: {each.cause} ({each.error})" for each in self.unavailable]
        return "; ".join([*parts, *filter(None, [self.one_account])]) or None

    @classmethod
    def probe(cls, requested: str | None = None) -> "Isolation":
        """Return the best tier that works on this machine, or the one requested here or by $HARNESS_ISOLATION.

        Raises IsolationError if the requested tier does not work, or if none does.
        """
        requested = requested or os.environ.get("HARNESS_ISOLATION") or None
        if requested is not None:
            return cls._probe_requested(requested)
        unavailable: list[UnavailableTier] = []
        tiers: tuple[Tier, ...] = ("namespaces", "landlock")
        for tier in tiers:
            found = cls._probe_tier(tier, tuple(unavailable))
            if isinstance(found, Isolation):
                return found
            unavailable.append(found)
        tried = "; ".join(f"{each.tier}: {each.cause} ({each.error})" for each in unavailable)
        remedies = " ".join(each.remedy for each in unavailable if each.remedy)
        remedies += " --isolation unsafe runs sandboxes with no walls at all."
        raise IsolationError(f"sandboxes cannot be isolated on this machine: {tried}", remedies)

    @classmethod
    def _probe_requested(cls, requested: str) -> "Isolation":
        requested = OLD_NAMES.get(requested, requested)
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
        error: Exception = OSError("there is no way to try")
        candidates, lacking = cls._candidates(tier, unavailable)
        for candidate in candidates:
            try:
                version, account = _probe_guest(candidate)
            except (OSError, NoAccount, _GuestFailed) as failure:
                error = failure
                lacking = f"a sandbox with ids of its own could not be started: {failure}"
            else:
                enforces = _enforced_by(tier, version, account != os.geteuid(), candidate.cgroups)
                if candidate.namespaces and candidate.namespaces.bounds_disk:
                    enforces |= {"disk"}
                if candidate.namespaces and candidate.namespaces.ids != "one":
                    enforces, lacking = enforces | {"accounts"}, None
                return replace(candidate, enforces=enforces, one_account=lacking)
        explain = {"namespaces": explain_no_namespaces, "landlock": explain_no_landlock}
        cause, remedy = explain.get(tier, _explain_nothing)(str(error))
        return UnavailableTier(tier, str(error), cause, remedy)

    @classmethod
    def _candidates(
        cls, tier: Tier, unavailable: tuple[UnavailableTier, ...]
    ) -> "tuple[list[Isolation], str | None]":
        """Return the forms of a tier, the best first, at least one; and why a better one cannot be tried."""
        cgroups = Cgroups.detect()
        if tier != "namespaces":
            return [cls(tier, frozenset(), unavailable, cgroups)], None
        ways, lacking = list_ways()
        return [cls(tier, frozenset(), unavailable, cgroups, way) for way in ways], lacking

    def account_for(self, state: Path) -> int:
        """Return the uid that a sandbox with this state directory runs as. Raises NoAccount."""
        if self.namespaces is not None:
            return self.namespaces.new_account()
        if self.tier == "unsafe":
            return os.geteuid()
        try:
            return find_account(state)
        except NoAccount:
            return os.geteuid()

    def launch(self, spec: LaunchSpec, control: socket.socket) -> LaunchedGuest:
        """Start a guest with the other end of the server's socket. Raises OSError."""
        if self.namespaces is not None:
            return self.namespaces.launch(spec, control)
        return restricted.launch(spec, control, landlock=self.tier == "landlock")

    def seed_files(self, source: Path, state: Path, account: int) -> None:
        """Give a new sandbox the files that `copy_files` has copied. Raises OSError."""
        if self.namespaces is not None:
            self.namespaces.copy(source, state / UPPER)
        else:
            restricted.copy_places(source, state, account)

    def copy_files(self, state: Path, target: Path) -> None:
        """Copy a sandbox's files to a folder. Nothing in it may run meanwhile. Raises OSError."""
        if self.namespaces is not None:
            self.namespaces.copy(state / UPPER, target)
        else:
            restricted.copy_places(state, target)

    def share_files(self, copy: Path, earlier: Path) -> int:
        """Let two folders that `copy_files` has made share what is equal in them. Returns the bytes that are freed.

        Raises OSError.
        """
        if self.namespaces is not None and self.namespaces.subordinate is not None:
            program = (sys.executable, "-I", "-S", equal_files.__file__)
            return int(self.namespaces.subordinate.run(*program, str(copy), str(earlier)))
        return equal_files.share_equal_files(str(copy), str(earlier))


class _GuestFailed(Exception):
    """The guest of a probe did not start."""


def _explain_nothing(error: str) -> tuple[str, str]:
    return "a process cannot be started as it has to be", ""


def _enforced_by(tier: Tier, landlock: int | None, separate: bool, cgroups: Cgroups) -> frozenset[str]:
    found = set(cgroups.controllers - {"freezer"})
    if tier == "namespaces":
        found |= {"files", "processes", "network", "pids"}
    if landlock is not None:
        found |= {"files"}
    if separate or (landlock or 0) >= SIGNALS_SCOPED:
        found |= {"processes"}
    if separate:
        found |= {"pids"}
    return frozenset(found)


def _probe_guest(isolation: Isolation) -> tuple[int | None, int]:
    """Start a guest, set it up, and kill it. Returns Landlock's version if it is used, and the account.

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
            return _send_setup(ours, guest), spec.account
        finally:
            guest.kill_processes(spec.account)
            guest.process.kill()
            guest.process.wait()
            guest.errors.close()


def _send_setup(control: socket.socket, guest: LaunchedGuest) -> int | None:
    control.settimeout(PROBE_TIMEOUT_S)
    body = marshal.dumps({"id": 1, "op": "setup", "fds": 0, **setup_request(guest, [])})
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
