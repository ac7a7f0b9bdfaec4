"""A sandbox's own certificate authority, by which the egress proxy can change requests inside of TLS connections.

The key stays outside. The sandbox gets the certificate, together with those that this machine trusts.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

BUNDLE = "/etc/sandbox-ca.pem"
"""The path of the certificates inside the sandbox."""

_VARIABLES = (
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    "NODE_EXTRA_CA_CERTS",
)
"""Variables that name the trusted certificates for OpenSSL, curl, Python, git, pip and Node.js."""

TRUST = dict.fromkeys(_VARIABLES, BUNDLE)


class Authority:
    """Makes certificates that only this sandbox trusts."""

    def __init__(self) -> None:
        import trustme  # imports all of `cryptography`, which most servers never need

        self._ca = trustme.CA(organization_name="local sandbox")
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """Return the TLS context for a server that acts as this host. It offers only HTTP/1.1."""
        if host not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._ca.issue_cert(host).configure_cert(context)
            self._contexts[host] = context
        return self._contexts[host]

    def bundle(self) -> bytes:
        """Return the certificates that programs in the sandbox trust: this machine's, and this authority's."""
        machine = ssl.get_default_verify_paths().cafile or certifi.where()
        return Path(machine).read_bytes() + b"\n" + self._ca.cert_pem.bytes()
