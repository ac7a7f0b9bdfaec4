"""Egress rules of a sandbox, with E2B's meaning.

`allow_out` wins over `deny_out`, which wins over the default (everything, or nothing without internet access).
A rule is an address, a block of addresses, a host name, `*.name`, or one of these with `:port`.

Addresses of this machine and of its local networks are not the internet (addresses.py). A host that is named in full is
reached at a private address too; loopback, link-local and metadata addresses only where a rule names the address. All
else (`*.name`, `0.0.0.0/0`, the default) reaches public addresses alone. `127.0.0.1:PORT` in `allow_out` is an
extension: that port of this machine's loopback is then also the sandbox's own 127.0.0.1:PORT, for a model's API that is
served here.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.local.network.addresses import Address, embedded, kind_of, names, unmapped
from harness.local.network.origin import Origin, canonical_host

ALL_TRAFFIC = "0.0.0.0/0"
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*{_LABEL}|\*", re.ASCII)

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

LOOPBACK_NAMES = ("127.0.0.1", "localhost")


class NetworkPolicyError(ValueError):
    """A rule is invalid. The message says which one, and what would be valid."""


@dataclass(frozen=True)
class Rule:
    """One entry of a list: a block of addresses or a pattern of names, on one port or all of them."""

    text: str
    block: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    name: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Parse a rule. Raises NetworkPolicyError."""
        host, port = _split_port(text.strip().lower())
        try:
            return cls(text, ipaddress.ip_network(host, strict=False), None, port)
        except ValueError:
            pass  # not an address, so it must be a name
        if not _NAME.fullmatch(host) or re.fullmatch(r"[0-9./:]+", host):
            raise NetworkPolicyError(
                f"invalid network rule {text!r}: give an address, a CIDR block, a host name or *.name, "
                "each with :port if it is to be only one port"
            )
        return cls(text, None, host, port)

    @property
    def is_everything(self) -> bool:
        """True for all addresses on all ports."""
        return self.block is not None and self.block.prefixlen == 0 and self.port is None

    @property
    def loopback_port(self) -> int | None:
        """The port of this machine's loopback that the rule opens; None for any other rule."""
        here = self.name == "localhost" or (self.block is not None and str(self.block) == "127.0.0.1/32")
        return self.port if here else None

    def covers_name(self, name: str, port: int) -> bool:
        """True if the rule covers a host name, in any case and with or without the trailing dot."""
        if self.name is None or self.port not in (None, port):
            return False
        name = name.lower().removesuffix(".")
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return self.name in ("*", name)

    def covers_address(self, address: Address, port: int) -> bool:
        """True if the rule covers an address."""
        return self.block is not None and self.port in (None, port) and address in self.block

    def names_address(self, address: Address, port: int) -> bool:
        """True if the rule covers this address, and means it."""
        return self.covers_address(address, port) and self.block is not None and names(self.block, address)

    def names_host(self, name: str, port: int) -> bool:
        """True if the rule covers a host name that it has in full."""
        return "*" not in (self.name or "*") and self.covers_name(name, port)


@dataclass(frozen=True)
class Injection:
    """Header fields that the proxy adds to requests to one origin, so that a key need not be in the sandbox."""

    host: str
    """`https://HOST[:PORT]` or `http://HOST[:PORT]`; HOST alone is https, but for this machine's loopback: see
    `NetworkPolicy.keyed`."""
    headers: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Raise NetworkPolicyError for values that cannot be sent as a header."""
        for name, value in self.headers:
            if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
                raise NetworkPolicyError(f"invalid header {name!r} in the network rules of {self.host!r}")

    def origin(self, loopback_port: int | None) -> Origin:
        """The one origin that the fields are for. Raises NetworkPolicyError.

        `loopback_port` is the port that a bare 127.0.0.1 or localhost stands for.
        """
        try:
            if "://" in self.host:
                return Origin.parse(self.host.lower())
            host, port = _split_port(self.host.strip().lower())
            rule = Rule.parse(self.host)
            if "*" in host or (rule.block is not None and rule.block.num_addresses > 1):
                raise ValueError("it names more than one host")
            if host in LOOPBACK_NAMES:
                return Origin.of("http", host, port or loopback_port)
            return Origin.of("https", host, port)
        except ValueError as error:
            raise NetworkPolicyError(
                f"invalid host {self.host!r} in the network rules ({error}): a key is for one host, "
                "as HOST, https://HOST[:PORT] or http://HOST[:PORT]"
            ) from error


def _split_port(text: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::(\d+))?", text)
    plain = re.fullmatch(r"([^:]*):(\d+)", text)
    found = bracketed or plain
    if found is None or found[2] is None:
        return (found[1] if found else text), None
    port = int(found[2])
    if not 0 < port < 65536:
        raise NetworkPolicyError(f"invalid network rule {text!r}: no such port")
    return found[1], port


@dataclass(frozen=True)
class NetworkPolicy:
    """The egress rules of one sandbox. Raises NetworkPolicyError for invalid lists."""

    allow_internet_access: bool = True
    allow_out: tuple[str, ...] = ()
    deny_out: tuple[str, ...] = ()
    injections: tuple[Injection, ...] = ()

    def __post_init__(self) -> None:
        _ = self.keyed
        named = [rule for rule in self._allow if rule.name is not None and rule.loopback_port is None]
        if named and self._default_is_open:
            raise NetworkPolicyError(
                f"allow_out names a domain ({named[0].text}): deny_out must then hold {ALL_TRAFFIC!r}, "
                "so that everything else is denied"
            )
        if any(rule.name is not None for rule in self._deny):
            raise NetworkPolicyError("deny_out takes addresses and CIDR blocks, not domains")

    @cached_property
    def _allow(self) -> tuple[Rule, ...]:
        return tuple(map(Rule.parse, self.allow_out))

    @cached_property
    def _deny(self) -> tuple[Rule, ...]:
        return tuple(map(Rule.parse, self.deny_out))

    @property
    def _default_is_open(self) -> bool:
        return self.allow_internet_access and not any(rule.is_everything for rule in self._deny)

    @property
    def loopback_ports(self) -> frozenset[int]:
        """Ports of this machine's loopback that the sandbox can reach."""
        return frozenset(rule.loopback_port for rule in self._allow if rule.loopback_port is not None)

    @property
    def can_reach_out(self) -> bool:
        """True if any address beyond this machine can be reached."""
        return self._default_is_open or any(rule.loopback_port is None for rule in self._allow)

    def refusal(self, host: str, port: int) -> str | None:
        """Return the reason why this host may not even be looked up; None if its addresses decide."""
        named = any(rule.covers_name(host, port) for rule in self._allow)
        is_here = canonical_host(host) in LOOPBACK_NAMES
        by_address = any(
            rule.block is not None and (is_here or rule.loopback_port is None) for rule in self._allow
        )
        if named or by_address or self._default_is_open:
            return None
        return f"{host}:{port} is not in the sandbox's allow_out"

    def names(self, host: str, port: int) -> bool:
        """True if a rule has this host name in full."""
        return any(rule.names_host(host, port) for rule in self._allow)

    @cached_property
    def keyed(self) -> Mapping[Origin, Mapping[str, str]]:
        """The header fields that requests to each origin get, by their names in lower case. Later rules win.

        A bare 127.0.0.1 or localhost is the first of its ports in `allow_out`.
        """
        ports = [rule.loopback_port for rule in self._allow if rule.loopback_port is not None]
        found: dict[Origin, dict[str, str]] = {}
        for injection in self.injections:
            fields = found.setdefault(injection.origin(next(iter(ports), None)), {})
            fields |= {name.lower(): value for name, value in injection.headers}
        return found

    def key_at(self, scheme: str, host: str, port: int) -> Origin | None:
        """The origin of this scheme, host and port, if requests to it get header fields."""
        origin = Origin(scheme, canonical_host(host), port)
        return origin if origin in self.keyed else None

    def key_at_loopback(self, port: int) -> Origin | None:
        """The origin with header fields that is this port of this machine's loopback."""
        return next(
            (origin for origin in self.keyed if origin.host in LOOPBACK_NAMES and origin.port == port), None
        )

    def permitted(self, host: str, port: int, addresses: Iterable[Address]) -> list[Address]:
        """Return those of a host's addresses that may be connected to. `host` is a name or an address."""
        return [address for address in addresses if self._permits(unmapped(address), host, port)]

    def _permits(self, address: Address, host: str, port: int) -> bool:
        if any(rule.names_address(address, port) for rule in self._allow):
            return True
        kind = kind_of(address)
        if kind == "private":
            return self.names(host, port)
        if kind != "public":
            return False
        if any(rule.covers_name(host, port) or rule.covers_address(address, port) for rule in self._allow):
            return True
        return self._default_is_open and not self._is_denied(address, port)

    def _is_denied(self, address: Address, port: int) -> bool:
        ways = (address, *embedded(address))
        return any(rule.covers_address(way, port) for rule in self._deny for way in ways)
