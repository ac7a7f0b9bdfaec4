"""The sandbox that the local server starts before it is asked for: new, given to whom it fits, and nobody's burden."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2b import Sandbox, SandboxQuery

Options = dict[str, str]
TIMEOUT_S = 60.0
OFFLINE = {"allow_internet_access": False}


class Server:
    """A server of this test's own, whose folders can be looked into."""

    def __init__(self, options: Options, state: Path, process: subprocess.Popen[bytes]) -> None:
        self.options, self.state, self.process = options, state, process

    def folders(self) -> set[str]:
        """The ids of all the sandboxes that it has files of, pooled ones too."""
        (own,) = self.state.glob("server-*")
        return {path.name for path in (own / "sandboxes").iterdir()}

    def until(self, done: Callable[[set[str]], bool]) -> set[str]:
        """The folders, once they are as they are to be."""
        end = time.monotonic() + TIMEOUT_S
        while not done(found := self.folders()):
            assert time.monotonic() < end, found
            time.sleep(0.02)
        return found

    def newest_process(self, of: int) -> int:
        """The process of the sandbox that was started last, once as many as `of` have one: a folder is there before."""
        end = time.monotonic() + TIMEOUT_S
        while (
            len(found := [each for child in _children(self.process.pid) for each in _sandboxes(child)]) < of
        ):
            assert time.monotonic() < end, found
            time.sleep(0.02)
        return found[-1]

    def pooled(self, others: list[Sandbox]) -> str:
        """The id of the sandbox that nobody has asked for yet."""
        known = {other.sandbox_id for other in others}
        (pooled,) = self.until(lambda found: len(found - known) == 1) - known
        return pooled


def _children(pid: int) -> list[int]:
    """A process's children. The server's is the launcher, whose are the sandboxes."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _sandboxes(launcher: int) -> list[int]:
    """The first processes of sandboxes: while one is made, the launcher has a child in between, too."""
    found = []
    for child in _children(launcher):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text()
            found += [child] if re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE) else []
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        state = Path(folder, "state")
        command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(state)]
        command += ["--max-sandboxes", "3"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            said = json.loads(process.stdout.readline())
            options = {"api_key": said["api_key"], "api_url": said["url"], "sandbox_url": said["url"]}
            yield Server(options, state, process)
            process.terminate()


def test_the_next_of_a_kind_is_there_already(server: Server) -> None:
    """It is the one that was started for it: as new as another, with its own variables and its own name."""
    first, second = (Sandbox.create(**OFFLINE, **server.options) for _ in range(2))
    first.files.write("mine", "first")
    pooled = server.pooled([first, second])
    third = Sandbox.create(envs={"WHOSE": "third"}, metadata={"a": "b"}, **OFFLINE, **server.options)
    assert third.sandbox_id == pooled
    told = third.commands.run("echo $WHOSE $E2B_SANDBOX_ID; ls ~ /tmp | wc -l").stdout
    assert told.split() == ["third", pooled, third.commands.run("ls ~ /tmp | wc -l").stdout.strip()]
    assert not third.files.exists("mine")
    assert third.get_info().metadata == {"a": "b"}
    assert server.pooled([first, second, third]) != pooled


def test_nobody_sees_the_pooled_one(server: Server) -> None:
    """It is in no list, cannot be reached by its id, and takes nobody's place among as many as may run."""
    made = [Sandbox.create(**server.options) for _ in range(2)]
    pooled = server.pooled(made)
    listed = Sandbox.list(query=SandboxQuery(), **server.options).next_items()
    assert {info.sandbox_id for info in listed} == {sandbox.sandbox_id for sandbox in made}
    assert not Sandbox.kill(pooled, **server.options)
    assert Sandbox.create(**server.options).sandbox_id == pooled


def test_another_kind_gets_one_of_its_own(server: Server) -> None:
    """Another template, and another network, are not to be had of it; and what nobody asks for any more goes."""
    made = [Sandbox.create(**OFFLINE, **server.options) for _ in range(2)]
    pooled = server.pooled(made)
    other = Sandbox.create("claude", **server.options)
    assert other.sandbox_id != pooled
    assert other.commands.run("claude --version").exit_code == 0
    server.until(lambda found: pooled not in found)


def test_a_pooled_one_that_died_is_not_given_away(server: Server) -> None:
    """Then another is started, as without it."""
    made = [Sandbox.create(**OFFLINE, **server.options) for _ in range(2)]
    pooled = server.pooled(made)
    os.kill(server.newest_process(of=3), signal.SIGKILL)
    server.until(lambda found: pooled not in found)
    third = Sandbox.create(**OFFLINE, **server.options)
    assert third.sandbox_id != pooled
    assert third.commands.run("echo up").stdout == "up\n"


def test_a_pooled_one_ends_with_the_server(server: Server) -> None:
    """Orderly, with its files, whether it has been started or is being so."""
    made = [Sandbox.create(**OFFLINE, **server.options) for _ in range(2)]
    server.pooled(made)
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert not list(server.state.glob("server-*"))
