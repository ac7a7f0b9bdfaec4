"""Connections from this machine to the hosts that a sandbox may reach."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass

from harness.local.network.addresses import Address
from harness.local.network.machine import UpstreamProxy, client_context, proxy_for
from harness.local.network.policy import NetworkPolicy
from harness.local.network.splice import Stream

CONNECT_TIMEOUT = 30.0


class Refused(Exception):
    """The sandbox's network rules do not allow it."""


class Unreachable(Exception):
    """It is allowed, and cannot be had."""


@dataclass(frozen=True)
class Upstream:
    """A connection to a host. `proxy` is what it leads to in the host's place, for plain HTTP."""

    stream: Stream
    proxy: UpstreamProxy | None = None


async def connect(policy: NetworkPolicy, host: str, port: int, *, plain: bool) -> Upstream:
    """Connect to a host that the policy allows, at an address that was checked.

    `plain`: what follows is plain HTTP, for which a proxy of this machine needs no tunnel.

    Raises:
        Refused: by the policy.
        Unreachable: when there is no way.
    """
    reason = policy.refusal(host, port)
    if reason is not None:
        raise Refused(reason)
    try:
        proxy = proxy_for("http" if plain else "https", host, port)
    except ValueError as error:
        raise Unreachable(f"this machine's proxy cannot be used: {error}") from error
    if proxy and policy.names(host, port):
        return await _through(proxy, host, port, plain=plain)
    permitted = await _resolve_permitted(policy, host, port)
    if proxy:  # by its address, since the proxy could find another one for the name
        return await _through(proxy, str(permitted[0]), port, plain=plain)
    return Upstream(await _direct(host, permitted, port))


async def start_tls(stream: Stream, host: str) -> None:
    """Turn a connection to a host into TLS, by what this machine trusts.

    Raises:
        Unreachable: when the host is not trusted, or speaks no TLS.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await stream[1].start_tls(client_context(), server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"{host} is not trusted: {error}") from error
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"no TLS with {host}: {error or 'timed out'}") from error


async def _resolve_permitted(policy: NetworkPolicy, host: str, port: int) -> list[Address]:
    addresses = await _resolve(host, port)
    permitted = policy.permitted(host, port, addresses)
    if not permitted:
        listed = ", ".join(map(str, addresses))
        raise Refused(f"{host}:{port} ({listed}) is not allowed by the sandbox's network rules")
    return permitted


async def _direct(host: str, addresses: list[Address], port: int) -> Stream:
    problem = ""
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await asyncio.open_connection(str(address), port)
        except (OSError, TimeoutError) as error:
            problem = f"{address}: {error or 'timed out'}"
    raise Unreachable(f"cannot connect to {host}:{port}: {problem}")


async def connect_loopback(port: int) -> Stream:
    """Connect to a port of this machine's loopback. Raises Unreachable."""
    for address in ("127.0.0.1", "::1"):
        try:
            return await asyncio.open_connection(address, port)
        except OSError:
            continue  # the other one, or the sentence below
    raise Unreachable(f"nothing listens on port {port} of the loopback of the machine that harness runs on")


async def _through(proxy: UpstreamProxy, host: str, port: int, *, plain: bool) -> Upstream:
    where = f"{proxy.host}:{proxy.port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            stream = await asyncio.open_connection(proxy.host, proxy.port)
            if proxy.scheme == "https":
                await start_tls(stream, proxy.host)
            if not plain:
                await _open_tunnel(stream, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as error:
        raise Unreachable(f"cannot reach {host}:{port} by this machine's proxy {where}: {error}") from error
    return Upstream(stream, proxy if plain else None)


async def _open_tunnel(stream: Stream, proxy: UpstreamProxy, target: str) -> None:
    fields = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    stream[1].write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode())
    reply = await stream[0].readuntil(b"\r\n\r\n")
    status = reply.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        stream[1].close()
        raise Unreachable(f"this machine's proxy {proxy.host}:{proxy.port} answered {status!r} for {target}")


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(ipaddress.ip_address(item[4][0]) for item in found))
