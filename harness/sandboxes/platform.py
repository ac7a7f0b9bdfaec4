"""The server that gives the sandboxes, and what may be reached from them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from harness.errors import TaskFault, UsageError
from harness.tasks.hosts import is_loopback

_ADDRESS = re.compile(r"[\d.]+(:\d+)?|[\da-fA-F:]*:[\da-fA-F:.]*")
FULL_TIERS = ("namespaces", "bubblewrap")
"""The local server's tier in which a sandbox is a machine of its own, and the name that it had in earlier releases."""


@dataclass(frozen=True)
class Platform:
    """The server that gives the sandboxes.

    `params` go to every call of the SDK. Without them the SDK reads the variables E2B_* itself.

    `isolation` is the tier of a local server, also of one that E2B's variables name, and `enforces` what that enforces.
    `shortcoming` tells why it is not a better one.
    """

    kind: Literal["e2b", "local"]
    params: Mapping[str, Any] = field(default_factory=dict)
    isolation: str | None = None
    enforces: tuple[str, ...] | None = None
    shortcoming: str | None = None

    @property
    def description(self) -> str:
        """As the run's header says it."""
        if self.kind == "local":
            return f"local ({self.isolation})"
        server = os.environ.get("E2B_API_URL") or os.environ.get("E2B_DOMAIN") or "e2b.app"
        return f"e2b ({server}, {self.isolation})" if self.isolation else f"e2b ({server})"

    def params_with(self, *, hosts: tuple[str, ...] = (), ca: str = "") -> dict[str, Any]:
        """The parameters of calls, with `hosts` that a build reaches beside the internet, and certificates to trust.

        Only a server of the harness's own can be told of them; others build where they build.

        Raises:
            TaskFault: when the platform cannot be given certificates.
        """
        if ca and not self.keeps_output:
            raise TaskFault(
                "template_file",
                "[sandbox] ca: this platform's sandboxes cannot be given certificates",
                remedy="put them into a template, or use --sandbox local",
            )
        told = {"Harness-Network": ",".join(hosts), "Harness-CA": ca}
        fields = {name: value for name, value in told.items() if value}
        return {**self.params, "api_headers": fields} if fields and self.keeps_output else dict(self.params)

    @property
    def keeps_output(self) -> bool:
        """True if the server keeps a command's output outside of the sandbox, for who has lost a part of it."""
        return self.kind == "local" or self.isolation is not None

    @property
    def is_here(self) -> bool:
        """True for a server on this machine's loopback: it can give its sandboxes a way to that; the cloud cannot."""
        return self.kind == "local" or names_this_machine()

    @property
    def has_own_processes(self) -> bool:
        """True if every process in sight inside a sandbox is the sandbox's own."""
        return self.isolation is None or self.isolation in FULL_TIERS


def names_this_machine() -> bool:
    """Tell whether E2B's variables name a server on this machine's loopback."""
    try:
        return is_loopback(urlsplit(os.environ.get("E2B_API_URL", "")).hostname or "")
    except ValueError:
        return False


def e2b_platform() -> Platform:
    """The server that the SDK's own environment variables name.

    Raises:
        UsageError: without a key.
    """
    if not os.environ.get("E2B_API_KEY"):
        raise UsageError(
            "--sandbox e2b needs E2B_API_KEY",
            remedy="set it (https://e2b.dev/dashboard), or use --sandbox local",
        )
    return Platform("e2b")


@dataclass(frozen=True)
class Network:
    """The hosts that a sandbox may reach: all, or only `allow` (hosts, CIDR; on local also 127.0.0.1:PORT).

    With `open`, all is the internet: what `allow` has is reached beside it, such as a model's API on this machine, or a
    name that stands for a private address.
    """

    open: bool = False
    allow: tuple[str, ...] = ()
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def options(self, *, is_own_server: bool = False) -> dict[str, Any]:
        """As `create` takes it. `headers` are put on requests to a host by the platform, outside the sandbox.

        E2B's cloud takes names only where all else is denied, and reaches no private address of anybody's: with `open`,
        they are for a server of the harness's own.
        """
        network: dict[str, Any]
        rules = {host: [{"transform": {"headers": dict(add)}}] for host, add in self.headers.items()}
        if self.open:
            addresses = [host for host in self.allow if _ADDRESS.fullmatch(host)]
            network = {"rules": rules} if rules else {}
            if is_own_server and len(addresses) < len(self.allow):
                network |= {"allow_out": [*self.allow, "*", "0.0.0.0/0", "::/0"], "deny_out": ["0.0.0.0/0"]}
            elif addresses:
                network |= {"allow_out": addresses}
            return {"network": network} if network else {}
        if not self.allow:
            return {"allow_internet_access": False}
        network = {"allow_out": list(self.allow), "deny_out": ["0.0.0.0/0"]}
        if rules:
            network["rules"] = rules
        return {"network": network}
