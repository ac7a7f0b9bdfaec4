"""A sandbox's own certificate authority, by which the egress proxy can change requests inside of TLS connections.

The key stays outside. The sandbox gets the certificate, together with those that this machine trusts.
"""

from __future__ import annotations

import ssl

BUNDLE = "/root/.sandbox-ca.pem"
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
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    def context(self, *hosts: str) -> ssl.SSLContext:
        """Return the TLS context for a server that acts as these hosts. It offers only HTTP/1.1."""
        if hosts not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._ca.issue_cert(*hosts).configure_cert(context)
            self._contexts[hosts] = context
        return self._contexts[hosts]

    @property
    def certificate(self) -> bytes:
        """Its own certificate, as PEM."""
        return self._ca.cert_pem.bytes()
