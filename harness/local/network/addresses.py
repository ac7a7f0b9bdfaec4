"""The kinds of addresses: the internet, a network of this machine's surroundings, or this machine itself."""

import ipaddress
from collections.abc import Iterator
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Block = ipaddress.IPv4Network | ipaddress.IPv6Network
Kind = Literal["public", "private", "local", "metadata"]
"""`local`: loopback, link-local and the like; `metadata`: where clouds tell a machine its secrets."""

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
            *("fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        ),
    )
)
"""AWS (also its containers), Google, Alibaba, Oracle, Azure; most others have the first."""
_LOCAL = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
            *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
        ),
    )
)
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"),
            *("192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
            *("fc00::/7", "fec0::/10", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "5f00::/16"),
        ),
    )
)
_LAST_32_BITS = tuple(
    map(ipaddress.ip_network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96"))
)
"""Forms that end with an IPv4 address: mapped, translated, compatible, NAT64."""
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_ISATAP = (0x00005EFE, 0x02005EFE)
_SEVERITY: tuple[Kind, ...] = ("public", "private", "local", "metadata")


def kind_of(address: Address) -> Kind:
    """The kind of an address. One that carries an IPv4 address is at least as private as that."""
    kinds = [_own_kind(address), *map(_own_kind, embedded(address))]
    return max(kinds, key=_SEVERITY.index)


def unmapped(address: Address) -> Address:
    """The IPv4 address that ::ffff:a.b.c.d is another spelling of, else the address itself without its zone."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address


def embedded(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to, by the rules of some gateway."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    bits = int(address)
    if any(ipaddress.IPv6Address(bits) in block for block in _LAST_32_BITS) and bits > 1:
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    if ipaddress.IPv6Address(bits) in _LOCAL_NAT64:
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)


def names(block: Block, address: Address) -> bool:
    """True if a rule for this block means this address, and not simply a part of the world that it happens to be in."""
    if address not in block:
        return False
    match kind_of(address):
        case "public":
            return block.prefixlen > 0
        case "private":
            return _is_within(block, _PRIVATE + _LOCAL) or block.num_addresses == 1
        case "local":
            return _is_within(block, _LOCAL) or block.num_addresses == 1
        case "metadata":
            return block.num_addresses == 1


def _own_kind(address: Address) -> Kind:
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Address(int(address))  # without its zone
    if address in _METADATA:
        return "metadata"
    if any(address in block for block in _LOCAL) or address.is_loopback or address.is_link_local:
        return "local"
    if any(address in block for block in _PRIVATE):
        return "private"
    if any(address in block for block in _LAST_32_BITS):
        return "public"  # what it carries decides
    return "public" if address.is_global else "private"


def _is_within(block: Block, blocks: tuple[Block, ...]) -> bool:
    return any(
        block.version == outer.version and block.network_address in outer and block.broadcast_address in outer
        for outer in blocks
    )
