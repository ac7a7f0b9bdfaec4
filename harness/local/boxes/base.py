"""The lowest layers of a sandbox's root: what of this machine it has, and what every sandbox has.

`root` holds a distribution's folders, a filtered /etc, accounts and the dpkg database. `usr` lies over this machine's
/usr: it adds what E2B's image has and a machine may lack, and hides files that only this machine's root may read. Both
are made once and kept, until what they were made from changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.local.boxes.guest_launch import SEARCH_PATH, Interpreter, make_sudo
from harness.local.network.authority import TRUST
from harness.local.shared_files import build_folder, cache_folder

FORMAT = 1
"""Raise it when a base is made in another way."""

FIRST_USER = 1000
ETC = (
    *("adduser.conf", "alternatives", "apt", "bash.bashrc", "bash_completion.d", "bindresvport.blacklist"),
    *("ca-certificates", "ca-certificates.conf", "cron.d", "cron.daily", "cron.hourly", "cron.monthly"),
    *(
        "cron.weekly",
        "debconf.conf",
        "debian_version",
        "default",
        "deluser.conf",
        "dpkg",
        "emacs",
        "ethertypes",
    ),
    *("fonts", "gai.conf", "groff", "gss", "host.conf", "init.d", "inputrc", "issue", "issue.net", "kernel"),
    *(
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "libaudit.conf",
        "locale.alias",
        "locale.gen",
        "localtime",
    ),
    *("login.defs", "logrotate.d", "lsb-release", "magic", "magic.mime", "manpath.config", "mime.types"),
    *("mke2fs.conf", "modprobe.d", "networks", "os-release", "pam.conf", "pam.d", "perl", "pki", "profile.d"),
    *("protocols", "python3", "rc0.d", "rc1.d", "rc2.d", "rc3.d", "rc4.d", "rc5.d", "rc6.d", "rcS.d", "rmt"),
    *("rpc", "security", "selinux", "services", "sgml", "shells", "skel", "ssl", "sysctl.d", "systemd"),
    *(
        "terminfo",
        "timezone",
        "tmpfiles.d",
        "ucf.conf",
        "update-motd.d",
        "vim",
        "wgetrc",
        "xattr.conf",
        "xdg",
    ),
    *(
        "xml",
        "environment.d",
        "redhat-release",
        "system-release",
        "alpine-release",
        "crypto-policies",
        "ca-certs",
    ),
)
"""Entries of /etc that programs and package managers need. What is not listed may hold secrets, and stays outside."""
ETC_PATTERNS = ("java*", "python3.*")
ETC_SECRETS = ("etc/ssl/private", "etc/apt/auth.conf", "etc/apt/auth.conf.d", "etc/security/opasswd")
_CREDENTIALS = re.compile(rb"://[^/\s]*@")

STATE_FOLDERS = ("dpkg", "pam", "ucf", "systemd/deb-systemd-helper-enabled")
"""Folders of /var/lib in which packages keep what is installed and configured."""

FOLDERS = (
    *("boot", "dev", "etc", "etc/apt/apt.conf.d", "etc/sudoers.d", "home/user", "media", "mnt", "opt/bin"),
    *(
        "proc",
        "run/lock",
        "srv",
        "sys",
        "usr",
        "var/backups",
        "var/cache/apt/archives/partial",
        "var/cache/ldconfig",
    ),
    *(
        "var/lib/apt/lists/partial",
        "var/lib/misc",
        "var/local",
        "var/log/apt",
        "var/mail",
        "var/opt",
        "var/spool",
    ),
)
LINKS = {
    "var/run": "/run",
    "var/lock": "/run/lock",
    "etc/mtab": "/proc/mounts",
    "etc/mcp-gateway": "/root/.mcp-gateway",  # where the SDK reads the gateway's token
}
TWINS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders of the root that are links into /usr on most systems."""

TEXTS = {
    "etc/hostname": "sandbox\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 sandbox\n",
    "etc/resolv.conf": "# The proxy that HTTP_PROXY names resolves names. No resolver can be reached.\n"
    "nameserver 127.0.0.1\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/pip.conf": "[global]\nbreak-system-packages = true\n",
    "etc/profile": 'if [ -n "$BASH_VERSION" ] && [ -n "$PS1" ]; then PS1="\\u@\\h:\\w\\$ "; fi\n',
    "etc/machine-id": "",
    "etc/fstab": "",
    # Where npm's own folder is, which it would take, nothing can be written. By a file: nvm refuses the variable.
    "etc/npmrc": "prefix=/usr/local\n",
    "etc/sudoers.d/harness": "user ALL=(ALL:ALL) NOPASSWD: ALL\n"
    f'Defaults secure_path="{SEARCH_PATH}"\n'
    'Defaults env_keep += "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy NODE_USE_ENV_PROXY"\n'
    f'Defaults env_keep += "PIP_BREAK_SYSTEM_PACKAGES NPM_CONFIG_GLOBALCONFIG {" ".join(TRUST)}"\n',
    "etc/dpkg/dpkg.cfg.d/harness": "force-confdef\nforce-confold\n",
}
"""/etc/profile does not change PATH, so that a login shell keeps its environment."""

NO_SERVICES = (
    "#!/bin/sh\n# There is no init here: packages start no services, as in container images.\nexit 101\n"
)
FIND_ACCOUNT = """\
entry=$(getent passwd "$user") && home=$(echo "$entry" | cut -d: -f6)
become="/usr/lib/harness/become --reuid=$(echo "$entry" | cut -d: -f3) --regid=$(echo "$entry" | cut -d: -f4)"
become="$become --init-groups\""""


@dataclass(frozen=True)
class Base:
    """The lowest layers, and what lies beside them."""

    root: Path
    usr: Path
    binds: tuple[tuple[str, Path], ...]
    """Folders of this machine that are mounted read-only: path inside, path here."""


@functools.cache
def prepare_base(stored: int | None) -> Base:
    """Return the base, made if need be. `stored` is the id on disk of the sandboxes' root; None for our own.

    With `stored`, /usr will be shown with its owners; without, nobody inside owns it, and each of its folders gets an
    empty one over it, in which new files can be made. Raises OSError.
    """
    hidden = sorted(_hidden(Path("/usr/local"))) if stored is not None else []
    folder = cache_folder() / "bases"
    folder.mkdir(mode=0o700, exist_ok=True)  # nobody may reach a setuid file in it
    folder.chmod(0o700)
    made = folder / _key(stored, hidden)

    def build() -> None:
        with build_folder(made) as building:
            _build_root(building / "root", stored)
            _build_usr(building / "usr", stored)
        _remove_old(folder, made)

    hold_shared_folder(made, build)
    binds = [(f"/{name}", Path("/", name)) for name in TWINS if _is_folder(Path("/", name))]
    interpreter = Interpreter.running()
    if interpreter.needs_mount and not Path("/usr/bin/python3").exists():
        from harness.local.shared_files import share_path

        binds.append(("/opt/python", share_path(interpreter.prefix, whole=False)))
    return Base(made / "root", made / "usr", tuple(binds))


def hold_shared_folder(made: Path, build: Callable[[], None]) -> None:
    """Have a folder, built if need be, that no other server removes until this process ends."""
    while True:
        if not made.exists():
            build()
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            # Another process may have moved it away while we waited, to remove it.
            if made.exists() and os.path.samestat(os.fstat(fd), made.stat()):
                return
            os.close(fd)


def _remove_old(folder: Path, made: Path) -> None:
    """Remove the bases that no server uses. It takes long, and nobody waits for it."""
    for other in folder.iterdir():
        if other == made or "-" in other.name:  # a disk, or one that is being made or removed
            continue
        fd = os.open(other, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = other.rename(folder / f"gone-{other.name}")
            subprocess.Popen(["rm", "-rf", str(gone)], stderr=subprocess.DEVNULL, start_new_session=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _key(stored: int | None, hidden: Iterable[str]) -> str:
    """Return a name that changes with what a base is made from."""
    sources = [Path("/var/lib/dpkg/status"), Path("/etc/passwd"), Path("/etc/group"), Path("/usr"), *_etc()]
    lines = [str(FORMAT), str(stored), sys.version, *hidden]
    for path in (*sources, Path(__file__), Path(__file__).with_name("sudo.sh")):
        for each in (path, *(path.rglob("*") if _is_folder(path) and path != Path("/usr") else ())):
            status = each.lstat() if os.path.lexists(each) else None
            lines.append(f"{each} {status.st_mtime_ns} {status.st_size}" if status else str(each))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _etc() -> Iterator[Path]:
    etc = Path("/etc")
    yield from (etc / name for name in ETC if os.path.lexists(etc / name))
    for pattern in ETC_PATTERNS:
        yield from sorted(etc.glob(pattern))


def _hidden(folder: Path) -> Iterator[str]:
    """Yield the paths below a folder that not every account of this machine may read, as find(1) does."""
    for above, folders, names in os.walk(folder):
        for name in (*folders, *names):
            mode = os.lstat(os.path.join(above, name)).st_mode
            if not stat.S_ISLNK(mode) and not mode & stat.S_IROTH:
                yield os.path.join(above, name)
        folders[:] = [name for name in folders if os.lstat(os.path.join(above, name)).st_mode & stat.S_IROTH]


# --- the root


def _build_root(root: Path, stored: int | None) -> None:
    root.mkdir(0o755)
    for name in FOLDERS:
        (root / name).mkdir(0o755, parents=True, exist_ok=True)
    for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for name in TWINS:
        twin = Path("/", name)
        if twin.is_symlink():
            (root / name).symlink_to(twin.readlink())
        elif twin.is_dir():
            (root / name).mkdir(0o755)
    for path in _etc():
        _copy(path, root / "etc" / path.name)
    for name in ETC_SECRETS:
        _remove(root / name)
    for name in STATE_FOLDERS:
        _copy(Path("/var/lib", name), root / "var/lib" / name)
    _copy(Path("/var/cache/debconf"), root / "var/cache/debconf")
    for name, text in TEXTS.items():
        _remove(root / name)
        (root / name).parent.mkdir(0o755, parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/sudoers.d/harness").chmod(0o440)
    if Path("/usr/bin/sudo").exists():
        (root / "etc/sudoers").write_text("root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n")
        (root / "etc/sudoers").chmod(0o440)
    groups = _write_accounts(root / "etc")
    _give(root, stored, {root / "etc/shadow": groups["shadow"], root / "etc/gshadow": groups["shadow"]})


def _write_accounts(etc: Path) -> dict[str, int]:
    """Write this machine's system accounts, and `user`. Returns the groups' ids.

    All system accounts: dpkg stops where an owner that it has recorded is missing.
    """
    accounts = [
        line.split(":") for line in Path("/etc/passwd").read_text().splitlines() if line.count(":") == 6
    ]
    accounts = [each for each in accounts if _is_system(each[2]) and each[0] not in ("root", "user")]
    accounts.insert(0, ["root", "x", "0", "0", "root", "/root", "/bin/bash"])
    accounts.append(["user", "x", str(FIRST_USER), str(FIRST_USER), "user", "/home/user", "/bin/bash"])
    found = [line.split(":") for line in Path("/etc/group").read_text().splitlines() if line.count(":") == 3]
    groups = {each[0]: int(each[2]) for each in found if _is_system(each[2]) and each[0] != "user"}
    for name, number in (("root", 0), ("tty", 5), ("sudo", 27), ("shadow", 42), ("nogroup", 65534)):
        if name not in groups:
            groups[name] = next(n for n in (number, *range(999, 0, -1)) if n not in groups.values())
    groups["user"] = FIRST_USER
    members = {"sudo": "user"}
    (etc / "passwd").write_text("".join(f"{':'.join([each[0], 'x', *each[2:]])}\n" for each in accounts))
    (etc / "group").write_text(
        "".join(f"{name}:x:{number}:{members.get(name, '')}\n" for name, number in groups.items())
    )
    passwords = {"user": ""}  # none is asked for: sudo and su work without
    (etc / "shadow").write_text(
        "".join(f"{each[0]}:{passwords.get(each[0], '*')}:19000:0:99999:7:::\n" for each in accounts)
    )
    (etc / "gshadow").write_text("".join(f"{name}:*::{members.get(name, '')}\n" for name in groups))
    for name in ("shadow", "gshadow"):
        (etc / name).chmod(0o640)
    return groups


def _is_system(number: str) -> bool:
    return int(number) < FIRST_USER or int(number) == 65534


# --- what lies over this machine's /usr


def _build_usr(usr: Path, stored: int | None) -> None:
    usr.mkdir(0o755)
    if stored is None:
        _copy_folders(Path("/usr"), usr)
    else:
        for path in map(Path, _hidden(Path("/usr"))):
            hidden = usr / path.relative_to("/usr")
            _make_parents(hidden, usr)
            os.mknod(hidden, stat.S_IFCHR, 0)  # the overlay's mark of a removed file
    _add(usr, "sbin/policy-rc.d", NO_SERVICES.encode())
    if Path("/usr/bin/python3").exists():
        python = "python3"
    else:
        python = f"/opt/python/{Interpreter.running().program}"
        _link(usr, "bin/python3", python)
    if not os.path.lexists("/usr/bin/python"):
        _link(usr, "bin/python", python)
    open_local(Path("/usr"), usr)
    owners = {}
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
    if not Path("/usr/bin/sudo").exists() and setpriv:
        # setpriv may become anybody, and no file but this one may be run as root: who is in the group sudo may use it
        _add(usr, "bin/sudo", make_sudo(FIND_ACCOUNT))
        _add(usr, "lib/harness/become", Path(setpriv).read_bytes())
        found = re.search(r"^sudo:[^:]*:(\d+)", (usr.parent / "root/etc/group").read_text(), re.MULTILINE)
        assert found, "the group is always made"
        owners[usr / "lib/harness/become"] = int(found[1])
    _give(usr, stored, owners)
    for path in owners:
        # After the change of owner, which takes the bit away. All may use it where it cannot be given to the group.
        path.chmod(0o4755 if stored is None else 0o4750)


def open_local(below: Path, usr: Path) -> None:
    """Let everybody write in /usr/local, as on E2B: `npm install -g` does, without sudo.

    Python's folders there stay root's, so that what `user` installs by `pip` is the user's, in the home.
    """
    if not _is_folder(below / "local"):  # an image's link may lead anywhere on this machine
        return
    for above, folders, _ in os.walk(below / "local"):
        made = usr / Path(above).relative_to(below)
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(0o777)
        folders[:] = [
            name
            for name in folders
            if Path(above, name).lstat().st_mode & stat.S_IROTH and not name.startswith("python")
        ]


def _copy_folders(source: Path, target: Path) -> None:
    for folder, _, _ in os.walk(source):
        made = target / Path(folder).relative_to(source)
        made.mkdir(0o755, exist_ok=True)


def _add(usr: Path, name: str, content: bytes) -> None:
    _make_parents(usr / name, usr)
    (usr / name).write_bytes(content)
    (usr / name).chmod(0o755)


def _link(usr: Path, name: str, target: str) -> None:
    _make_parents(usr / name, usr)
    (usr / name).symlink_to(target)


def _make_parents(path: Path, top: Path) -> None:
    """Make the folders above a path with the modes of those that they will lie over."""
    for parent in reversed(path.relative_to(top).parents[:-1]):
        if not (top / parent).exists():
            (top / parent).mkdir()
            below = Path("/usr") / parent
            (top / parent).chmod(below.stat().st_mode & 0o7777 if below.is_dir() else 0o755)


# --- files


def _copy(source: Path, target: Path) -> None:
    """Copy a file, link or folder as far as every account of this machine may read it, and without credentials."""
    if not os.path.lexists(source):
        return
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.parent.mkdir(0o755, parents=True, exist_ok=True)
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(mode) and mode & stat.S_IROTH:
        target.mkdir(0o755, parents=True, exist_ok=True)
        target.chmod(stat.S_IMODE(mode))
        for entry in os.scandir(source):
            _copy(Path(entry.path), target / entry.name)
    elif stat.S_ISREG(mode) and mode & stat.S_IROTH:
        if "/apt/" in str(source) and _CREDENTIALS.search(source.read_bytes()):
            return
        target.parent.mkdir(0o755, parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copystat(source, target)
        target.chmod(stat.S_IMODE(mode) & 0o777)


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _give(folder: Path, stored: int | None, groups: dict[Path, int]) -> None:
    """Give all files to the sandboxes' root, and some to groups of theirs."""
    if stored is None:
        return
    os.lchown(folder, stored, stored)
    for above, folders, names in os.walk(folder):
        for path in (os.path.join(above, name) for name in (*folders, *names)):
            os.lchown(path, stored, stored)
    for special, group in groups.items():
        os.lchown(special, stored, stored + group)
