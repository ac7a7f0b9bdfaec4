"""The tiers without namespaces: for containers, and systems that forbid user namespaces.

Processes run among this machine's own, in the sandbox's own folders. `/home/user`, `/root` and `/tmp` are folders of
the state directory, which HOME and TMPDIR name. A server that is root gives each sandbox an account of its own. The
guest adopts orphans, and the server kills the processes that the guest cannot kill.

In the landlock tier the kernel also limits every process of the sandbox to its own folders and to the files that
programs need to run. Landlock's TCP rules have ports but no addresses, so they would forbid a sandbox its own servers
on loopback. Therefore the network is not restricted here.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from harness.local.boxes.accounts import prepare_state
from harness.local.boxes.file_tree import copy_tree
from harness.local.boxes.guest_launch import (
    ETC_FROM_HOST,
    SEARCH_PATH,
    Interpreter,
    LandlockRules,
    LaunchedGuest,
    LaunchSpec,
    PathMap,
    compile_guest,
    make_script_wrapper,
    make_sudo,
    open_blob,
    run_guest,
)
from harness.local.boxes.procfs import new_mark
from harness.local.shared_files import share_distributions, share_path

PLACES = {"/home/user": "home", "/root": "root", "/tmp": "tmp"}
"""The writable folders of a sandbox, and their names in its state directory."""
READABLE = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sys/devices/system/cpu",
)
ETC_READABLE = (
    *("passwd", "group", "hosts", "hostname", "profile", "profile.d", "bash.bashrc", "nsswitch.conf"),
    *("resolv.conf", "host.conf", "gai.conf", "ld.so.conf", "ld.so.conf.d", "os-release", "login.defs"),
)
FIND_HOME = "become=\ncase $user in root) home='{root}' ;; user) home='{user}' ;; *) home= ;; esac"
"""Both users share one account: a command gets the other user's name and home, but no more permissions than before."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx")
DEVICE_FOLDERS = ("/dev/pts", "/dev/shm")


def launch(spec: LaunchSpec, control: socket.socket, *, landlock: bool) -> LaunchedGuest:
    """Start a guest that sees this machine as it is, or as much of it as LandlockRules leaves. Raises OSError."""
    prepare_state(spec.state, spec.account, PLACES.values())
    if not (spec.state / "bin").exists():
        _add_programs(spec)
    interpreter = Interpreter.running()
    prefix = share_path(interpreter.prefix, whole=False)
    bytecode = open_blob(compile_guest())
    try:
        argv = [
            str(prefix / interpreter.program),
            "-I",
            "-S",
            f"/proc/self/fd/{bytecode}",
            str(control.fileno()),
        ]
        env = {"LD_LIBRARY_PATH": f"{prefix}/lib"} if interpreter.needs_mount else {}
        process, errors = run_guest(argv, control, [bytecode], spec.account, env)
    finally:
        os.close(bytecode)
    return LaunchedGuest(
        process,
        errors,
        paths=PathMap(tuple((inside, str(spec.state / name)) for inside, name in PLACES.items())),
        env={
            "PATH": search_path(spec),
            "SANDBOX_PATH": search_path(spec),
            "TMPDIR": str(spec.state / "tmp"),
            "GIT_CONFIG_NOSYSTEM": "1",
        },
        mark=new_mark(),
        landlock=landlock_rules(spec, prefix) if landlock else None,
    )


def copy_places(source: Path, target: Path, account: int | None = None) -> None:
    """Copy a sandbox's files, and give them to an account. Raises OSError."""
    for name in PLACES.values():
        copy_tree(source / name, target / name, account)


def search_path(spec: LaunchSpec) -> str:
    """Return PATH with the folder of the template's programs, which is in the state directory."""
    return SEARCH_PATH.replace("/opt/bin", str(spec.state / "bin"), 1)


def _add_programs(spec: LaunchSpec) -> None:
    """Make links to the template's programs, and profiles that restore PATH after this machine's /etc/profile."""
    folder = spec.state / "bin"
    folder.mkdir(mode=0o755)
    for name, inside in spec.template.programs.items():
        (folder / name).symlink_to(_real_path(spec, inside))
    if not Path("/usr/bin/python3").exists():
        interpreter = Interpreter.running()
        (folder / "python3").symlink_to(share_path(interpreter.prefix, whole=False) / interpreter.program)
    (folder / "sudo").write_bytes(
        make_sudo(FIND_HOME.format(root=spec.state / "root", user=spec.state / "home"))
    )
    (folder / "sudo").chmod(0o755)
    for name, script in spec.template.scripts.items():
        interpreter = Interpreter.running()
        prefix = share_path(interpreter.prefix, whole=False)
        libraries = f"{prefix}/lib" if interpreter.needs_mount else ""
        python, packages = str(prefix / interpreter.program), str(share_distributions(script.distributions))
        (folder / name).write_bytes(
            make_script_wrapper(python, libraries, packages, str(share_path(script.source)))
        )
        (folder / name).chmod(0o755)
    for home in ("home", "root"):
        profile = spec.state / home / ".bash_profile"
        if not os.path.lexists(profile):
            profile.write_text('PATH="$SANDBOX_PATH"\n')  # no path in it, so that it is also right in a copy
            os.chown(profile, spec.account, spec.account)


def _real_path(spec: LaunchSpec, inside: str) -> Path:
    """Return the real path of a template's path."""
    for place, path in spec.template.binds.items():
        if Path(inside).is_relative_to(place):
            return path / Path(inside).relative_to(place)
    return Path(inside)


def landlock_rules(spec: LaunchSpec, prefix: Path) -> LandlockRules:
    """Return the paths that stay accessible. The whole of /etc never does: root could read /etc/shadow in it."""
    return LandlockRules(
        readable=tuple(_readable_paths(spec, prefix)),
        writable=tuple(str(spec.state / name) for name in PLACES.values())
        + tuple(filter(os.path.exists, DEVICE_FOLDERS)),
        devices=tuple(filter(os.path.exists, DEVICES)),
    )


def _readable_paths(spec: LaunchSpec, prefix: Path) -> Iterator[str]:
    etc = [f"/etc/{name}" for name in (*ETC_FROM_HOST, *ETC_READABLE)]
    etc += [str(path) for path in Path("/etc").glob("java*")]
    ours = [spec.state / "bin", prefix, *spec.template.binds.values()]
    for script in spec.template.scripts.values():
        ours += [share_path(script.source), share_distributions(script.distributions)]
    for path in (*READABLE, *etc, *map(str, ours)):
        if os.path.exists(path):
            yield path
