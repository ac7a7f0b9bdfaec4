"""What a box promises, in every tier that works on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from harness.local.boxes.box import Box
from harness.local.boxes.file_tree import measure_tree, remove_tree
from harness.local.boxes.held import measure_held
from harness.local.boxes.isolation import Isolation
from harness.local.boxes.types import BadDirectory, BadProgram, BoxDied, BoxError, BoxSpec, UnknownUser, Usage
from harness.local.limits import BoxLimits
from harness.local.template import base_template
from tests.support.boxes import (
    TIERS,
    eventually,
    fresh_box,
    isolation,
    marked_processes,
    on_disk,
    read_all,
    read_until,
    run,
    tell,
    tell_in,
    without_cgroups,
)


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> Isolation:
    return isolation(request.param)


# --- processes


def test_a_command_says_what_it_says_and_ends_as_it_ends(tier: Isolation) -> None:
    """stdout, stderr and the exit code come through, apart from each other."""

    async def story(box: Box) -> None:
        output = await run(box, "echo out; echo err >&2; exit 7")
        assert (output.stdout, output.stderr, output.exit_code) == ("out\n", "err\n", 7)

    tell(story, tier)


def test_a_command_starts_in_its_users_home_with_the_sandboxs_environment(tier: Isolation) -> None:
    """Home and names follow the user; variables add up, the call's winning; E2B's marks are there."""

    async def story(box: Box) -> None:
        for user in ("user", "root"):
            command = 'echo "$HOME $PWD $USER $A $B $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID"'
            output = await run(box, command, user=user, env={"B": "call"})
            home = box.paths.outside(box.home(user))
            assert output.stdout.split() == [home, home, user, "1", "call", "true", "box1", "base"]
        if box.tier == "namespaces":  # for terminals, which have no variables of a call
            files = await run(box, "cd /run/e2b && cat .E2B_SANDBOX .E2B_SANDBOX_ID .E2B_TEMPLATE_ID")
            assert files.stdout == "truebox1base"

    tell(story, tier, env={"A": "1", "B": "sandbox"})


def test_what_cannot_be_started_says_why(tier: Isolation) -> None:
    """A bad folder, a missing program and an unknown user are different errors, and leave no descriptor open."""

    async def story(box: Box) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(BadProgram, match="No such file or directory: no-such-program"):
            await box.spawn(["no-such-program"])
        with pytest.raises(BadDirectory, match="No such file or directory: /no/such/folder"):
            await box.spawn(["true"], cwd="/no/such/folder")
        with pytest.raises(UnknownUser, match="nobody-i-know"):
            await box.spawn(["true"], user="nobody-i-know")
        assert len(os.listdir("/proc/self/fd")) == before

    tell(story, tier)


def test_input_arrives_and_ends(tier: Isolation) -> None:
    """A megabyte written to stdin comes back from cat, which ends when stdin is closed."""

    async def story(box: Box) -> None:
        process = await box.spawn(["cat"], stdin=True)
        data = os.urandom(1 << 20)
        reading = asyncio.create_task(read_all(process))
        await process.write(data)
        process.close_stdin()
        assert (await reading)[0] == data
        assert (await process.wait()).exit_code == 0
        with pytest.raises(BrokenPipeError):
            await process.write(b"more")

    tell(story, tier)


def test_without_input_a_command_reads_nothing(tier: Isolation) -> None:
    """stdin is empty, not a terminal or the server's own."""

    async def story(box: Box) -> None:
        assert (await run(box, "cat; readlink /proc/self/fd/0")).stdout == "/dev/null\n"

    tell(story, tier)


def test_a_signal_ends_a_process_and_is_told(tier: Isolation) -> None:
    """The exit status names the signal; a process that has ended cannot be signalled."""

    async def story(box: Box) -> None:
        process = await box.spawn(["sleep", "60"])
        await process.signal(signal.SIGTERM)
        status = await process.wait()
        assert (status.signal, status.exit_code) == (signal.SIGTERM, 128 + signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            await process.signal(signal.SIGTERM)

    tell(story, tier)


def test_python_in_the_guest_does_not_change_its_childrens_signals(tier: Isolation) -> None:
    """SIGPIPE, which Python ignores, ends a program that writes to nobody."""

    async def story(box: Box) -> None:
        output = await run(box, "yes | head -n 1; echo ${PIPESTATUS[0]}")
        assert output.stdout == f"y\n{128 + signal.SIGPIPE}\n"

    tell(story, tier)


def test_a_terminal_is_one(tier: Isolation) -> None:
    """A process on a terminal has it as controlling terminal, knows its size, and hears of changes."""

    async def story(box: Box) -> None:
        script = (
            "trap 'stty size' WINCH; stty size; tty; : < /dev/tty && echo ready; while :; do sleep 0.05; done"
        )
        process = await box.spawn(["/bin/bash", "-c", script], pty=(100, 30))
        said = await read_until(process, b"ready\r\n")
        assert b"30 100\r\n" in said
        assert b"/dev/pts/" in said
        process.resize(120, 40)
        await read_until(process, b"40 120\r\n")
        await process.signal(signal.SIGKILL)
        assert (await process.wait()).signal == signal.SIGKILL

    tell(story, tier)


def test_control_c_and_signals_reach_the_foreground(tier: Isolation) -> None:
    """What runs in the foreground of a terminal gets ^C, and the signals sent to the process."""

    async def story(box: Box) -> None:
        process = await box.spawn(["/bin/bash", "--norc", "-i"], pty=(80, 24), env={"PS1": "$ "})
        duration = f"60.{os.getpid()}"
        await process.write(f"sleep {duration}; echo first=$?\n".encode())
        await eventually(lambda: bool(marked_processes(duration)))
        await process.write(b"\x03")
        await process.write(b"echo second=$?\n")
        await read_until(process, b"second=130")
        await process.write(
            b"(trap 'echo got''it; exit' TERM; echo wa''iting; while :; do sleep 0.05; done)\n"
        )
        await read_until(process, b"waiting")
        await process.signal(signal.SIGTERM)
        await read_until(process, b"gotit")

    tell(story, tier)


def test_a_process_that_nobody_reads_waits_and_loses_nothing(tier: Isolation) -> None:
    """Output is kept back by a full pipe, and all of it is there for a late reader."""

    async def story(box: Box) -> None:
        process = await box.spawn(["head", "-c", "3000000", "/dev/zero"])
        await asyncio.sleep(0)
        assert process.ended is None
        assert len((await read_all(process))[0]) == 3_000_000

    tell(story, tier)


def test_a_daemon_outlives_its_command_and_a_released_reader(tier: Isolation) -> None:
    """A released process that keeps writing neither blocks nor dies."""

    async def story(box: Box) -> None:
        command = "(for i in $(seq 30); do seq 10000; done; echo done > ~/done) & echo started"
        process = await box.spawn(["/bin/bash", "-c", command])
        assert await process.read() is not None
        await process.wait()
        process.release()
        done = on_disk(box, "/home/user/done")
        await eventually(done.exists)

    tell(story, tier)


def test_many_commands_at_once_do_not_mix(tier: Isolation) -> None:
    """Fifty commands in one box each get their own output and status."""

    async def story(box: Box) -> None:
        outputs = await asyncio.gather(*(run(box, f"echo {n}; exit {n}") for n in range(50)))
        assert [(o.stdout, o.exit_code) for o in outputs] == [(f"{n}\n", n) for n in range(50)]

    tell(story, tier)


def test_bytes_that_are_no_text_come_through(tier: Isolation) -> None:
    """Arguments, output and file names may be any bytes."""

    async def story(box: Box) -> None:
        name = os.fsdecode(b"caf\xe9 \xff")
        process = await box.spawn(["/bin/bash", "-c", 'printf "%s" "$1"; touch -- "$1"', "bash", name])
        assert (await read_all(process))[0] == os.fsencode(name)
        entry = await box.files.stat(f"/home/user/{name}")
        assert entry.name == name

    tell(story, tier)


# --- files


def test_files_are_written_read_and_described(tier: Isolation) -> None:
    """A file made through a descriptor is the sandbox's own, and stat tells size, mode, owner and time."""

    async def story(box: Box) -> None:
        path = "/home/user/deep/er/file.txt"
        fd = await box.files.open(path, os.O_WRONLY | os.O_CREAT, 0o640, parents=True)
        with os.fdopen(fd, "wb") as file:
            file.write(b"hello")
            os.setxattr(file.fileno(), "user.e2b.kind", b"greeting")
        entry = await box.files.stat(path)
        assert (entry.path, entry.name, entry.size, entry.owner) == (path, "file.txt", 5, "user")
        assert stat.S_ISREG(entry.mode)
        assert stat.S_IMODE(entry.mode) == 0o640
        assert entry.metadata == {"kind": "greeting"}
        with os.fdopen(await box.files.open(path)) as file:
            assert file.read() == "hello"
        assert (await run(box, "cat ~/deep/er/file.txt; stat -c %U:%s ~/deep/er/file.txt")).stdout[
            :5
        ] == "hello"

    tell(story, tier)


def test_links_are_described_as_links(tier: Isolation) -> None:
    """A link tells where it leads and what is there; one to nothing is an entry all the same."""

    async def story(box: Box) -> None:
        await run(box, "mkdir d; ln -s d to-d; ln -s nothing dangling")
        link = await box.files.stat("/home/user/to-d")
        assert link.is_symlink
        assert link.target == "/home/user/d"
        assert link.target_mode is not None
        assert stat.S_ISDIR(link.target_mode)
        dangling = await box.files.stat("/home/user/dangling")
        assert dangling.is_symlink
        assert dangling.target_mode is None

    tell(story, tier)


def test_a_folder_is_listed_to_a_depth(tier: Isolation) -> None:
    """Entries come in order, no deeper than asked, and links are not followed."""

    async def story(box: Box) -> None:
        await run(box, "rm -f .bash_profile; mkdir -p a/b/c; touch a/f; ln -s a z")
        assert [e.path for e in await box.files.list("/home/user")] == ["/home/user/a", "/home/user/z"]
        found = [e.path.removeprefix("/home/user/") for e in await box.files.list("/home/user", 3)]
        assert found == ["a", "a/b", "a/b/c", "a/f", "z"]
        with pytest.raises(NotADirectoryError):
            await box.files.list("/home/user/a/f")
        with pytest.raises(FileNotFoundError):
            await box.files.list("/home/user/none")

    tell(story, tier)


def test_a_huge_folder_holds_nothing_up(tier: Isolation) -> None:
    """While two thousand entries are listed, the guest answers other requests."""

    async def story(box: Box) -> None:
        await run(box, "mkdir big; cd big; seq 2000 | xargs touch")
        listing = asyncio.create_task(box.files.list("/home/user/big"))
        assert (await box.files.stat("/home/user/big")).is_dir
        assert len(await listing) == 2000

    tell(story, tier)


def test_folders_are_made_once(tier: Isolation) -> None:
    """Making a folder says whether it was new; a file in its place is an error."""

    async def story(box: Box) -> None:
        assert await box.files.make_dir("/home/user/x/y") is True
        assert await box.files.make_dir("/home/user/x/y") is False
        await run(box, "touch file")
        with pytest.raises(NotADirectoryError):
            await box.files.make_dir("/home/user/file")

    tell(story, tier)


def test_moving_crosses_the_sandboxs_mounts(tier: Isolation) -> None:
    """On E2B home and /tmp are one file system; here a folder moves between them all the same."""

    async def story(box: Box) -> None:
        await run(box, "mkdir -p from/sub; echo 1 > from/sub/file")
        entry = await box.files.move("/home/user/from", "/tmp/new/place")
        assert entry.path == "/tmp/new/place"
        assert (await box.files.stat("/tmp/new/place/sub/file")).size == 2
        with pytest.raises(FileNotFoundError):
            await box.files.stat("/home/user/from")

    tell(story, tier)


def test_removing_takes_all_that_is_below_and_follows_no_link(tier: Isolation) -> None:
    """A folder goes with its content; a link goes, and what it leads to stays."""

    async def story(box: Box) -> None:
        await run(box, "mkdir -p keep rm/a/b; touch keep/f rm/a/b/f; ln -s ../keep rm/link")
        await box.files.remove("/home/user/rm")
        assert (await box.files.stat("/home/user/keep/f")).size == 0
        with pytest.raises(FileNotFoundError):
            await box.files.remove("/home/user/rm")

    tell(story, tier)


def test_what_is_no_file_is_not_opened(tier: Isolation) -> None:
    """A folder, a FIFO without a writer and a device are refused at once, and nothing hangs."""

    async def story(box: Box) -> None:
        await run(box, "mkfifo fifo; ln -s fifo link; ln -s /dev/zero zero")
        with pytest.raises(IsADirectoryError):
            await box.files.open("/home/user")
        for name in ("fifo", "link", "zero"):
            with pytest.raises(OSError, match="Not a regular file"):
                await box.files.open(f"/home/user/{name}")
        with pytest.raises(OSError, match="No such device or address"):
            await box.files.open("/home/user/fifo", os.O_WRONLY)

    tell(story, tier)


def test_changes_are_watched(tier: Isolation) -> None:
    """Everything that happens after `watch` has returned is reported, in new folders too."""

    async def story(box: Box) -> None:
        watch = await box.files.watch("/home/user", recursive=True)
        await run(
            box, "mkdir -p x/y; sleep 0.05; echo 1 > x/y/z; mv x/y/z x/w; chmod 600 x/w; rm -r x; touch end"
        )
        seen = []
        async for event in watch:
            seen.append((event.kind, event.name))
            if event.name == "end":
                break
        watch.close()
        assert {("create", "x"), ("create", "x/y"), ("create", "x/y/z"), ("rename", "x/y/z")} <= set(seen)
        assert {("write", "x/y/z"), ("create", "x/w"), ("chmod", "x/w"), ("remove", "x/w")} <= set(seen)
        assert {("remove", "x/y"), ("remove", "x")} <= set(seen)
        with pytest.raises(NotADirectoryError):
            await box.files.watch("/home/user/end")

    tell(story, tier)


def test_a_watch_that_is_not_recursive_sees_its_own_folder_only(tier: Isolation) -> None:
    """What happens below a subfolder is not reported."""

    async def story(box: Box) -> None:
        await run(box, "mkdir sub")
        watch = await box.files.watch("/home/user")
        await run(box, "touch sub/hidden; touch seen")
        event = await anext(watch)
        assert (event.kind, event.name) == ("create", "seen")
        watch.close()

    tell(story, tier)


# --- freezing and copying


@pytest.fixture(params=["cgroups", "signals"])
def freezing(request: pytest.FixtureRequest, tier: Isolation) -> Isolation:
    """The tier with each way to freeze that there is."""
    if request.param == "signals":
        return without_cgroups(tier.tier)
    if "freezer" not in tier.cgroups.controllers:
        pytest.skip("no control group can be written here")
    return tier


def test_a_frozen_box_stands_still_until_it_is_thawed(freezing: Isolation) -> None:
    """Nothing inside advances while frozen; afterwards all goes on, but for what had been stopped before."""

    async def story(box: Box) -> None:
        ticks = on_disk(box, "/home/user/ticks")
        await box.spawn(["/bin/bash", "-c", "while :; do echo >> ~/ticks; done"])
        stopped = await box.spawn(["/bin/bash", "-c", "echo me; kill -STOP $$; echo again"])
        assert await stopped.read() == ("stdout", b"me\n")
        while not (await run(box, f"ps -o stat= -p {stopped.pid}")).stdout.startswith("T"):
            pass
        await eventually(lambda: ticks.exists() and ticks.stat().st_size > 10)
        await box.freeze()
        before = ticks.stat().st_size
        assert (await box.files.stat("/home/user/ticks")).size == before
        assert (await box.files.list("/home/user"))[-1].size == before
        await box.thaw()
        await eventually(lambda: ticks.stat().st_size > before)
        assert stopped.ended is None

    tell(story, freezing)


def test_a_shell_on_a_terminal_does_not_notice_a_freeze(freezing: Isolation) -> None:
    """A job in the foreground is not taken for stopped when everything is thawed."""

    async def story(box: Box) -> None:
        process = await box.spawn(["/bin/bash", "--norc", "-i"], pty=(80, 24), env={"PS1": "$ "})
        await process.write(b"sh -c 'echo on''e; read x; echo tw''o'; echo status=$?\n")
        await read_until(process, b"one")
        await box.freeze()
        await box.thaw()
        await process.write(b"\n")
        said = await read_until(process, b"status=0")
        assert b"Stopped" not in said

    tell(story, freezing)


def test_a_frozen_box_can_be_killed(freezing: Isolation) -> None:
    """Kill works on what stands still."""

    async def story(box: Box) -> None:
        process = await box.spawn(["sleep", "60"])
        await box.freeze()
        await box.kill()
        with pytest.raises(BoxDied):
            await process.wait()

    tell(story, freezing)


def test_a_copy_of_the_state_starts_another_box(tier: Isolation) -> None:
    """A box seeded from a copy has the same files, links, modes and attributes, and owns them."""

    async def story(folder: Path) -> None:
        async with fresh_box(tier, folder, "first") as first:
            await run(
                first, "echo text > file; ln file hard; ln -s /etc/shadow evil; mkfifo fifo; chmod 640 file"
            )
            await run(
                first, 'truncate -s 1G sparse; echo tmp > "${TMPDIR:-/tmp}/t"; mkdir -m 700 d; touch d/f'
            )
            ticking = await first.spawn(["/bin/bash", "-c", "while :; do sleep 0.01; done"])
            await first.copy_state(folder / "copy")
            assert ticking.ended is None
        async with fresh_box(tier, folder, "second", seed=folder / "copy") as second:
            output = await run(
                second, 'cat hard "${TMPDIR:-/tmp}/t"; stat -c %h:%a file; echo more >> file; touch d/g'
            )
            assert (output.stdout, output.stderr) == ("text\ntmp\n2:640\n", "")
            assert (await second.files.stat("/home/user/evil")).is_symlink
            assert stat.S_ISFIFO((await second.files.stat("/home/user/fifo")).mode)
            assert on_disk(second, "/home/user/sparse").stat().st_blocks < 100

    tell_in(story)


def test_a_box_is_started_again_on_its_own_state(tier: Isolation) -> None:
    """What was in the state directory is there, and still the sandbox's own."""

    async def story(folder: Path) -> None:
        box = await Box.start(BoxSpec("box1", folder / "box1", base_template()), tier)
        await run(box, "echo 1 > file; mkdir -m 700 closed")
        await box.kill()
        async with fresh_box(tier, folder) as again:
            assert (await run(again, "cat file; echo 2 > closed/file; cat closed/file")).stdout == "1\n2\n"

    tell_in(story)


# --- limits and usage


def test_usage_is_measured(tier: Isolation) -> None:
    """CPU time shows a busy process, memory a big one, disk a written file; totals are this machine's."""

    async def story(box: Box) -> None:
        first = await box.measure_usage()
        busy = await run(box, "head -c 3000000 /dev/zero > file; timeout 0.3 sh -c 'while :; do :; done'")
        assert busy.exit_code == 124
        script = "import sys; x = bytearray(50 << 20); print(flush=True); sys.stdin.read()"
        big = await box.spawn(["python3", "-c", script], stdin=True)
        await big.read()
        usage = await box.measure_usage()
        assert isinstance(usage, Usage)
        assert usage.cpu_percent > 0
        assert usage.mem_used > first.mem_used + (40 << 20)
        assert usage.disk_used >= first.disk_used + 3_000_000
        assert usage.disk_total > usage.disk_used
        assert usage.mem_total > usage.mem_used
        assert usage.cpu_count == len(os.sched_getaffinity(0))

    tell(story, tier)


FORK_BOMB = """
import os, time
for n in range(100):
    try:
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            time.sleep(60)
    except BlockingIOError:
        print(n)
        break
"""


def test_a_fork_bomb_stays_within_its_box(tier: Isolation) -> None:
    """Where processes are bounded, a sandbox cannot start more, and another one still can."""
    if "pids" not in tier.enforces:
        pytest.skip(f"{tier.tier} does not bound processes here")

    async def story(folder: Path) -> None:
        async with fresh_box(tier, folder, "bomb", limits=BoxLimits(pids=40)) as bomb:
            output = await run(bomb, f"python3 -c '{FORK_BOMB}'")
            assert 0 < int(output.stdout) < 40
            async with fresh_box(tier, folder, "other", limits=BoxLimits(pids=40)) as other:
                assert (await run(other, "echo fine")).stdout == "fine\n"

    tell_in(story)


def test_memory_is_bounded_where_control_groups_are(tier: Isolation) -> None:
    """A process that takes too much is killed; the box lives."""
    if "memory" not in tier.enforces:
        pytest.skip("no control group for memory can be written here")

    async def story(box: Box) -> None:
        output = await run(box, "python3 -c 'x = bytearray(300 << 20)'; echo $?")
        assert output.stdout == "137\n"
        assert (await run(box, "echo alive")).stdout == "alive\n"
        assert (await box.measure_usage()).mem_total == 100 << 20

    tell(story, tier, limits=BoxLimits(memory_mb=100))


@pytest.mark.parametrize(
    "code",
    [
        "open('/dev/shm/x', 'wb', 0).write(bytes(150 << 20))",
        "f = open(os.memfd_create('x'), 'wb', 0); f.write(bytes(150 << 20))",
        "m = mmap.mmap(-1, 150 << 20); m.write(bytes(150 << 20))",
    ],
    ids=["shared memory", "a file without a name", "a shared mapping"],
)
def test_memory_that_is_not_bounded_is_counted_wherever_it_is(code: str) -> None:
    """A sandbox beyond its bound is found out, where no control group keeps it within."""
    bare = without_cgroups("namespaces")
    bare = replace(bare, enforces=bare.enforces - {"memory"})

    async def story(box: Box) -> None:
        assert box.exceeds(await box.measure_usage()) is None
        code_to_hold = f"import mmap, os; {code}; print('done', flush=True); input()"
        process = await box.spawn(["python3", "-c", code_to_hold], stdin=True)
        await read_until(process, b"done")
        assert "MiB of memory, and may take 100" in (box.exceeds(await box.measure_usage()) or "")

    tell(story, bare, limits=BoxLimits(memory_mb=100))


def test_who_takes_the_machines_last_room_is_found_out() -> None:
    """Without any bound of its own: one that has written little is not to blame."""

    async def story(box: Box) -> None:
        usage = await box.measure_usage()
        assert 0 < usage.disk_free <= usage.disk_total
        assert box.exceeds(replace(usage, disk_free=0)) is None
        large = replace(usage, disk_used=2 << 30)
        assert box.exceeds(replace(large, disk_free=2 << 30)) is None
        assert box.exceeds(replace(large, disk_free=5 << 20)) == (
            "it wrote 2048 MiB, and this machine has 5 MiB left"
        )

    tell(story, isolation("namespaces"))


def test_a_file_that_was_removed_is_counted_while_it_is_open(tmp_path: Path) -> None:
    """Once, and as what it takes of the disk."""
    with (tmp_path / "x").open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        (tmp_path / "x").unlink()
        assert measure_held([os.getpid(), os.getpid()]).removed >= 1 << 20


def test_files_too_deep_for_python_are_counted(tmp_path: Path) -> None:
    """No depth hides what a sandbox has written."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("x").write_bytes(bytes(1 << 20))
        os.fchdir(here)
        assert measure_tree(tmp_path) >= 1 << 20
    finally:
        os.fchdir(here)
        os.close(here)
        remove_tree(tmp_path / "d")


# --- the end


DAEMON = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(60)"


def test_kill_ends_everything_daemons_too(tier: Isolation) -> None:
    """When kill returns nothing of the box runs, not even what forked twice into a session of its own."""

    async def story(box: Box) -> None:
        mark = f"mark-{os.getpid()}-{tier.tier}"
        await run(box, f"python3 -c '{DAEMON}' {mark}; setsid sleep 61 {mark} & sleep 0.1")
        await box.spawn(["/bin/bash", "-c", f"trap '' TERM HUP INT; exec -a {mark} sleep 60"])
        await eventually(lambda: len(marked_processes(mark)) >= 2)
        await box.kill()
        assert marked_processes(mark) == set()

    tell(story, tier)


def test_kill_ends_nobody_elses_processes(tier: Isolation) -> None:
    """Not those of a box with the same name in another folder, as another server may have, and not those of
    a user who has the sandbox's id in the environment, as those who connect to it have."""

    async def story(folder: Path) -> None:
        env = {**os.environ, "E2B_SANDBOX_ID": "box1"}
        user = await asyncio.create_subprocess_exec("cat", env=env, stdin=asyncio.subprocess.PIPE)
        async with fresh_box(tier, folder / "other") as other:
            process = await other.spawn(["cat"], stdin=True)
            async with fresh_box(tier, folder / "this") as box:
                await box.spawn(["sleep", "60"])
                await box.kill()
            process.close_stdin()
            assert (await process.wait()).exit_code == 0
        await user.communicate(b"")
        assert user.returncode == 0

    tell_in(story)


def test_everybody_hears_of_the_end(tier: Isolation) -> None:
    """Waiters of the box and of its processes, readers, watchers and later callers all learn that it is dead."""

    async def story(box: Box) -> None:
        process = await box.spawn(["sleep", "60"])
        watch = await box.files.watch("/home/user")
        waiting = asyncio.gather(box.wait(), process.wait(), process.read(), return_exceptions=True)
        await asyncio.sleep(0)
        await box.kill()
        nothing, died, output = await waiting
        assert nothing is None
        assert isinstance(died, BoxDied)
        assert output is None
        assert [event async for event in watch] == []
        for call in (box.files.stat, box.files.list, box.files.watch, lambda path: box.spawn([path])):
            with pytest.raises(BoxDied):
                await call("/tmp")
        await box.kill()

    tell(story, tier)


def test_a_box_whose_guest_dies_is_dead(tier: Isolation) -> None:
    """The box notices, and ends what is left inside."""

    async def story(box: Box) -> None:
        mark = f"mark-{os.getpid()}-left"
        await box.spawn(["/bin/bash", "-c", f"exec -a {mark} sleep 60"])
        await eventually(lambda: bool(marked_processes(mark)))
        guest = box._client.peer
        assert guest is not None
        os.kill(guest, signal.SIGKILL)
        await box.wait()
        await eventually(lambda: not marked_processes(mark))

    tell(story, tier)


def test_destroy_removes_whatever_a_sandbox_left(tier: Isolation) -> None:
    """Folders that may not be entered, links, FIFOs, and a tower of folders all go."""

    async def story(folder: Path) -> None:
        async with fresh_box(tier, folder) as box:
            await run(box, "mkdir -p a/b; touch a/b/c; chmod 000 a/b a; mkfifo f; ln -s / root")
            tower = "import os\nfor n in range(2000): os.mkdir('d'); os.chdir('d')"
            assert (await run(box, f'python3 -c "{tower}"')).exit_code == 0
        assert list(folder.iterdir()) == []  # noqa: ASYNC240  # a test may look
        await box.destroy()

    tell_in(story)


def children() -> set[str]:
    """The processes that this one has started and not yet waited for; a server of other tests may be one."""
    return {
        child
        for thread in Path("/proc/self/task").iterdir()
        for child in (thread / "children").read_text().split()
    }


def test_nothing_is_left_open_here(tier: Isolation) -> None:
    """A box's life leaves no descriptor and no child behind."""

    async def story(folder: Path) -> None:
        before = set(os.listdir("/proc/self/fd")), children()
        async with fresh_box(tier, folder) as box:
            await run(box, "echo hello")
            await box.spawn(["sleep", "60"], stdin=True)
            await box.spawn(["sleep", "60"], pty=(80, 24))
            assert box._host_pids()
        assert (set(os.listdir("/proc/self/fd")), children()) == before

    tell_in(story)


def test_a_box_that_cannot_start_says_why() -> None:
    """The launcher's own words are in the error, and nothing is left."""

    async def story(folder: Path) -> None:
        template = base_template()
        broken = type(template)(**{**vars(template), "binds": {"/opt/x": folder / "missing"}})
        with pytest.raises(BoxError, match="missing"):
            await Box.start(BoxSpec("box1", folder / "box1", broken), isolation("namespaces"))

    tell_in(story)


@pytest.mark.parametrize("tier", TIERS)
def test_sudo_makes_the_user_root_by_name(tier: str) -> None:
    """As in E2B's sandboxes: `sudo` runs a command with root's name and home, -u with another's; its variables and
    usual options are understood, and the exit code is the command's."""

    async def story(box: Box) -> None:
        show = "sh -c 'echo $USER $A; cd; pwd; exit 3'"
        for options, user, home in (
            ("A=b", "root", "/root"),
            ("-n -E A=b", "root", "/root"),
            ("-u user -H -- env A=b", "user", "/home/user"),
            ("-nEu user -p '' A=b", "user", "/home/user"),
            ("-kHuuser A=b", "user", "/home/user"),
            ("--user=user -s A=b", "user", "/home/user"),
            ("-iuroot A=b", "root", "/root"),
        ):
            done = await run(box, f"sudo {options} {show}", user="user")
            assert (done.stdout, done.exit_code) == (f"{user} b\n{box.paths.outside(home)}\n", 3)
        for command, said in (
            ("cd / && sudo -iu user pwd", box.paths.outside("/home/user")),
            ("echo 'echo $USER' | sudo -s", "root"),
            ("sudo -l", "(ALL : ALL) NOPASSWD: ALL"),
            ("sudo -nv && echo yes", "yes"),
        ):
            assert (await run(box, command, user="user")).stdout == f"{said}\n", command
        assert "the option -u needs a value" in (await run(box, "sudo -u")).stderr
        assert "no user king" in (await run(box, "sudo -u king true")).stderr
        assert (await run(box, "sudo --frobnicate true")).exit_code == 1

    tell(story, isolation(tier))
