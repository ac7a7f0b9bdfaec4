"""How the local server starts and ends: as a child, by hand, by force, and what it leaves behind."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2b import Sandbox
from e2b.sandbox.commands.command_handle import PtySize

from harness.local.launch import LocalServer, LocalServerError, start_server

Ready = dict[str, Any]


@pytest.fixture
def state() -> Iterator[Path]:
    """Where a server of this test keeps its files: not under pytest's own folders, which nobody else may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder, "state")


@pytest.fixture
def by_hand(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server started from the command line."""
    command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def _ready(process: subprocess.Popen[bytes]) -> Ready:
    assert process.stdout
    line = process.stdout.readline()
    assert line, f"the server ended without a word: {process.wait()}"
    ready: Ready = json.loads(line)
    return ready


def _options(ready: Ready) -> dict[str, str]:
    return {"api_key": ready["api_key"], "api_url": ready["url"], "sandbox_url": ready["url"]}


def test_one_line_says_that_it_is_ready(by_hand: subprocess.Popen[bytes]) -> None:
    """The line has what a client needs, and a client can use it at once."""
    ready = _ready(by_hand)
    assert ready.keys() == {"url", "api_key", "isolation", "enforces", "shortcoming", "pid"}
    assert ready["pid"] == by_hand.pid
    assert ready["url"].startswith("http://127.0.0.1:")
    with Sandbox.create(**_options(ready)) as sandbox:
        assert sandbox.commands.run("echo up").stdout == "up\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_it_has(
    by_hand: subprocess.Popen[bytes], state: Path, number: signal.Signals
) -> None:
    """It exits with 0, its sandboxes are dead, paused ones too, and nothing is left on disk."""
    options = _options(_ready(by_hand))
    sandboxes = [Sandbox.create(**options) for _ in range(3)]
    for sandbox in sandboxes:
        sandbox.commands.run("(setsid sleep 1000 &)")
    sandboxes[0].pause()
    inside = _descendants(by_hand.pid)
    assert inside
    by_hand.send_signal(number)
    assert by_hand.wait(10) == 0
    assert not [pid for pid in inside if _alive(pid)]
    assert list(state.glob("server-*")) == []


def test_a_killed_server_leaves_nothing_running_and_the_next_removes_its_files(
    by_hand: subprocess.Popen[bytes], state: Path
) -> None:
    """SIGKILL of the server ends its sandboxes; their files go when another server starts."""
    sandbox = Sandbox.create(**_options(_ready(by_hand)))
    sandbox.commands.run("(setsid sleep 1000 &); mkdir -p ~/closed/inner; chmod 000 ~/closed")
    inside = _descendants(by_hand.pid)
    by_hand.kill()
    by_hand.wait()
    for pid in inside:
        _wait_for_death(pid)
    (left,) = state.glob("server-*")
    command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
        _ready(second)
        assert not left.exists()
        assert len(list(state.glob("server-*"))) == 1
        second.terminate()


def test_a_living_servers_files_are_left_alone(by_hand: subprocess.Popen[bytes], state: Path) -> None:
    """Another server on the same state directory takes nothing from the first."""
    options = _options(_ready(by_hand))
    with Sandbox.create(**options) as sandbox:
        sandbox.files.write("mine", "still here")
        command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(state)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
            _ready(second)
            second.terminate()
        assert sandbox.files.read("mine") == "still here"


@pytest.mark.skipif(shutil.which("lsattr") is None, reason="lsattr tells the flags of files")
def test_sandboxes_lie_far_from_each_other(by_hand: subprocess.Popen[bytes], state: Path) -> None:
    """The file system is asked for it: near each other, what some leave behind makes others slow."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", state.parent], stdout=subprocess.PIPE, check=True).stdout
    if kind.strip() != b"ext2/ext3":  # ext4 says so, too
        pytest.skip("only ext's family can be asked")
    _ready(by_hand)
    (own,) = state.glob("server-*")
    told = subprocess.run(["lsattr", "-d", own / "sandboxes"], stdout=subprocess.PIPE, check=True).stdout
    assert b"T" in told.split()[0]


def test_any_file_system_will_do() -> None:
    """Memory's cannot be asked where to put things."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o711)
        command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", f"{folder}/state"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            with Sandbox.create(**_options(_ready(server))) as sandbox:
                assert sandbox.commands.run("echo here").stdout == "here\n"
            server.terminate()


def test_a_server_in_the_background_has_sandboxes_that_can_be_interrupted(state: Path) -> None:
    """nohup, and a script's `&`, have it ignore signals, which would go on to everything that it starts."""
    command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(state)]
    ignoring = ["sh", "-c", "trap '' HUP INT QUIT PIPE; exec \"$@\"", "sh", *command]
    ignored = "grep SigIgn /proc/self/status"
    with subprocess.Popen(ignoring, stdout=subprocess.PIPE) as process:
        try:
            with Sandbox.create(**_options(_ready(process))) as sandbox:
                told = sandbox.commands.run(ignored).stdout
                terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
                sandbox.pty.send_stdin(terminal.pid, f"exec sh -c '{ignored} >told'\n".encode())
                terminal.wait()
                told += sandbox.files.read("told")
        finally:
            process.kill()
    masks = [int(line.split()[1], 16) for line in told.splitlines()]
    # The C library keeps 32 and 33 for itself.
    assert [mask & 0x7FFFFFFF for mask in masks] == [0, 0]


def test_a_server_dies_with_its_parent(tmp_path: Path) -> None:
    """When the process that launched it is killed with SIGKILL, server and sandboxes are gone as well."""
    script = (
        "import json, time\n"
        "from e2b import Sandbox\n"
        "from harness.local.launch import start_server\n"
        "server = start_server()\n"
        "sandbox = Sandbox.create(api_key=server.api_key, api_url=server.url, sandbox_url=server.url)\n"
        "print(server.process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        family = {server, *_descendants(server)}
        assert len(family) > 1
        parent.kill()
    for pid in family:
        _wait_for_death(pid)


def test_a_server_dies_with_its_parent_though_somebody_holds_the_pipe() -> None:
    """A child that the parent forked, and that keeps every descriptor, does not keep the server alive."""
    script = (
        "import os, time\n"
        "from harness.local.launch import start_server\n"
        "server = start_server()\n"
        "other = os.fork()\n"
        "if other == 0:\n"
        "    time.sleep(1000)\n"
        "print(server.process.pid, other, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        server, other = map(int, parent.stdout.readline().split())
        parent.kill()
        try:
            _wait_for_death(server)
        finally:
            os.kill(other, signal.SIGKILL)


def test_a_server_outlives_the_thread_that_started_it() -> None:
    """A server started from a thread goes on when that thread has ended."""
    servers: list[LocalServer] = []
    thread = threading.Thread(target=lambda: servers.append(start_server()))
    thread.start()
    thread.join()
    (server,) = servers
    with server:
        options = {"api_key": server.api_key, "api_url": server.url, "sandbox_url": server.url}
        with Sandbox.create(**options) as sandbox:
            assert sandbox.commands.run("echo here").stdout == "here\n"
    assert server.process.returncode == 0


def test_stopping_twice_is_fine() -> None:
    """stop() may be called again, and by a `with` that ends."""
    with start_server() as server:
        server.stop()
    assert server.process.returncode == 0


def test_what_prevents_a_start_is_said_with_a_remedy() -> None:
    """A tier that is not there makes start_server raise with the child's words."""
    with pytest.raises(LocalServerError) as caught:
        start_server(isolation="castle")
    assert "castle" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "whoever reaches it can run programs on this machine"),
        (["--host", "example.com"], "no IP address"),
        (["--port", "99999"], "Port 99999"),
        (["--state", "/proc/none"], "cannot be used"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: list[str], words: str) -> None:
    """The command exits with 1 and one line of JSON: what is wrong, and what would help."""
    command = [sys.executable, "-m", "harness.local", "--port", "0", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert words in said["error"]
    assert said["remedy"]


def test_people_get_lines_to_paste() -> None:
    """`harness sandboxd` says which variables to set, and ends with 0 at Ctrl-C; what it cannot do it says
    without a traceback, with a remedy."""
    program = "import sys; from harness.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "sandboxd", "--port"]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        walls, _, variables = (process.stdout.readline() for _ in range(3))
        assert "isolation" in walls
        options = dict(word.split("=", 1) for word in variables.removeprefix("export ").split())
        with Sandbox.create(
            api_key=options["E2B_API_KEY"],
            api_url=options["E2B_API_URL"],
            sandbox_url=options["E2B_SANDBOX_URL"],
        ) as sandbox:
            assert sandbox.commands.run("echo up").stdout == "up\n"
        again = [*command, options["E2B_API_URL"].rpartition(":")[2]]
        done = subprocess.run(again, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 1
        assert "Address already in use" in done.stderr
        assert "--port 0" in done.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_port_in_use_is_said() -> None:
    """Two servers cannot have one port: the second says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "harness.local", "--port", str(port)]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=False)
    assert done.returncode == 1
    assert f"Port {port}" in json.loads(done.stdout)["error"]


def test_a_state_directory_of_others_is_refused(tmp_path: Path) -> None:
    """Where others may write, they could swap files under the server: it does not start there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(shared)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=False)
    assert done.returncode == 1
    assert "can be written by other users" in json.loads(done.stdout)["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root server gives its sandboxes other accounts")
def test_a_state_directory_that_sandboxes_cannot_reach_is_refused(tmp_path: Path) -> None:
    """A root server whose files lie behind a closed folder says so at once, not at the first sandbox."""
    command = [sys.executable, "-m", "harness.local", "--port", "0", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=False)
    assert done.returncode == 1
    assert "may not be entered" in json.loads(done.stdout)["error"]


def _descendants(pid: int) -> set[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = {int(child) for each in threads for child in (each / "children").read_text().split()}
    except FileNotFoundError:
        return set()
    return children.union(*map(_descendants, children))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_for_death(pid: int) -> None:
    """Return once the process is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 10)[0], f"process {pid} still lives"
    finally:
        os.close(descriptor)
