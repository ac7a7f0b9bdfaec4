"""The source of a cloned starter repo, and the problems that it may have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

WORKTREE = "WORKTREE"
"""The ref that means the files that git tracks, as they are now."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SCP_LIKE = re.compile(r"^[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]+$")


@dataclass(frozen=True)
class GitSource:
    """A repository to clone.

    `ref` is a tag, a branch or a whole commit id (None: the remote's HEAD), `depth` how many commits are fetched,
    `subdir` the folder of it that is the starter repo, `token_env` the variable of the harness's own environment
    that holds a token for HTTP. `local` is the absolute path of a repository or a bundle of this machine, and `beside`
    the folder that the task itself is in.
    """

    url: str
    ref: str | None = None
    depth: int = 1
    subdir: str | None = None
    token_env: str | None = None
    local: str | None = None
    beside: str | None = None

    @property
    def shown(self) -> str:
        """As a person would say it."""
        return f"{self.url} at {self.ref}" if self.ref else self.url

    @property
    def origin(self) -> str:
        """Scheme, host and port of an HTTP URL: where its token may go."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/"

    def is_beside(self, other: GitSource) -> bool:
        """True if both are on the same host, reached in the same way. Then whoever may ask one may ask the other."""
        return _place(self.url) == _place(other.url)

    def submodule(self, url: str, commit: str) -> GitSource:
        """The source of a submodule of this repository. Its URL may be relative to this one's."""
        base = self.url.rstrip("/")
        relative = url.startswith(("./", "../"))
        while url.startswith(("./", "../")):
            step, _, url = url.partition("/")
            base = base.rpartition("/")[0] if step == ".." else base
        return GitSource(f"{base}/{url}" if relative else url, commit, token_env=self.token_env)


def _place(url: str) -> str:
    """Scheme, host, port and user."""
    if _SCP_LIKE.match(url):
        return f"ssh://{url.partition(':')[0]}".lower()
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts else url


def problems_of(source: GitSource) -> Iterator[tuple[str, str, str]]:
    """The problems of a source: key, what is wrong, and remedy."""
    if source.subdir and (source.subdir.startswith("/") or ".." in source.subdir.split("/")):
        yield "subdir", f"{source.subdir!r} is not inside the repository", "use a path inside it"
    if source.local:
        yield from _problems_of_local(source)
        return
    if source.ref and (source.ref == WORKTREE or re.search(r"[~^]", source.ref)):
        yield "ref", f"{source.ref!r} is for a repository of this machine", "give a tag, a branch or a commit"
    parts = _split(source.url)
    scheme = "ssh" if _SCP_LIKE.match(source.url) else parts.scheme if parts and parts.netloc else None
    if scheme not in ("https", "http", "ssh"):
        yield (
            "git",
            f"{source.url!r} is no URL that can be cloned",
            "use https://HOST/PATH, ssh://, file:// or a path",
        )
    elif parts and (parts.password is not None or (scheme != "ssh" and parts.username is not None)):
        # The URL itself is not repeated: it may hold a password.
        yield "git", "the URL holds credentials", "name the variable with the token in token_env"
    elif source.token_env and scheme == "ssh":
        yield "token_env", "a token is for HTTP, not for ssh", "use an https:// URL, or a key of ssh's agent"
    elif source.token_env and scheme == "http" and parts and parts.hostname not in _LOOPBACK:
        yield "token_env", "the token would go over http:// for all to read", "use https://"


def _problems_of_local(source: GitSource) -> Iterator[tuple[str, str, str]]:
    assert source.local, "it is one"
    if not os.path.exists(source.local):
        remedy = "give the path of a repository or a bundle, relative to the task's folder, or a URL"
        yield "git", f"{source.url!r} is not there", remedy
    elif source.ref == WORKTREE and os.path.isfile(source.local):
        yield "ref", "a bundle has no files of its own", "give a tag, a branch or a commit"
    if source.token_env:
        yield "token_env", "a token is for HTTP, not for a repository of this machine", "leave it out"


def local_path(url: str, folder: Path) -> str | None:
    """The absolute path that a `git` key means, relative to a folder; None for what is to be asked of a server."""
    if url.startswith("file://"):
        parts = _split(url)
        return unquote(parts.path) if parts and parts.netloc in ("", "localhost") and parts.path else None
    if "://" in url or _SCP_LIKE.match(url):
        return None
    return os.path.normpath(folder / Path(url).expanduser())


def _split(url: str) -> SplitResult | None:
    """A URL's parts; None of one that cannot be read."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for a port that is none
    except ValueError:
        return None
    return parts
