"""Task folders that others have made: whatever is in them, reading one ends, in words and in bounded memory."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ProblemsError
from harness.tasks.formats.registry import format_of
from harness.tasks.loading import load_tasks
from harness.variants.declared import VariantResolver
from tests.support.folders import task_folder


def fifo(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def sparse(name: str) -> Callable[[Path], None]:
    """A file of 10 GiB, which takes no room."""

    def change(folder: Path) -> None:
        (folder / name).touch()
        os.truncate(folder / name, 10 * 1024**3)

    return change


def deep(folder: Path) -> None:
    """More folders within folders than a path can name."""
    at = os.open(folder / "repo", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def with_rows(folder: Path, rows: str) -> None:
    (folder / "task.toml").write_text('schema = 1\nrows = "rows.jsonl"\n')
    (folder / "rows.jsonl").write_text(rows)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO for the manifest": (fifo("task.toml"), "no regular file"),
    "a FIFO for the recording": (fifo("replay.jsonl"), "no regular file"),
    "a FIFO for the prompt": (fifo("prompt.md"), "is not a file"),
    "a manifest of 10 GiB": (sparse("task.toml"), "at most 1 MiB"),
    "a prompt of 10 GiB": (sparse("prompt.md"), "at most 16 MiB"),
    "a recording of 10 GiB": (sparse("replay.jsonl"), "at most 256 MiB"),
    "a starter's file of 10 GiB": (sparse("repo/big"), "at most 1024 MiB"),
    "an answer of 10 GiB": (sparse("solution/answer.md"), "at most"),
    "rows nested deeply": (lambda folder: with_rows(folder, "[" * 200_000), "is no JSON object"),
    "TOML nested deeply": (
        lambda folder: (folder / "task.toml").write_text("schema = 1\nx = " + "[" * 100_000),
        "is not valid TOML",
    ),
    "a statement of many lines": (
        lambda folder: (folder / "task.toml").write_text(
            "schema = 1\nnope = [\n" + '"x",\n' * 60_000 + "]\n"
        ),
        "nope: is not a known key",
    ),
    "folders within folders": (deep, "too many folders"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_be_a_task_is_told(tmp_path: Path, what: str) -> None:
    change, words = HOSTILE[what]
    folder = task_folder(tmp_path, solution={"answer.txt": "42\n"})
    change(folder)
    try:
        with pytest.raises(ProblemsError, match=words):
            load_tasks(folder)
        format_of(folder)
    finally:
        # pytest cannot remove folders that are so deep, and would fail at some later session's end.
        subprocess.run(["rm", "-rf", folder], check=True)


def test_what_is_no_content_is_passed_over(tmp_path: Path) -> None:
    """FIFOs and sockets in a starter repo are read by nobody; links in a circle end."""
    folder = task_folder(tmp_path)
    before = load_tasks(folder)[0].hash
    os.mkfifo(folder / "repo" / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        try:
            os.chdir(folder / "repo")  # a socket's path is short
            one.bind("socket")
        finally:
            os.chdir(here)
    assert load_tasks(folder)[0].hash == before
    os.symlink(".", folder / "repo" / "circle")
    assert load_tasks(folder)[0].hash != before


@pytest.mark.parametrize("what", ["variants.toml", "big.md", "over/repo/.mcp.json"])
def test_variants_that_cannot_be_read_are_told(tmp_path: Path, what: str) -> None:
    folder = task_folder(tmp_path)
    (tmp_path / "over" / "repo").mkdir(parents=True)
    (tmp_path / "big.md").write_text("x")
    (tmp_path / "variants.toml").write_text('[v]\nclaude_md = "big.md"\noverlay = "over"\n')
    sparse(what)(tmp_path)
    with pytest.raises(ProblemsError, match="at most"):
        VariantResolver(tmp_path, None, ()).for_task(folder)
