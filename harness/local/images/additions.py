"""The layers that every sandbox has over its image: the account `user`, its home, names, and sudo.

An image's files are read as its own containers would: no link in it leads to this machine's.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.local.boxes.base import FIND_ACCOUNT, FIRST_USER, TEXTS, open_local
from harness.local.boxes.guest_launch import make_sudo
from harness.local.images.errors import ImageError
from harness.local.images.unpack import Owners, open_inside

_FOLDERS = ("proc", "sys", "dev", "usr", "run", "opt/bin", "home", "etc/sudoers.d")
_PROFILE = (
    TEXTS["etc/profile"] + "for script in /etc/profile.d/*.sh; do\n  [ ! -r $script ] || . $script\ndone\n"
)
_SUDOERS = "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"
_MOST_BYTES = 1 << 20


def add_to_image(image: Path, target: Path, owners: Owners) -> None:
    """Write the layers for an image into `target`: `root`, and `usr` over its /usr. Raises ImageError, OSError."""
    root, usr = target / "root", target / "usr"
    for folder in (root, usr):
        folder.mkdir(mode=0o755, parents=True)
    for name in _FOLDERS:
        (root / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    open_local(image / "usr", usr)
    texts = {
        name: TEXTS[name]
        for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/sudoers.d/harness")
    }
    if _read(image, "etc/nsswitch.conf") is None:
        texts["etc/nsswitch.conf"] = TEXTS["etc/nsswitch.conf"]
    texts["etc/profile"] = _PROFILE
    sudo, accounts = _accounts(image)
    has_sudo = _read(image, "usr/bin/sudo") is not None
    setpriv = None if has_sudo else _read(image, "usr/bin/setpriv", 1 << 24)
    if has_sudo and _read(image, "etc/sudoers") is None:
        texts["etc/sudoers"] = _SUDOERS
    for name, text in {**texts, **accounts}.items():
        (root / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        (root / name).chmod(0o440 if "sudoers" in name else 0o640 if name.endswith("shadow") else 0o644)
    (root / "home/user").mkdir(mode=0o755)
    special = {root / "home/user": find_user(target)}
    if setpriv is not None:
        for name, content in (("bin/sudo", make_sudo(FIND_ACCOUNT)), ("lib/harness/become", setpriv)):
            (usr / name).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            (usr / name).write_bytes(content)
            (usr / name).chmod(0o755)
        special[usr / "lib/harness/become"] = (0, sudo)
    _give(target, owners, special)
    if setpriv is not None:
        (usr / "lib/harness/become").chmod(0o4750)  # the change of owner takes the bit away


def find_user(target: Path) -> tuple[int, int]:
    """The ids of `user` and of its group, as the layers of an image have it that were written into `target`."""
    user = _user_in(_lines(target, "root/etc/passwd"))
    assert user, "it was written there"
    return user


def _accounts(image: Path) -> tuple[int, dict[str, str]]:
    """The id of the group `sudo`, and the files of accounts with it and `user`."""
    passwd, group = _lines(image, "etc/passwd"), _lines(image, "etc/group")
    if not any(line.startswith("root:") for line in passwd):
        passwd.insert(0, "root:x:0:0:root:/root:/bin/bash")
    if not any(line.startswith("root:") for line in group):
        group.insert(0, "root:x:0:")
    shadow, gshadow = _lines(image, "etc/shadow"), _lines(image, "etc/gshadow")
    if _user_in(passwd) is None:
        passwd = [line for line in passwd if not line.startswith("user:")]
        taken = {line.split(":")[2] for line in (*passwd, *group) if line.count(":") >= 3}
        user = next(n for n in range(FIRST_USER, 60_000) if str(n) not in taken)
        passwd.append(f"user:x:{user}:{user}:user:/home/user:/bin/bash")
        shadow.append("user::19000:0:99999:7:::")
        if _number(group, "user") is None:
            group.append(f"user:x:{user}:")
    sudo = _number(group, "sudo")
    if sudo is None:
        taken = {line.split(":")[2] for line in group if line.count(":") >= 3}
        sudo = next(n for n in (27, *range(999, 0, -1)) if str(n) not in taken)
        group.append(f"sudo:x:{sudo}:")
    group = [_with_member(line) if line.startswith("sudo:") else line for line in group]
    files = {"etc/passwd": passwd, "etc/group": group, "etc/shadow": shadow, "etc/gshadow": gshadow}
    return sudo, {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items() if lines}


def _user_in(passwd: list[str]) -> tuple[int, int] | None:
    for line in passwd:
        name, *fields = line.split(":")
        if name == "user" and len(fields) > 2 and fields[1].isdigit() and fields[2].isdigit():
            return int(fields[1]), int(fields[2])
    return None


def _with_member(line: str) -> str:
    head, _, members = line.rpartition(":")
    return f"{head}:{','.join(dict.fromkeys([*filter(None, members.split(',')), 'user']))}"


def _number(lines: list[str], name: str) -> int | None:
    for line in lines:
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdigit():
            return int(fields[2])
    return None


def _lines(image: Path, name: str) -> list[str]:
    data = _read(image, name)
    return data.decode("utf-8", "surrogateescape").splitlines() if data else []


def _read(image: Path, name: str, most: int = _MOST_BYTES) -> bytes | None:
    """A file of the image; None where there is none."""
    root = os.open(image, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_inside(root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ImageError:
        return None
    finally:
        os.close(root)
    if fd is None:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(most)


def _give(folder: Path, owners: Owners, special: dict[Path, tuple[int, int]]) -> None:
    for above, folders, names in os.walk(folder):
        for path in (above, *(os.path.join(above, name) for name in (*folders, *names))):
            owners.give(path, *special.get(Path(path), (0, 0)))
