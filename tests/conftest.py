"""One E2B-compatible server for each test process, and a clean environment for each test.

A process is the whole suite, or one of the workers of `pytest -n`: workers share nothing.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# pytester forgets the modules that a run within this process has loaded. Parts of numpy, and of the protobuf that e2b
# needs, cannot be loaded twice; and httpx would not know the errors of a second httpcore.
import e2b  # noqa: F401
import httpcore  # noqa: F401
import hypothesis
import pytest
import scipy.special  # noqa: F401

from benchmarks.stub_run import Server, stub_server
from harness.local.boxes.file_tree import remove_tree
from harness.local.launch import LocalServer, start_server
from harness.models.model import PASSED_ON

# In a script's background, or under nohup, this process ignores it, and what it starts and interrupts would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test fails because the machine is busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test uses the developer's own accounts, or is changed by their settings."""
    for name in (
        *PASSED_ON,
        "E2B_API_KEY",
        "E2B_API_URL",
        "E2B_SANDBOX_URL",
        "E2B_DOMAIN",
        "HARNESS_ISOLATION",
    ):
        monkeypatch.delenv(name, raising=False)


OTHER_PLUGINS = ("random_order", "randomly", "repeat", "rerunfailures", "timeout")
"""Plugins that are installed to be tested with: a run within a test has those that it names by `-p`."""
OF_NO_USE = ("anyio", "hypothesispytest")
"""Plugins that happen to be installed. They take half of the time in which pytest, and each of its workers, starts."""


PLAIN = " ".join(f"-p no:{name}" for name in OTHER_PLUGINS + OF_NO_USE)


@pytest.fixture(autouse=True)
def _plain_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest that a test starts has no plugin that changes what tests run, or in which order."""
    monkeypatch.setenv("PYTEST_ADDOPTS", PLAIN)


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest's own, which takes these options away."""
    monkeypatch.setenv("PYTEST_ADDOPTS", PLAIN)
    return pytester


@pytest.fixture(scope="session", autouse=True)
def _own_folders() -> Iterator[None]:
    """What the programs under test keep on this machine, and find there, is this test process's own.

    Servers that are root have sandboxes of other accounts in their folders, which must be able to pass through.
    """
    root = Path(tempfile.mkdtemp(prefix="harness-tests-"))
    root.chmod(0o711)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "XDG_STATE_HOME"):
            patch.setenv(name, str(root))
        yield
    remove_tree(root)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """The server; whatever it logged by the end was unexpected."""
    with start_server() as server:
        yield server
        log = server.log_tail()
    assert not log, f"the server logged unexpected errors:\n{log}"


@pytest.fixture
def as_e2b(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """E2B's own variables name the server, as they would name the cloud or a self-hosted E2B."""
    monkeypatch.setenv("E2B_API_KEY", server.api_key)
    monkeypatch.setenv("E2B_API_URL", server.url)
    monkeypatch.setenv("E2B_SANDBOX_URL", server.url)
    return server


@pytest.fixture(scope="session")
def stub() -> Iterator[Server]:
    """A server whose sandboxes say nothing, for what is about trials and not about what is in them."""
    with stub_server(0) as server:
        yield server


@pytest.fixture
def as_stub(stub: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """E2B's own variables name the stub."""
    monkeypatch.setenv("E2B_API_KEY", "e2b_stub")
    monkeypatch.setenv("E2B_API_URL", stub.url)
    monkeypatch.setenv("E2B_SANDBOX_URL", stub.url)
    return stub
