"""A git server on loopback: git's own `http-backend` behind HTTP, which asks for credentials where it is told to.

with GitServer(tmp_path, token="secret") as server:
    server.repository("widget", {"a.txt": "a"}, tag="v1")
    clone(server.url("widget"))
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.folders import write_files
from tests.support.in_thread import InThread

_IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


class GitServer(InThread):
    """Serves bare repositories below `root`. `clones` counts what was fetched, `asked` all requests."""

    def __init__(self, root: Path, token: str | None = None) -> None:
        self.root = root / "served"
        self.root.mkdir()
        self.token = token
        self.clones = 0
        self.asked: list[str] = []
        self.broken: int | None = None
        self.redirects: dict[str, tuple[str, str]] = {}
        self._work = root / "work"
        super().__init__(_handler(self))

    def url(self, name: str) -> str:
        return f"{self.origin}/{name}.git"

    def commit(self, name: str, files: Mapping[str, str | bytes], *, tag: str | None = None) -> str:
        """Commit files to a repository's branch `main`, and return the commit's id."""
        work, bare = self._work / name, self.root / f"{name}.git"
        if not bare.exists():
            git("init", "-q", "--bare", "-b", "main", str(bare))
            git("clone", "-q", str(bare), str(work))
        write_files(work, files)
        git("-C", str(work), "add", "-A", "-f")
        git("-C", str(work), "commit", "-q", "-m", "change")
        if tag:
            git("-C", str(work), "tag", tag)
        git("-C", str(work), "push", "-q", "--tags", "origin", "HEAD:main")
        return git("-C", str(work), "rev-parse", "HEAD").strip()

    def add_submodule(self, name: str, path: str, url: str, commit: str) -> str:
        """Give a repository a submodule, and return the commit that has it."""
        work = self._work / name
        git("-C", str(work), "config", "-f", ".gitmodules", f"submodule.{path}.path", path)
        git("-C", str(work), "config", "-f", ".gitmodules", f"submodule.{path}.url", url)
        git("-C", str(work), "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        (work / path).mkdir(parents=True)
        return self.commit(name, {})

    def work(self, name: str) -> Path:
        """The checkout that commits are made in."""
        return self._work / name


def git(*arguments: str) -> str:
    """Run git, and return what it says."""
    done = subprocess.run(
        ["git", *arguments], env={**os.environ, **_IDENTITY}, check=True, capture_output=True, text=True
    )
    return done.stdout


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.asked.append(self.path)
            for start, (path, url) in server.redirects.items():
                if self.path.startswith(start):
                    self.send_response(301)
                    self.send_header("Location", url.removesuffix(path) + self.path.replace(start, path))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            if server.broken:
                self._refuse(server.broken)
            elif server.token and not self._knows(server.token):
                self._refuse(401)
            else:
                self._backend(body)

        def _knows(self, token: str) -> bool:
            scheme, _, value = self.headers.get("Authorization", "").partition(" ")
            return scheme == "Basic" and base64.b64decode(value).decode().partition(":")[2] == token

        def _refuse(self, status: int) -> None:
            # As an unfriendly server would: what it was sent comes back.
            words = f"you sent {self.headers.get('Authorization')}".encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)

        def _backend(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            if parts.path.endswith("/git-upload-pack") and b"command=fetch" in body:
                server.clones += 1
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
