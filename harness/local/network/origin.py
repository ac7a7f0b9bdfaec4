"""One scheme, host and port: what a key is added for, and nothing beside it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.local.network.addresses import unmapped

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """An origin. `host` is in its one spelling: lower case, no last dot, addresses as Python writes them."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """The origin of a URL's parts."""
        return cls(scheme, canonical_host(host), PORTS[scheme] if port is None else port)

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Parse `http://HOST[:PORT]` or `https://HOST[:PORT]`. Raises ValueError for anything else."""
        parts = urlsplit(url)
        rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
        if parts.scheme not in PORTS or not parts.hostname or any(rest):
            raise ValueError(f"{url!r} is no http://HOST[:PORT] or https://HOST[:PORT]")
        return cls.of(parts.scheme, parts.hostname, parts.port)

    @property
    def authority(self) -> str:
        """`HOST`, or `HOST:PORT` where the port is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def canonical_host(host: str) -> str:
    """The one spelling of a name or an address."""
    host = host.strip("[]").lower().removesuffix(".")
    try:
        return str(unmapped(ipaddress.ip_address(host)))
    except ValueError:
        return host
