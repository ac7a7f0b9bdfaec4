"""The official command line tool of E2B, `@e2b/cli`, against the local server."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import secrets
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.local.launch import LocalServer

VERSION = "2.19.0"
TIMEOUT_S = 60.0

pytestmark = pytest.mark.slow

Run = Callable[..., str]


@pytest.fixture(scope="module")
def program() -> list[str]:
    """The tool, installed once into the user's cache folder, whichever test process comes first."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("npm is not installed: the official tool cannot be fetched")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "harness-tests" / f"e2b-cli-{VERSION}"
    script = folder / "node_modules/@e2b/cli/dist/index.js"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Not the script: that is there before npm has done.
        if not (done := folder / "done").exists():
            command = [npm, "install", "--no-audit", "--no-fund"]
            command += ["--prefix", str(folder), f"@e2b/cli@{VERSION}"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if said.returncode != 0:
                pytest.skip(f"npm cannot install @e2b/cli: {said.stderr[-500:]}")
            done.touch()
    return [node, str(script)]


@pytest.fixture
def environment(server: LocalServer, tmp_path: Path) -> dict[str, str]:
    """What a user of the tool sets to use this server."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "E2B_API_KEY": server.api_key,
        "E2B_API_URL": server.url,
        "E2B_SANDBOX_URL": server.url,
    }


@pytest.fixture
def e2b(program: list[str], environment: dict[str, str]) -> Run:
    """Runs the tool and gives back what it prints; it must exit as expected."""

    def run(*arguments: str, stdin: str = "", exit_code: int = 0) -> str:
        done = subprocess.run(
            [*program, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def sandbox_id(e2b: Run) -> Iterator[str]:
    """A sandbox that the tool has made."""
    created = e2b("sandbox", "create", "claude", "--detach").strip()
    yield created
    e2b("sandbox", "kill", created)


def test_sandboxes_are_created_listed_and_described(e2b: Run, sandbox_id: str) -> None:
    """create --detach prints the id, list and info show the sandbox."""
    listed = json.loads(e2b("sandbox", "list", "--format", "json"))
    assert sandbox_id in [one["sandboxId"] for one in listed]
    assert f"Sandbox ID: {sandbox_id}" in e2b("sandbox", "info", sandbox_id)
    assert "claude" in e2b("template", "list")


def test_exec_passes_input_output_and_exit_code(e2b: Run, sandbox_id: str) -> None:
    """exec behaves like a local command."""
    assert e2b("sandbox", "exec", sandbox_id, "echo hello; exit 3", exit_code=3) == "hello\n"
    assert e2b("sandbox", "exec", sandbox_id, "tr a-z A-Z", stdin="piped\n") == "PIPED\n"
    assert "Claude Code" in e2b("sandbox", "exec", sandbox_id, "claude --version")


def test_pause_resume_metrics_and_logs(e2b: Run, sandbox_id: str) -> None:
    """The rest of the tool's sandbox commands finds what it asks for."""
    e2b("sandbox", "exec", sandbox_id, "true")
    assert "has been paused" in e2b("sandbox", "pause", sandbox_id)
    assert "has been resumed" in e2b("sandbox", "resume", sandbox_id)
    assert "CPU:" in e2b("sandbox", "metrics", sandbox_id)
    logs = e2b("sandbox", "logs", sandbox_id, "--format", "json").split("\n")
    assert "Sandbox resumed" in [json.loads(line)["message"] for line in logs if line]


@contextmanager
def on_a_terminal(
    command: list[str], environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], _Terminal]]:
    """A program on a terminal of its own, where a shell's prompt has come."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        terminal = _Terminal(ours)
        terminal.shows("$")
        yield process, terminal
    os.close(ours)


def test_connect_opens_a_terminal(program: list[str], environment: dict[str, str], sandbox_id: str) -> None:
    """connect gives a shell in the sandbox on the user's own terminal, and ends with it."""
    with on_a_terminal([*program, "sandbox", "connect", sandbox_id], environment) as (process, terminal):
        terminal.types("echo $((6*7)) in $E2B_SANDBOX_ID\r")
        terminal.shows(f"42 in {sandbox_id}")
        terminal.types("exit\r")
        assert process.wait(TIMEOUT_S) == 0


def test_create_opens_a_terminal_in_which_claude_starts(
    program: list[str], environment: dict[str, str], e2b: Run
) -> None:
    """As on E2B's page: `e2b sbx create claude`, then `claude` inside."""
    before = {one["sandboxId"] for one in json.loads(e2b("sandbox", "list", "--format", "json") or "[]")}
    with on_a_terminal([*program, "sbx", "create", "claude"], environment) as (process, terminal):
        terminal.types("claude --version\r")
        terminal.shows("(Claude Code)")
        terminal.types("claude\r")
        terminal.shows("Welcome")
        process.terminate()
        process.wait(TIMEOUT_S)
    for one in json.loads(e2b("sandbox", "list", "--format", "json") or "[]"):
        if one["sandboxId"] not in before:
            e2b("sandbox", "kill", one["sandboxId"])


def test_a_template_is_created_listed_and_deleted(e2b: Run, tmp_path: Path) -> None:
    """template create builds a Dockerfile; its sandboxes have what it says."""
    name = f"test-{secrets.token_hex(6)}"
    (tmp_path / "greeting.txt").write_text("hello from a file\n")
    (tmp_path / "Dockerfile").write_text(f"FROM claude\nCOPY greeting.txt /home/user/\nENV NAME={name}\n")
    e2b("template", "create", name, "--path", str(tmp_path), "--dockerfile", "Dockerfile")
    assert name in e2b("template", "list")
    sandbox = e2b("sandbox", "create", name, "--detach").strip()
    said = e2b("sandbox", "exec", sandbox, "cat ~/greeting.txt; echo $NAME")
    assert said == f"hello from a file\n{name}\n"
    e2b("sandbox", "kill", sandbox)
    e2b("template", "delete", name, "--yes")
    assert name not in e2b("template", "list")


class _Terminal:
    """The user's side of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def types(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def shows(self, text: str) -> None:
        """Wait until the text is on the screen."""
        while text not in self._shown:
            assert select.select([self._descriptor], [], [], TIMEOUT_S)[0], self._shown
            self._shown += os.read(self._descriptor, 4096).decode("utf-8", "replace")
        self._shown = self._shown.partition(text)[2]
