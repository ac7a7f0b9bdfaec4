"""A sandbox's own certificate authority: by it the egress proxy may open TLS connections that rules say to change.

The key stays out here; the sandbox gets the certificate, beside those that this machine trusts.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

BUNDLE = "/root/.sandbox-ca.pem"
"""Where the certificates are inside, as a sandbox path."""

_VARIABLES = (
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    "NODE_EXTRA_CA_CERTS",
)
"""By which OpenSSL, curl, Python, git, pip and Node.js are told what to trust."""

TRUST = dict.fromkeys(_VARIABLES, BUNDLE)


class Authority:
    """Makes certificates that only this sandbox trusts."""

    def __init__(self) -> None:
        import trustme  # with all of `cryptography` below it, which most servers never need

        self._ca = trustme.CA(organization_name="local sandbox")
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """For a server that is to be taken for this host. It speaks HTTP/1.1 alone."""
        if host not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._ca.issue_cert(host).configure_cert(context)
            self._contexts[host] = context
        return self._contexts[host]

    def bundle(self) -> bytes:
        """What programs in the sandbox are to trust: what this machine trusts, and this authority."""
        machine = ssl.get_default_verify_paths().cafile or certifi.where()
        return Path(machine).read_bytes() + b"\n" + self._ca.cert_pem.bytes()
