"""Scripts of the harness's own: what each sees, and how archives get to them."""

from __future__ import annotations

import random

import pytest

from harness.local.launch import LocalServer
from harness.sandboxes.archive import pack
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox
from harness.sandboxes.shell import SandboxScript, ScriptOutcome, handed_over, run_scripts
from tests.support.sandboxes import bash, with_sandbox


def seen_by(server: LocalServer, *scripts: str, timeout: float = 20) -> list[ScriptOutcome]:
    async def look(sandbox: Sandbox) -> list[ScriptOutcome]:
        return await run_scripts(sandbox, [SandboxScript(text, timeout) for text in scripts])

    return with_sandbox(server, look)


def test_each_script_is_alone(server: LocalServer) -> None:
    """Its output, its exit code, its folder, its variables, its options: none are another's."""
    first = "set -eu; cd /tmp; x=1; echo out; echo err >&2; false; echo never"
    second = 'printf %s "$PWD ${x-none} $-" | grep -c "[eu] *$"; printf "no newline"'
    assert seen_by(server, first, "exit 3", second, "true") == [
        CommandResult("out\n", "err\n", 1),
        CommandResult("", "", 3),
        CommandResult("0\nno newline", "", 0),
        CommandResult("", "", 0),
    ]


def test_output_that_looks_like_an_end_is_output(server: LocalServer) -> None:
    """The line between two scripts cannot be guessed."""
    text = f"\n{'0' * 32} 0\n"
    assert seen_by(server, f"printf %s '{text}'", "echo two") == [
        CommandResult(text, "", 0),
        CommandResult("two\n", "", 0),
    ]


def test_one_that_hangs_does_not_hide_the_others(server: LocalServer) -> None:
    """Nor does one that takes its shell away."""
    one, two, three = seen_by(server, "echo one", "sleep 60", "echo three", timeout=1)
    assert (one, three) == (CommandResult("one\n", "", 0), CommandResult("three\n", "", 0))
    assert isinstance(two, CommandTimeoutError)
    first, second = seen_by(server, "kill -KILL $$", "echo two")
    assert isinstance(first, CommandResult)
    assert first.exit_code
    assert second == CommandResult("two\n", "", 0)


@pytest.mark.parametrize("first", ["echo one; exit 3", "kill -KILL $$", "sleep 60"])
def test_nothing_comes_after_a_required_one_that_fails(server: LocalServer, first: str) -> None:
    """However it fails: alone too, when the command that has both takes too long or breaks off."""

    async def story(sandbox: Sandbox) -> tuple[list[ScriptOutcome], str]:
        scripts = [SandboxScript(first, 1, required=True), SandboxScript("touch ~/came", 1)]
        return await run_scripts(sandbox, scripts), await bash(sandbox, "ls")

    (seen,), there = with_sandbox(server, story)
    assert isinstance(seen, CommandTimeoutError) or seen.exit_code
    assert there == ""


def test_a_required_one_that_succeeds_is_like_any_other(server: LocalServer) -> None:
    """What comes after it is run."""

    async def story(sandbox: Sandbox) -> list[ScriptOutcome]:
        return await run_scripts(
            sandbox, [SandboxScript("echo one", 20, required=True), SandboxScript("echo two; exit 3", 20)]
        )

    assert with_sandbox(server, story) == [CommandResult("one\n", "", 0), CommandResult("two\n", "", 3)]


@pytest.mark.parametrize("size", [10, 70_000, 200_000, 400_000])
@pytest.mark.parametrize("dense", [False, True])
def test_an_archive_arrives_whole(server: LocalServer, size: int, dense: bool) -> None:
    """Small ones within the command, larger ones by a file, zipped or not; nothing else is left of it."""
    data = random.Random(size).randbytes(size) if dense else b"a" * size

    async def unpack(sandbox: Sandbox) -> tuple[bytes, str]:
        command = await handed_over(sandbox, pack({"folder/a file": data}, {}), "archive.tar")
        await bash(sandbox, f"mkdir there && cd there && {command}")
        return await sandbox.read("there/folder/a file"), await bash(sandbox, "ls")

    assert with_sandbox(server, unpack) == (data, "there\n")


def test_a_secret_is_in_no_command(server: LocalServer) -> None:
    """Platforms log commands."""

    async def hand_over(sandbox: Sandbox) -> str:
        return await handed_over(sandbox, pack({"key": b"secret"}, {}), "archive.tar", secret=True)

    assert with_sandbox(server, hand_over) == "tar -xf ~/archive.tar && rm ~/archive.tar"
