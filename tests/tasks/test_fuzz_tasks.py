"""Fuzzing of what reads folders of tasks and variants: a crash prints its input.

A plain run tries a few hundred inputs of each; `pytest -m fuzz` goes on for ten minutes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import ProblemsError
from harness.tasks.formats.base import NoCounterpartError
from harness.tasks.formats.registry import format_of, take_task
from harness.tasks.loading import load_tasks
from harness.variants.declared import VariantResolver
from tests.records.test_fuzz import LONG_S, fuzz

TASK = b"""schema = 1
description = "d"
tags = ["a", "b"]
prompts = ["prompt.md"]
timeout = 600.0
[repo]
git = "https://host.example/x.git"
ref = "v1"
token_env = "TOKEN"
[setup]
run = ["true"]
[checks]
run = { a = "true", b = "false" }
protect = ["tests/**"]
prepare = "true"
[checks.weights]
a = 2.0
[checks.tests.unit]
runner = "pytest"
paths = ["tests"]
must_pass = ["tests/test_greet.py::*"]
at_least = 2
[checks.answer]
contains = ["greet"]
json = { type = "object" }
[checks.tools]
not_used = ["WebFetch"]
at_most = { Bash = 2 }
[sandbox]
template = "claude"
env = { LANG = "C.UTF-8" }
network = ["host.example"]
cpus = 2.0
[limits]
max_turns = 3
"""
HARBOR = b"""version = "1.0"
[metadata]
author_name = "a"
difficulty = "easy"
tags = ["x"]
[verifier]
timeout_sec = 900.0
env = { K = "${HOME:-x}" }
[agent]
timeout_sec = 900.0
[environment]
build_timeout_sec = 600.0
docker_image = "x"
cpus = 1
memory = "2G"
env = { A = "b" }
[[steps]]
name = "one"
"""
VARIANTS = b"""[prices."claude-x"]
input = 1.0
output = 2.0
[a]
model = "sonnet"
claude_md = { text = "Be kind." }
env = { A = "${env:HOME}" }
args = ["--verbose"]
settings = { permissions = { deny = ["Bash"] } }
mcp.s = { command = "x", args = ["${env:HOME}"], env = { K = "v" }, tools = ["t"] }
allowed_tools = ["Read"]
[b]
overlay = "over"
json_schema = { type = "object" }
"""
SEEDS = {
    "task": TASK,
    "Harbor": HARBOR,
    "variants": VARIANTS,
    "rows": b'{"id": "a", "q": "x"}\n{"id": "b", "q": 2}\n',
}


class Folder:
    """A folder of a task of each kind, of which one file is replaced by a mutation of it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "t"
        self.cache = root / "cache"
        for name in ("repo", "checks", "tests", "environment", "steps/one", "over/repo"):
            (self.root / name).mkdir(parents=True)
        for name in (
            "prompt.md",
            "instruction.md",
            "tests/test.sh",
            "steps/one/instruction.md",
            "repo/x",
            "environment/Dockerfile",
        ):
            (self.root / name).write_text("FROM x\n")

    def task(self, data: bytes) -> None:
        (self.root / "task.toml").write_bytes(data)
        self._load()

    def rows(self, data: bytes) -> None:
        (self.root / "task.toml").write_text(
            'schema = 1\nrows = "rows.jsonl"\n[checks.answer]\nequals = "{{ q }}"\n'
        )
        (self.root / "rows.jsonl").write_bytes(data)
        self._load()

    def _load(self) -> None:
        try:
            form = format_of(self.root)
            if form is None:
                load_tasks(self.root)
            else:
                take_task(self.root, form, self.cache)
        except (ProblemsError, NoCounterpartError) as error:
            assert str(error)  # noqa: PT017  # whatever is wrong, it is told
        finally:
            shutil.rmtree(self.cache, ignore_errors=True)

    def variants(self, data: bytes) -> None:
        (self.root / "variants.toml").write_bytes(data)
        try:
            for one in VariantResolver(self.root, None, ()).for_task(self.root):
                assert one.hash
        except ProblemsError as error:
            assert str(error)  # noqa: PT017  # whatever is wrong, it is told


TARGETS = {"task": Folder.task, "Harbor": Folder.task, "variants": Folder.variants, "rows": Folder.rows}


@pytest.mark.parametrize("what", TARGETS)
def test_no_task_folder_can_raise(tmp_path: Path, what: str) -> None:
    """Whatever its files hold is a task, or problems in words."""
    folder, read = Folder(tmp_path), TARGETS[what]
    assert fuzz([SEEDS[what]], lambda data: read(folder, data), 60, None) == 60


@pytest.mark.fuzz
@pytest.mark.parametrize("what", TARGETS)
def test_task_folders_for_ten_minutes(tmp_path: Path, what: str) -> None:
    """The same, with other inputs at each run."""
    folder, read = Folder(tmp_path), TARGETS[what]
    fuzz([SEEDS[what]], lambda data: read(folder, data), 0, LONG_S / 4)
