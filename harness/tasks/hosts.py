"""Hosts: those that a sandbox may reach, as tasks and variants name them, and this machine's own."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field


def _a_network_if_it_looks_like_one(host: str) -> str:
    if "/" in host:
        try:
            ipaddress.ip_network(host, strict=False)
        except ValueError:
            raise ValueError("is no network (CIDR)") from None
    return host


# No URL: neither a scheme nor a path.
Host = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9*_.:\[\]-]+(/[0-9]{1,3})?$"),
    AfterValidator(_a_network_if_it_looks_like_one),
]
"""A host, `*.host`, an address or a network (CIDR), perhaps with a port."""


def is_loopback(host: str) -> bool:
    """True if a name or an address is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
