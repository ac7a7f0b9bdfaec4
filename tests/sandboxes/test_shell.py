"""Scripts of the harness's own: what each sees, and how archives get to them."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.sandboxes.archive import pack
from harness.sandboxes.sandbox import CommandResult, Sandbox
from harness.sandboxes.shell import (
    call,
    chain,
    decode_bytes,
    decode_names,
    handed_over,
    read_answers,
    run_as_root,
    run_without_profile,
)
from tests.support.sandboxes import bash, with_sandbox


def test_scripts_one_after_another_end_with_the_first_that_fails(server: LocalServer, tmp_path: Path) -> None:
    """Its exit code is the whole's, and its own `set -e` has its effect; arguments arrive as they are."""
    script = tmp_path / "script.sh"
    script.write_text('# A comment.\nset -e\necho "said=$1 $#"\n[ "$2" = ok ]\necho "more=$1"\n')
    odd = "a 'b' $HOME\n* \\"

    async def run(sandbox: Sandbox) -> list[CommandResult]:
        good, bad = call(script, odd, "ok"), call(script, "x", "no")
        return [
            await sandbox.run(chain(*steps))
            for steps in ((good, good), (bad, good), (good, "exit 7", "echo no"))
        ]

    whole, first, second = with_sandbox(server, run)
    assert (whole.exit_code, first.exit_code, second.exit_code) == (0, 1, 7)
    assert whole.stdout == f"said={odd} 2\nmore={odd}\n" * 2
    assert first.stdout == "said=x 2\n"
    assert second.stdout == f"said={odd} 2\nmore={odd}\n"


def test_a_script_has_no_hold_on_the_next(server: LocalServer, tmp_path: Path) -> None:
    """Its folder, its variables and its arguments are its own."""
    script = tmp_path / "script.sh"
    script.write_text("cd /tmp\nx=1\n")

    async def run(sandbox: Sandbox) -> str:
        return (await sandbox.run(chain(call(script, "a"), 'echo "$PWD ${x-none} $#"'))).stdout

    assert with_sandbox(server, run) == "/home/user none 0\n"


def test_answers_are_lines_with_a_key() -> None:
    """What else is printed is passed over."""
    assert read_answers("a=1\nwords\nb=c=d\n/x y=1\ne=\n") == {"a": "1", "b": "c=d", "e": ""}
    assert decode_names(base64.b64encode(b"a\nb\0\xff\0").decode()) == ("a\nb", "\udcff")
    with pytest.raises(ValueError, match="base64"):
        decode_bytes("no base64!")


START_UP = "for f in .profile .bash_profile .bashrc .bash_login; do echo 'echo forged; exit 0' >~/$f; done"


@pytest.mark.parametrize("root", [False, True], ids=["user", "root"])
def test_start_up_files_have_no_say(server: LocalServer, root: bool) -> None:
    """A line in an agent's `.profile` stands in for no script; without the way around them it would."""

    async def run(sandbox: Sandbox) -> tuple[str, str]:
        await sandbox.run(START_UP)
        fooled = (await sandbox.run("echo said; echo $HOME")).stdout
        own = (
            await run_as_root(sandbox, "echo said; echo $HOME", home="/home/user", timeout=20)
            if root
            else await run_without_profile(sandbox, "echo said; echo $HOME", timeout=20)
        )
        return fooled, own.stdout

    assert with_sandbox(server, run) == ("forged\n", "said\n/home/user\n")


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
