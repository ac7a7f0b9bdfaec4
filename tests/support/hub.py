"""A Hugging Face Hub on loopback, as far as pushing a dataset and reading it back needs one.

    with Hub(token="hf_secret") as hub:
        push(env=hub.env("hf_secret"))
        hub.repos["me/records"].files["data/train-00000-of-00001.parquet"]

It speaks what `huggingface_hub` 2 asks of the real one: repositories, their trees, LFS uploads checked against the
hash that was announced, and commits in lines of JSON, which are refused on another parent. The Xet storage, over which
the real Hub takes large files from clients that have it, is switched off by `env`: then clients use LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.in_thread import InThread

Json = dict[str, Any]


@dataclass
class HubRepo:
    """A dataset's repository: one branch."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["0" * 40])

    def commit(self, lines: list[Json], stored: dict[str, bytes]) -> bool:
        """Take in a commit; False when its parent is not the last commit."""
        (header, *changes) = lines
        if header["value"].get("parentCommit", self.commits[-1]) != self.commits[-1]:
            return False
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                self.files[value["path"]] = stored[value["oid"]]
            elif change["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits.append(hashlib.sha1(repr(lines).encode()).hexdigest())
        return True


class Hub(InThread):
    """`token` is the one that may write; whoever has another is refused. `asked` has all requests."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.repos: dict[str, HubRepo] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(_handler(self))

    def env(self, home: Path, token: str | None) -> dict[str, str]:
        """The environment of a client with this token, and with its caches in `home`."""
        found = {"HF_ENDPOINT": self.origin, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return {**found, "HF_TOKEN": token} if token else found


@dataclass(frozen=True)
class _Answer:
    status: int
    body: Json | list[Json] | bytes = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def _refused(status: int, message: str, code: str | None = None) -> _Answer:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return _Answer(status, {"error": message}, headers)


_NO_REPO = _refused(404, "Repository not found", "RepoNotFound")


def _answer(hub: Hub, method: str, path: str, login: str | None, body: bytes) -> _Answer:
    if path.startswith("/lfs/"):
        digest = path.removeprefix("/lfs/")
        if hashlib.sha256(body).hexdigest() != digest:
            return _refused(400, "another content than was announced")
        hub.stored[digest] = body
        return _Answer(200)
    if login != f"Bearer {hub.token}":
        wrong = "Invalid credentials in Authorization header" if login else "Invalid username or password."
        return _refused(401, wrong)
    match method, path.strip("/").split("/"):
        case "POST", ["api", "repos", "create"]:
            return _create(hub, json.loads(body))
        case "POST", ["api", "validate-yaml"]:
            return _Answer(200, {"errors": [], "warnings": []})
        case "POST", ["datasets", _, _, "info", "lfs", "objects", "batch"]:
            return _batch(hub, json.loads(body))
        case _, ["api", "datasets", owner, name, *rest] if f"{owner}/{name}" in hub.repos:
            return _of_repo(hub, f"{owner}/{name}", method, rest, body)
        case "HEAD" | "GET", ["datasets", owner, name, "resolve", _, *where] if (
            f"{owner}/{name}" in hub.repos
        ):
            return _file(hub.repos[f"{owner}/{name}"], "/".join(where))
    return _NO_REPO


def _create(hub: Hub, asked: Json) -> _Answer:
    name = f"{asked['organization']}/{asked['name']}"
    # Clients before version 2 say `private`.
    private = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
    hub.repos.setdefault(name, HubRepo(private))
    return _Answer(200, {"url": f"{hub.origin}/datasets/{name}", "name": name, "id": name})


def _batch(hub: Hub, asked: Json) -> _Answer:
    objects = [
        {**given, "actions": {"upload": {"href": f"{hub.origin}/lfs/{given['oid']}"}}}
        for given in asked["objects"]
    ]
    return _Answer(200, {"transfer": "basic", "objects": objects})


def _of_repo(hub: Hub, name: str, method: str, rest: list[str], body: bytes) -> _Answer:
    repo = hub.repos[name]
    match method, rest:
        case "GET", [] | ["revision", _]:
            siblings = [{"rfilename": path} for path in sorted(repo.files)]
            about = {"id": name, "sha": repo.commits[-1], "private": repo.private, "siblings": siblings}
            return _Answer(200, about)
        case "POST", ["preupload", _]:
            files = [
                {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return _Answer(200, {"files": files})
        case "POST", ["commit", _]:
            if not repo.commit([json.loads(line) for line in body.splitlines()], hub.stored):
                return _refused(412, "the branch has moved on")
            url = f"{hub.origin}/datasets/{name}/commit/{repo.commits[-1]}"
            return _Answer(200, {"success": True, "commitOid": repo.commits[-1], "commitUrl": url})
        case "POST", ["paths-info", _]:
            # The client sends a form here.
            asked = [unquote(pair.partition("=")[2]) for pair in body.decode().split("&")]
            return _Answer(200, [entry for path in asked for entry in _entries(repo, path, exactly=True)])
        case "GET", ["tree", _, *where]:
            entries = list(_entries(repo, "/".join(where), exactly=False))
            missing = _refused(404, "no such folder", "EntryNotFound")
            return _Answer(200, entries) if entries or not where else missing
    return _NO_REPO


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".parquet") else "regular"


def _entries(repo: HubRepo, where: str, *, exactly: bool) -> Iterator[Json]:
    """The file or folder at a path, or what is directly below it."""
    if exactly:
        if where in repo.files:
            yield _entry(where, repo.files[where])
        elif any(path.startswith(f"{where}/") for path in repo.files):
            yield {"type": "directory", "path": where, "oid": "0" * 40}
        return
    prefix = f"{where}/" if where else ""
    inside = {path.removeprefix(prefix).split("/")[0] for path in repo.files if path.startswith(prefix)}
    for name in sorted(inside):
        yield from _entries(repo, f"{prefix}{name}", exactly=True)


def _entry(path: str, content: bytes) -> Json:
    oid = hashlib.sha1(content).hexdigest()
    entry: Json = {"type": "file", "path": path, "size": len(content), "oid": oid}
    if _mode(path) == "lfs":
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return entry


def _file(repo: HubRepo, path: str) -> _Answer:
    if path not in repo.files:
        return _refused(404, "no such file", "EntryNotFound")
    content = repo.files[path]
    headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": repo.commits[-1]}
    return _Answer(200, content, headers)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self._body()
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            answer = _answer(hub, self.command, path, self.headers.get("Authorization"), body)
            given = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(given))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_HEAD = do_POST = do_PUT = _respond

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    return Handler
