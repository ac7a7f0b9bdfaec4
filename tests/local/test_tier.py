"""A server that is known by its URL alone says what keeps its sandboxes apart: who works in them must know."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.local.boxes.base import hold_shared_folder
from harness.local.launch import LocalServer
from harness.local.tier import probe_tier
from harness.runs.resources import remote_platform


def test_e2bs_variables_lead_to_the_tier(as_e2b: LocalServer) -> None:
    """Else a trial would end every newer process in sight, which elsewhere than in a microVM are others' too."""
    platform = remote_platform()
    assert (platform.kind, platform.isolation) == ("e2b", as_e2b.isolation)
    assert set(platform.enforces or ()) == as_e2b.enforces
    assert platform.shortcoming == as_e2b.shortcoming
    assert platform.description == f"e2b ({as_e2b.url}, {as_e2b.isolation})"


def test_a_base_that_is_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    """Another server that had it removes it while we wait: a sandbox of it would lose its programs one by one."""
    made = tmp_path / "base"
    made.mkdir()
    another = os.open(made, os.O_RDONLY)
    fcntl.flock(another, fcntl.LOCK_EX)
    holding = threading.Thread(target=hold_shared_folder, args=(made, made.mkdir), daemon=True)
    holding.start()
    waits = re.compile(rf"-> FLOCK .*:{made.stat().st_ino} ")
    while not waits.search(Path("/proc/locks").read_text()):
        holding.join(0.01)
    made.rename(tmp_path / "gone")
    os.close(another)
    holding.join(30)
    with pytest.raises(BlockingIOError):
        fcntl.flock(os.open(made, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture(params=[b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
def another(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server on loopback that is none of ours, and says something else to whoever comes, or hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(request.param)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_another_server_has_none(another: str) -> None:
    """A self-hosted E2B, say."""
    assert probe_tier(another) is None


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://[::1", "http://127.0.0.1:port", "file:///etc/passwd", "nowhere", ""],
)
def test_nobody_there_has_none(url: str) -> None:
    """What is wrong with it is said when a sandbox is asked for."""
    assert probe_tier(url) is None


def test_who_is_elsewhere_is_not_asked(as_e2b: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local servers listen on loopback alone; a request to a firewalled host would hold up every run.

    This address leads to the server as well, which would answer.
    """
    elsewhere = as_e2b.url.replace("127.0.0.1", "0.0.0.0")
    assert probe_tier(elsewhere)
    monkeypatch.setenv("E2B_API_URL", elsewhere)
    assert remote_platform().isolation is None


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what is missing."""
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(UsageError, match="E2B_API_KEY"):
        remote_platform()
