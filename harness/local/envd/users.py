"""The user of a request, and the meaning of its paths.

`~` is the user's home. Relative paths start there, or in the template's working directory, as on E2B.
"""

from __future__ import annotations

import base64
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
    """The start of relative paths, and the folder of commands that name none: the template's, or else the home."""

    def resolve(self, path: str) -> str:
        """Return the absolute path that `path` means for this user. Raises `PathError`."""
        if "\0" in path:
            raise PathError("a path must not hold a null character")
        if path.startswith("~"):
            if path[1:2] not in ("", "/"):
                raise PathError(f"failed to expand path '{path}': cannot expand user-specific home dir")
            path = posixpath.join(self.home, path[1:].lstrip("/"))
        return path if path.startswith("/") else posixpath.normpath(posixpath.join(self.start, path))


def find_user(box: Box, name: str | None) -> User:
    """Return the user of this name, or the template's own. Raises `UserError`."""
    template = box.spec.template
    name = name or template.user
    try:
        home = box.home(name)
        return User(name, home, template.workdir or home)
    except UnknownUser as error:
        raise UserError(f"invalid username: '{name}'") from error


def user_in_header(authorization: str | None) -> str | None:
    """Return the name in a `Basic` authorization header. E2B leaves the password empty. Raises `UserError`."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError as error:
        raise UserError("invalid authorization header") from error
    return decoded.partition(":")[0]
