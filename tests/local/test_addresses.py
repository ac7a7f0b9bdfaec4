"""What is this machine's surroundings is so in every spelling; and the proxy and certificates of this machine."""

from __future__ import annotations

import ipaddress

import pytest

from harness.local.network.addresses import Kind, kind_of
from harness.local.network.machine import UpstreamProxy, is_direct, proxy_for


def embedding(address: str) -> list[str]:
    """The IPv6 addresses that lead to an IPv4 address."""
    number = int(ipaddress.IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    teredo = f"2001:0:808:808:0:0:{(number >> 16) ^ 0xFFFF:x}:{(number & 0xFFFF) ^ 0xFFFF:x}"
    return [
        f"::ffff:{address}",
        f"::ffff:0:{high}:{low}",
        f"::{high}:{low}",
        f"64:ff9b::{high}:{low}",
        f"64:ff9b:1::{high}:{low}",
        f"2002:{high}:{low}::1",
        f"2001:0:{high}:{low}:0:0:f7f7:f7f7",
        teredo,
        f"2606:4700::5efe:{high}:{low}",
        f"2606:4700::200:5efe:{high}:{low}",
    ]


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("198.18.0.1", "private"),
        ("127.0.0.1", "local"),
        ("127.8.8.8", "local"),
        ("0.0.0.0", "local"),
        ("169.254.1.1", "local"),
        ("224.0.0.1", "local"),
        ("255.255.255.255", "local"),
        ("169.254.169.254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
    ],
)
def test_an_address_is_as_private_as_what_it_leads_to(address: str, kind: Kind) -> None:
    """NAT64, 6to4, Teredo, ISATAP, mapped, translated and compatible forms of it are so, too."""
    severity = ("public", "private", "local", "metadata")
    assert kind_of(ipaddress.ip_address(address)) == kind
    for form in embedding(address):
        found = kind_of(ipaddress.ip_address(form))
        assert severity.index(found) >= severity.index(kind), form


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("64:ff9b::808:808", "public"),
        ("2002:808:808::1", "public"),
        ("::ffff:8.8.8.8", "public"),
        ("::", "local"),
        ("::1", "local"),
        ("fe80::1", "local"),
        ("fe80::1%3", "local"),
        ("ff02::1", "local"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("fd00:ec2::254", "metadata"),
    ],
)
def test_addresses_of_version_6_have_their_kinds(address: str, kind: Kind) -> None:
    assert kind_of(ipaddress.ip_address(address)) == kind


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "direct"),
    [
        ("pypi.org", 443, "", False),
        ("localhost", 443, "", True),
        ("127.0.0.1", 80, "", True),
        ("::1", 80, "", True),
        ("pypi.org", 443, "*", True),
        ("pypi.org", 443, "other.org, pypi.org", True),
        ("files.pypi.org", 443, "pypi.org", True),
        ("files.pypi.org", 443, ".pypi.org", True),
        ("files.pypi.org", 443, "*.pypi.org", True),
        ("evilpypi.org", 443, "pypi.org", False),
        ("pypi.org", 443, "PyPI.org", True),
        ("pypi.org", 443, "pypi.org:443", True),
        ("pypi.org", 80, "pypi.org:443", False),
        ("10.1.2.3", 443, "10.0.0.0/8", True),
        ("11.1.2.3", 443, "10.0.0.0/8", False),
        ("fd00::1", 443, "fd00::/8", True),
        ("fd00::1", 443, "[fd00::1]:443", True),
        ("10.1.2.3", 443, "10.1.2.3", True),
    ],
)
def test_no_proxy_is_read_as_others_read_it(host: str, port: int, no_proxy: str, direct: bool) -> None:
    assert is_direct(host, port, no_proxy) is direct


def test_the_machines_proxy_is_that_of_the_scheme() -> None:
    """Lower case before upper case, ALL_PROXY in their place; with its user, who is not in the address."""
    environ = {
        "HTTPS_PROXY": "http://me:p%40ss@proxy.corp:3128",
        "http_proxy": "proxy.corp",
        "NO_PROXY": "x.corp",
    }
    assert proxy_for("https", "pypi.org", 443, environ) == UpstreamProxy(
        "http", "proxy.corp", 3128, "Basic bWU6cEBzcw=="
    )
    assert proxy_for("http", "pypi.org", 80, environ) == UpstreamProxy("http", "proxy.corp", 80)
    assert proxy_for("https", "x.corp", 443, environ) is None
    assert proxy_for("https", "pypi.org", 443, {}) is None
    assert proxy_for("http", "pypi.org", 80, {"ALL_PROXY": "https://p.corp"}) == UpstreamProxy(
        "https", "p.corp", 443
    )
    with pytest.raises(ValueError, match=r"socks5://p\.corp is no http or https proxy"):
        proxy_for("https", "pypi.org", 443, {"HTTPS_PROXY": "socks5://p.corp"})
