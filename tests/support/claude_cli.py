"""The real Claude Code binary, as tests run it: fresh home, clean environment, prompt through stdin."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

# The package is not imported, which takes more than a second: only its binary is wanted.
SDK = find_spec("claude_agent_sdk")
assert SDK
assert SDK.origin
CLAUDE = Path(SDK.origin).parent / "_bundled" / "claude"

HEADLESS = ("-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions")

QUIET = {
    "IS_SANDBOX": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
}


@dataclass(frozen=True)
class Finished:
    """A run of the binary that has ended."""

    exit_code: int
    stdout: bytes
    stderr: str

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Its stream-json events."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def of(self, kind: str, subtype: str | None = None) -> list[dict[str, Any]]:
        """The events of one type (and subtype)."""
        return [
            event
            for event in self.events
            if event["type"] == kind and subtype in (None, event.get("subtype"))
        ]

    @property
    def init(self) -> dict[str, Any]:
        """The `system/init` event."""
        return self.of("system", "init")[0]

    @property
    def result(self) -> dict[str, Any]:
        """The one `result` event."""
        (result,) = self.of("result")
        return result


@dataclass(frozen=True)
class ClaudeCli:
    """A home and a working directory, in which the binary runs; its sessions live in the home."""

    home: Path
    cwd: Path
    api: Mapping[str, str]

    @classmethod
    def fresh(cls, root: Path, api: Mapping[str, str], files: Mapping[str, str] | None = None) -> Self:
        """An empty home and a repo with `files`, both new folders in `root`."""
        home, repo = root / "home", root / "repo"
        home.mkdir()
        repo.mkdir()
        for name, text in (files or {}).items():
            (repo / name).write_text(text)
        return cls(home, repo, api)

    def start(self, *args: str, env: Mapping[str, str] | None = None, **io: Any) -> subprocess.Popen[bytes]:
        """Start the binary with exactly `args`."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), **QUIET, **self.api, **(env or {})}
        environ = {name: value for name, value in environ.items() if value != ""}
        return subprocess.Popen([CLAUDE, *args], cwd=self.cwd, env=environ, **io)

    def wait_until_stored(self, session: str, text: str, seconds: float = 30) -> None:
        """Return once the session's file holds `text`: the CLI writes it beside its work, not before it goes on."""
        deadline = time.monotonic() + seconds
        while not any(
            text in path.read_text() for path in self.home.glob(f".claude/projects/*/{session}.jsonl")
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} was not in the session's file after {seconds} s")
            time.sleep(0.01)

    def run(
        self,
        prompt: str | None,
        *args: str,
        base: Sequence[str] = HEADLESS,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Finished:
        """Run it to its end with the prompt on stdin; raises TimeoutExpired after `timeout` seconds."""
        pipe = subprocess.PIPE
        with self.start(*base, *args, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate((prompt or "").encode(), timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Finished(process.returncode, out, err.decode(errors="replace"))
