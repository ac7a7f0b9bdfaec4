"""Whose request it is, and what its paths mean: `~` is that user's home, and relative ones start there or where
the template says, as on E2B."""

from __future__ import annotations

import base64
import binascii
import posixpath
from dataclasses import dataclass

from harness.local.boxes.box import Box
from harness.local.boxes.types import UnknownUser


class UserError(Exception):
    """There is no such user in the sandbox, or the header that names one is malformed."""


class PathError(Exception):
    """A path that cannot be made absolute."""


@dataclass(frozen=True)
class User:
    """A user of the sandbox."""

    name: str
    home: str
    start: str
    """Where relative paths start, and commands that name no folder: the template's, or else the home."""

    def resolve(self, path: str) -> str:
        """The absolute path that `path` means for this user. Raises `PathError`."""
        if "\0" in path:
            raise PathError("a path must not hold a null character")
        if path.startswith("~"):
            if path[1:2] not in ("", "/"):
                raise PathError(f"failed to expand path '{path}': cannot expand user-specific home dir")
            path = posixpath.join(self.home, path[1:].lstrip("/"))
        return path if path.startswith("/") else posixpath.normpath(posixpath.join(self.start, path))


def find_user(box: Box, name: str | None) -> User:
    """The user of this name, or the template's own. Raises `UserError`."""
    template = box.spec.template
    name = name or template.user
    try:
        home = box.home(name)
        return User(name, home, template.workdir or home)
    except UnknownUser as error:
        raise UserError(f"invalid username: '{name}'") from error


def user_in_header(authorization: str | None) -> str | None:
    """The name in a `Basic` authorization header, whose password E2B leaves empty. Raises `UserError`."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UserError("invalid authorization header") from error
    return decoded.partition(":")[0]
