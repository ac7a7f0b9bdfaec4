"""This machine's own way to the network: its proxy, and the certificates that it trusts.

Both are read from the variables that other programs use: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY;
SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and REQUESTS_CA_BUNDLE.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certifi

CA_VARIABLES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE")
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class UpstreamProxy:
    """A proxy that this machine uses. `authorization` is the value of Proxy-Authorization, empty without one."""

    scheme: str
    host: str
    port: int
    authorization: str = ""

    @classmethod
    def parse(cls, url: str) -> UpstreamProxy:
        """Parse a proxy's URL; `HOST:PORT` is http. Raises ValueError for another kind of proxy."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{parts.scheme}://{parts.hostname or ''} is no http or https proxy")
        secret = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            secret = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], secret)


def proxy_for(
    scheme: str, host: str, port: int, environ: Mapping[str, str] = os.environ
) -> UpstreamProxy | None:
    """The proxy through which this machine reaches a host; None: directly.

    Raises:
        ValueError: when the variables name one that cannot be used.
    """
    url = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not url or is_direct(host, port, _variable(environ, "no_proxy")):
        return None
    return UpstreamProxy.parse(url)


def is_direct(host: str, port: int, no_proxy: str) -> bool:
    """True if NO_PROXY has a host: as `*`, a name (it has its subdomains), an address or a block, each with `:port`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(
    entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    name, colon, last = entry.rpartition(":")
    if colon and last.isdigit() and ":" not in name.strip("[]").replace("::", ""):
        if int(last) != port:
            return False
        entry = name
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            return False
    entry = entry.removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def extra_certificates(ca: Path | None = None, environ: Mapping[str, str] = os.environ) -> bytes:
    """The certificates that this machine's variables name beside the system's, and those of a file, as PEM.

    Raises:
        OSError: when one of the files cannot be read.
    """
    named = [Path(environ[name]) for name in CA_VARIABLES if environ.get(name)]
    contents = [path.read_bytes() for path in dict.fromkeys([*named, *([ca] if ca else [])])]
    return b"\n".join(content for content in contents if content != system_certificates())


@functools.cache
def system_certificates() -> bytes:
    """The certificates that the system trusts, as PEM."""
    # Not Python's `cafile`, in whose place SSL_CERT_FILE may stand.
    places = (*_SYSTEM_FILES, ssl.get_default_verify_paths().openssl_cafile, certifi.where())
    return next(path for path in map(Path, places) if path.is_file()).read_bytes()


@functools.lru_cache(maxsize=8)
def client_context(certificates: bytes) -> ssl.SSLContext:
    """The context for TLS to a host, by what the system trusts, and these certificates. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=system_certificates().decode("ascii", "replace"))
    if certificates.strip():
        context.load_verify_locations(cadata=certificates.decode("ascii", "replace"))
    return context
