"""A binary file that holds a secret stays out of a patch; all others stay in, byte by byte."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.records.binary_patch import without_secret_binaries
from harness.records.redaction import Redactor

SECRET = "sk-ant-api03-abcdefgh"
KNOWS = Redactor({"KEY": SECRET})


def git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True).stdout


def patch(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> bytes:
    """Git's own patch from some files to others."""
    git(folder, "init", "-q")
    for files in (before, after):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        git(folder, "add", "-A")
        done = git(folder, "diff", "--cached", "--binary") if files is after else b""
        git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    return done


def test_only_what_holds_a_secret_goes(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    new = {
        "a-new.bin": noise + SECRET.encode() + noise,
        "changed.bin": noise + b"-" + SECRET.encode(),
        "good.bin": noise,
        "text.txt": b"hello\n",
    }
    whole = patch(tmp_path, {"changed.bin": noise}, new)
    left, notes = without_secret_binaries(whole, KNOWS)
    assert [note.partition(" ")[0] for note in notes] == ["a-new.bin", "changed.bin"]
    sections = whole.split(b"diff --git ")
    assert left == b"".join(b"diff --git " + part for part in sections if b"good" in part or b"text" in part)


def test_a_patch_without_secrets_is_the_same(tmp_path: Path) -> None:
    whole = patch(tmp_path, {}, {"a.bin": bytes(range(256)) * 9, "b.txt": b"b"})
    assert without_secret_binaries(whole, KNOWS) == (whole, ())


def test_what_cannot_be_unpacked_goes() -> None:
    """Made by hand: not base 85, not zlib."""
    for packed in (b'z!!!"""', b"zabcdeabcde"):
        broken = b"diff --git a/x b/x\nGIT binary patch\nliteral 5\n" + packed + b"\n\n"
        assert without_secret_binaries(broken, KNOWS)[0] == b""
