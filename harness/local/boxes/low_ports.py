"""Listening on a port below 1024 of a sandbox's own loopback, which nothing inside may do.

A process of the server's enters the sandbox's network by its namespace, opens the port, and hands it over.
"""

from __future__ import annotations

import asyncio
import socket
import sys

_TIMEOUT_S = 20.0
_PROGRAM = """
import ctypes, fcntl, os, socket, sys
pid, port = map(int, sys.argv[1:])
NS_GET_USERNS = 0xB701
libc = ctypes.CDLL(None, use_errno=True)
network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
for namespace in (fcntl.ioctl(network, NS_GET_USERNS), network):
    if libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
listener = socket.create_server(("127.0.0.1", port), backlog=128)
socket.send_fds(socket.socket(fileno=0), [b"x"], [listener.fileno()])
"""


async def listen(pid: int, port: int) -> socket.socket:
    """Listen on a port in the network of a process. Raises OSError."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _PROGRAM, str(pid), str(port)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            lines = errors.decode("utf-8", "replace").strip().splitlines() or ["nothing said why"]
            raise PermissionError(f"port {port}: {lines[-1]}")
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=fd)
