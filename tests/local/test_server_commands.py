"""Commands and terminals of the local server, through the official SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from e2b import (
    AsyncSandbox,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    Sandbox,
    SandboxException,
    TimeoutException,
)
from e2b.sandbox.commands.command_handle import PtySize

InSandbox = Callable[..., Any]


def test_a_command_gives_back_what_it_writes(in_sandbox: InSandbox) -> None:
    """stdout, stderr and the exit code arrive apart from each other."""

    async def story(sandbox: AsyncSandbox) -> None:
        result = await sandbox.commands.run("echo out; echo err >&2")
        assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)

    in_sandbox(story)


def test_the_sync_sdk_works_as_well(api: dict[str, str]) -> None:
    """The synchronous SDK runs a command and reads and writes a file."""
    with Sandbox.create(**api) as sandbox:
        sandbox.files.write("note.txt", "hello")
        assert sandbox.commands.run("cat note.txt").stdout == "hello"
        assert sandbox.files.read("note.txt") == "hello"


def test_a_failing_command_raises_with_its_output(in_sandbox: InSandbox) -> None:
    """An exit code other than 0 becomes the SDK's exception, output included."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(CommandExitException) as caught:
            await sandbox.commands.run("echo before; echo why >&2; exit 3")
        assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (3, "before\n", "why\n")
        assert caught.value.error == "exit status 3"

    in_sandbox(story)


def test_a_killed_command_says_which_signal(in_sandbox: InSandbox) -> None:
    """A command that a signal ended has E2B's exit code -1 and names the signal."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(CommandExitException) as caught:
            await sandbox.commands.run("kill -9 $$")
        assert (caught.value.exit_code, caught.value.error) == (-1, "signal: killed")

    in_sandbox(story)


def test_environment_directory_and_user_are_as_asked_for(in_sandbox: InSandbox) -> None:
    """envs of the sandbox and of the command, cwd (relative to the home) and user reach the command."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.make_dir("work")
        shown = await sandbox.commands.run('echo "$ALL $ONE $PWD"', envs={"ONE": "two words"}, cwd="work")
        assert shown.stdout.split() == ["everywhere", "two", "words", *shown.stdout.split()[3:]]
        assert shown.stdout.rstrip().endswith("/work")
        assert (await sandbox.commands.run("echo $USER $ALL", envs={"ALL": "here"})).stdout == "user here\n"
        assert (await sandbox.commands.run("echo $USER", user="root")).stdout == "root\n"

    in_sandbox(story, envs={"ALL": "everywhere"})


def test_what_cannot_be_started_is_refused(in_sandbox: InSandbox) -> None:
    """A missing directory and an unknown user give E2B's errors, not an exit code."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(InvalidArgumentException, match="cwd '/no/such' does not exist"):
            await sandbox.commands.run("true", cwd="/no/such")
        with pytest.raises(Exception, match="invalid username: 'mallory'"):
            await sandbox.commands.run("true", user="mallory")
        with pytest.raises(InvalidArgumentException, match="null"):
            await sandbox.commands.run("echo \0")

    in_sandbox(story)


def test_a_command_ends_with_its_main_process(in_sandbox: InSandbox) -> None:
    """A daemon that keeps the output open neither holds the command back nor dies with it."""

    async def story(sandbox: AsyncSandbox) -> None:
        result = await sandbox.commands.run(
            "(sleep 0.2; echo late; touch ~/survived; sleep 60) & echo started"
        )
        assert result.stdout == "started\n"
        await sandbox.commands.run("until [ -e ~/survived ]; do sleep 0.02; done")

    in_sandbox(story)


def test_bytes_that_are_no_text_arrive_replaced(in_sandbox: InSandbox) -> None:
    """Output that is not UTF-8, and characters cut in two by chunks, do not break the stream."""

    async def story(sandbox: AsyncSandbox) -> None:
        result = await sandbox.commands.run(
            r"printf '\xff\xfe ok '; printf '\xc3'; sleep 0.05; printf '\xa9'"
        )
        assert result.stdout == "�� ok é"

    in_sandbox(story)


def test_many_small_pieces_of_output_arrive_in_few(in_sandbox: InSandbox) -> None:
    """Each piece costs server and client the same, however small: twenty a second are as good as a hundred."""

    async def story(sandbox: AsyncSandbox) -> None:
        pieces: list[str] = []
        start = time.monotonic()
        result = await sandbox.commands.run(
            "for i in {1..100}; do echo $i; sleep 0.005; done", on_stdout=pieces.append
        )
        assert result.stdout == "".join(pieces) == "".join(f"{number}\n" for number in range(1, 101))
        assert len(pieces) <= (time.monotonic() - start) / 0.05 + 2

    in_sandbox(story)


def test_a_command_that_is_spoken_to_answers_at_once(in_sandbox: InSandbox) -> None:
    """What may be waited for is not held back to be told with more: each answer is a piece of its own."""

    async def story(sandbox: AsyncSandbox) -> None:
        pieces: asyncio.Queue[str] = asyncio.Queue()
        handle = await sandbox.commands.run("cat", background=True, stdin=True, on_stdout=pieces.put_nowait)
        waits = []
        for number in range(50):
            asked = time.monotonic()
            await handle.send_stdin(f"{number}\n")
            assert await pieces.get() == f"{number}\n"
            waits.append(time.monotonic() - asked)
        assert sorted(waits)[2] < 0.04
        await handle.kill()

    in_sandbox(story)


def test_a_hundred_megabytes_arrive_whole_and_leave_the_server_small(
    in_sandbox: InSandbox, server: Any
) -> None:
    """The server passes 100 MB on without keeping them: its memory grows by less than a tenth of that."""

    async def story(sandbox: AsyncSandbox) -> None:
        before = _peak_memory(server.process.pid)
        received = 0

        def count(text: str) -> None:
            nonlocal received
            received += len(text)

        await sandbox.commands.run(
            "head -c 100000000 /dev/zero | tr '\\0' 'x'", on_stdout=count, retain_output=False
        )
        assert received == 100_000_000
        assert _peak_memory(server.process.pid) - before < 10_000_000

    in_sandbox(story)


def _peak_memory(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_a_command_goes_on_when_its_client_has_gone(in_sandbox: InSandbox) -> None:
    """A disconnected command prints far more than a pipe holds, and still comes to its end."""

    async def story(sandbox: AsyncSandbox) -> None:
        command = "head -c 5000000 /dev/zero; touch ~/done"
        handle = await sandbox.commands.run(command, background=True)
        await handle.disconnect()
        await sandbox.commands.run("until [ -e ~/done ]; do sleep 0.02; done")

    in_sandbox(story)


def test_a_client_can_come_back_to_a_command(in_sandbox: InSandbox) -> None:
    """connect(pid) hears what is printed from then on, and the exit code."""

    async def story(sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("read line; echo got $line; exit 4", background=True, stdin=True)
        await handle.disconnect()
        again = await sandbox.commands.connect(handle.pid)
        await sandbox.commands.send_stdin(handle.pid, "it\n")
        with pytest.raises(CommandExitException) as caught:
            await again.wait()
        assert (caught.value.stdout, caught.value.exit_code) == ("got it\n", 4)
        with pytest.raises(NotFoundException, match=f"process with pid {handle.pid} not found"):
            await sandbox.commands.connect(handle.pid)

    in_sandbox(story)


def test_output_that_is_to_be_kept_can_be_had_again(in_sandbox: InSandbox) -> None:
    """An extension: with HARNESS_KEEP_OUTPUT=1 connect(pid) tells all from the start, also after the end."""

    async def check(sandbox: AsyncSandbox) -> None:
        script = "seq 100000; echo oops >&2; read; echo more; exit 3"
        envs = {"HARNESS_KEEP_OUTPUT": "1"}
        handle = await sandbox.commands.run(script, background=True, envs=envs, stdin=True, timeout=0)
        await handle.disconnect()
        again = await sandbox.commands.connect(handle.pid, timeout=0)
        await sandbox.commands.send_stdin(handle.pid, "\n")
        for _ in range(2):
            with pytest.raises(CommandExitException) as caught:
                await again.wait()
            assert caught.value.exit_code == 3
            assert caught.value.stdout.splitlines() == [*map(str, range(1, 100_001)), "more"]
            assert caught.value.stderr == "oops\n"
            again = await sandbox.commands.connect(handle.pid, timeout=0)

    in_sandbox(check)


def test_stdin_can_be_sent_and_closed(in_sandbox: InSandbox) -> None:
    """send_stdin, an ordered input stream, and close_stdin: a command reads it all and then the end."""

    async def story(sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("cat; echo end", background=True, stdin=True)
        await handle.send_stdin("one\n")
        stream = sandbox.commands.stream_input(handle.pid)
        for number in range(20):
            await stream.send(f"{number}\n")
        await stream.close()
        await handle.close_stdin()
        result = await handle.wait()
        assert result.stdout == "one\n" + "".join(f"{number}\n" for number in range(20)) + "end\n"

    in_sandbox(story)


def test_large_input_arrives_whole(in_sandbox: InSandbox) -> None:
    """A single input far beyond what a pipe holds reaches a command that reads slowly."""

    async def story(sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("sleep 0.1; wc -c", background=True, stdin=True)
        await handle.send_stdin("x" * 10_000_000)
        await handle.close_stdin()
        assert (await handle.wait()).stdout.strip() == "10000000"

    in_sandbox(story)


def test_without_stdin_a_command_reads_nothing(in_sandbox: InSandbox) -> None:
    """A command that was not given a stdin sees its end at once."""

    async def story(sandbox: AsyncSandbox) -> None:
        assert (await sandbox.commands.run("cat; echo done")).stdout == "done\n"

    in_sandbox(story)


def test_commands_are_listed_and_killed(in_sandbox: InSandbox) -> None:
    """list shows what runs, kill ends it, and a second kill finds nothing."""

    async def story(sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("sleep 100", background=True, envs={"A": "b"}, cwd="/tmp")
        (shown,) = await sandbox.commands.list()
        assert (shown.pid, shown.cmd, shown.args) == (handle.pid, "/bin/bash", ["-l", "-c", "sleep 100"])
        assert (shown.envs, shown.cwd, shown.tag) == ({"A": "b"}, "/tmp", None)
        assert await handle.kill()
        with pytest.raises(CommandExitException) as caught:
            await handle.wait()
        assert caught.value.exit_code == -1
        assert not await sandbox.commands.kill(handle.pid)
        assert await sandbox.commands.list() == []

    in_sandbox(story)


def test_a_killed_command_has_ended_when_the_kill_is_answered(in_sandbox: InSandbox) -> None:
    """The next command finds no process of that pid any more."""

    async def story(sandbox: AsyncSandbox) -> None:
        for _ in range(10):
            command = await sandbox.commands.run("sleep 100", background=True)
            assert await sandbox.commands.kill(command.pid)
            assert not await sandbox.files.exists(f"/proc/{command.pid}")

    in_sandbox(story)


def test_a_timeout_ends_the_stream_and_the_command(in_sandbox: InSandbox) -> None:
    """timeout= is the whole command's: the client hears of the deadline, and nothing is left running."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(TimeoutException):
            await sandbox.commands.run("sleep 100", timeout=0.2)
        while await sandbox.commands.list():
            pass  # the kill is on its way

    in_sandbox(story)


def test_a_timeout_also_ends_what_prints_all_the_time(in_sandbox: InSandbox) -> None:
    """The deadline comes through although there is always more to read."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(TimeoutException):
            await sandbox.commands.run("yes", timeout=0.3, retain_output=False)

    in_sandbox(story)


def test_many_commands_run_at_once(in_sandbox: InSandbox) -> None:
    """Fifty commands that wait for each other all run at the same time."""

    async def story(sandbox: AsyncSandbox) -> None:
        command = "touch ~/at-$N; while [ $(ls ~ | grep -c at-) -lt 50 ]; do sleep 0.05; done; echo $N"
        runs = [sandbox.commands.run(command, envs={"N": str(number)}) for number in range(50)]
        assert [result.stdout for result in await asyncio.gather(*runs)] == [f"{n}\n" for n in range(50)]

    in_sandbox(story)


def test_a_terminal_is_one(in_sandbox: InSandbox) -> None:
    """A PTY has the size that was asked for, takes a new one, echoes input, and ends with its shell."""

    async def story(sandbox: AsyncSandbox) -> None:
        screen = _Screen()
        pty = await sandbox.pty.create(size=PtySize(rows=31, cols=97), on_data=screen.show)
        await sandbox.pty.send_stdin(pty.pid, b"stty size; tty\n")
        await screen.shows(b"31 97")
        await screen.shows(b"/dev/pts/")
        await sandbox.pty.resize(pty.pid, PtySize(rows=40, cols=120))
        await sandbox.pty.send_stdin(pty.pid, b"stty size\n")
        await screen.shows(b"40 120")
        await sandbox.pty.send_stdin(pty.pid, b"exit 7\n")
        with pytest.raises(CommandExitException) as caught:
            await pty.wait()
        assert caught.value.exit_code == 7

    in_sandbox(story)


def test_a_terminal_can_be_left_and_found_again(in_sandbox: InSandbox) -> None:
    """A PTY lives on without its client, which can connect to it anew, and kill it."""

    async def story(sandbox: AsyncSandbox) -> None:
        screen = _Screen()
        pty = await sandbox.pty.create(size=PtySize(rows=24, cols=80), on_data=_Screen().show)
        await pty.disconnect()
        again = await sandbox.pty.connect(pty.pid, on_data=screen.show)
        await sandbox.pty.send_stdin(pty.pid, b"echo $((6*7))\n")
        await screen.shows(b"42")
        assert await sandbox.pty.kill(pty.pid)
        with pytest.raises(CommandExitException):
            await again.wait()

    in_sandbox(story)


def test_input_must_fit_the_process(in_sandbox: InSandbox) -> None:
    """A terminal takes no stdin, and what was started without a stdin says so."""

    async def story(sandbox: AsyncSandbox) -> None:
        pty = await sandbox.pty.create(size=PtySize(rows=24, cols=80), on_data=_Screen().show)
        with pytest.raises(SandboxException, match="stdin"):
            await sandbox.commands.send_stdin(pty.pid, "x")
        command = await sandbox.commands.run("sleep 100", background=True)
        with pytest.raises(SandboxException, match="stdin"):
            await sandbox.commands.send_stdin(command.pid, "x")

    in_sandbox(story)


class _Screen:
    """What a terminal has shown."""

    def __init__(self) -> None:
        self._shown = b""
        self._changed = asyncio.Event()

    def show(self, data: bytes) -> None:
        self._shown += data
        self._changed.set()

    async def shows(self, text: bytes) -> None:
        """Wait until the text has been shown, and look only at what follows from then on."""
        while text not in self._shown:
            self._changed.clear()
            await self._changed.wait()
        self._shown = self._shown.partition(text)[2]
