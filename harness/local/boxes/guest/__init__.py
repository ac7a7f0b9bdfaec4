"""The process inside a sandbox that executes the server's requests there.

It uses only the standard library, and imports as little as possible, since its start is part of every sandbox's start.
For the same reason its modules are sent as one compiled .pyc, see `compile_guest`.

In the full tier it is PID 1 of the sandbox, so nothing inside can kill it, and it inherits every orphan. There it is
the sandbox's root, and acts for the accounts inside as E2B's daemon does: files are opened by root and given to the
account that asked, and programs run as their account. In other tiers all accounts are one.

It communicates over one inherited socket, whose number is its only argument. A frame is four bytes of length and a
body. Requests are marshalled: the server is trusted, and runs the same Python. Replies are JSON, since the server must
be able to read them without trusting this process. Descriptors are sent with the frames, so the server never opens a
path of the sandbox itself, and links, FIFOs or devices in the sandbox cannot misdirect it.

Operations that may take long (walking trees, copying, watching) run in a forked child that reports through a pipe of
its own. The loop itself never waits for the file system or for a process.
"""

MODULES = (
    "replies",
    "opening",
    "accounts",
    "processes",
    "files",
    "watching",
    "confinement",
    "control",
    "service",
)
"""Each imports only those before it."""
