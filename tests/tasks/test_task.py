"""A folder is a task, or it is told all that keeps it from being one."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import Problem, ProblemsError
from harness.tasks.contents import folder_hash
from harness.tasks.gitsource import GitSource
from harness.tasks.loading import find_tasks, load_task
from harness.tasks.manifest import Limits, SandboxSpec
from harness.tasks.task import Check, Turn
from harness.tasks.task_parts import task_of_parts
from tests.support.folders import by_hand, says, task_folder, write_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are shown as seen from where one stands."""
    monkeypatch.chdir(tmp_path)


def problems(folder: Path) -> list[Problem]:
    """What is wrong with a folder."""
    with pytest.raises(ProblemsError) as caught:
        load_task(folder)
    return list(caught.value.problems)


def problem(folder: Path) -> Problem:
    """The only thing that is wrong with it."""
    (found,) = problems(folder)
    return found


# What is right


def test_all_of_a_task_is_read(tmp_path: Path) -> None:
    """Every key of the manifest, and every file that has a name of its own."""
    folder = task_folder(
        tmp_path,
        "everything",
        toml="""
description = "all of it"
tags = ["python", "bug-fix"]
prompts = ["first.md", "then/second.md"]
timeout = 30
[repo]
path = "starter"
[setup]
run = ["make deps"]
timeout = 90
[checks]
timeout = 2.5
protect = ["tests/**"]
run = {tests = "make test"}
[sandbox]
template = "base"
env = {LANG = "C"}
network = ["pypi.org", "*.npmjs.org", "10.0.0.0/8", "127.0.0.1:8080"]
[limits]
max_turns = 7
max_cost_usd = 1
""",
        prompts={"first.md": "Do — it.\n", "then/second.md": "Go on.\n"},
        checks={"answer.sh": "#!/bin/sh\n", "more.py": "#!/usr/bin/env python3\n"},
        replay=by_hand([says("Done.")]),
    )
    write_files(folder, {"starter/a.txt": "a", "checks/helper.py": "import os", "checks/data/b.json": "{}"})
    task = load_task(folder)
    assert (task.name, task.path, task.description) == ("everything", folder, "all of it")
    assert task.tags == ("python", "bug-fix")
    assert task.turns == (Turn("Do — it.\n", "first.md"), Turn("Go on.\n", "then/second.md"))
    assert (task.timeout, task.check_timeout, task.setup_timeout) == (30.0, 2.5, 90.0)
    assert task.own_seconds == 30 + 90 + 3 * 2.5 + 300
    assert (task.repo, task.solution) == (folder / "starter", folder / "solution")
    assert (task.setup, task.protect) == (("make deps",), ("tests/**",))
    assert task.checks == (
        Check("answer", file="answer.sh"),
        Check("more", file="more.py"),
        Check("tests", command="make test"),
    )
    hosts = ("pypi.org", "*.npmjs.org", "10.0.0.0/8", "127.0.0.1:8080")
    assert task.sandbox == SandboxSpec(template="base", env={"LANG": "C"}, network=hosts)
    assert task.limits == Limits(max_turns=7, max_cost_usd=1.0)
    assert task.replay == folder / "replay.jsonl"
    assert task.checks_folder == folder / "checks"


def test_little_is_enough(tmp_path: Path) -> None:
    """A schema, a prompt and a check; the rest has defaults, and an empty repo will do."""
    folder = tmp_path / "least"
    toml = "\ufeffschema = 1\r\n[checks.run]\r\nok = 'true'\r\n"  # as a Windows editor saves it
    write_files(folder, {"task.toml": toml, "prompt.md": "\ufeffDo it."})
    task = load_task(folder)
    assert (task.repo, task.solution, task.replay, task.checks_folder) == (None, None, None, None)
    assert task.sandbox == SandboxSpec(template="claude", env={}, network="model")
    assert (task.timeout, task.check_timeout, task.limits) == (600.0, 60.0, Limits())
    assert task.setup_timeout == 600.0
    assert task.own_seconds == 660 + 300, "a setup without commands takes no time"
    assert task.turns == (Turn("Do it.", "prompt.md"),)


def cloned(root: Path, toml: str) -> Path:
    """A task without a folder for its repo."""
    folder = root / "cloned"
    write_files(
        folder, {"task.toml": f"schema = 1\n[repo]\n{toml}\n[checks.run]\nok = 'true'\n", "prompt.md": "Do."}
    )
    return folder


def test_a_starter_repo_can_be_cloned(tmp_path: Path) -> None:
    """Then it is named, and nothing is fetched before a trial needs it."""
    toml = """
git = "https://example.com/widget.git"
ref = "v1.2"
depth = 3
subdir = "packages/core"
token_env = "WIDGET_TOKEN"
"""
    task = load_task(cloned(tmp_path, toml))
    source = GitSource("https://example.com/widget.git", "v1.2", 3, "packages/core", "WIDGET_TOKEN")
    assert (task.git, task.repo) == (source, None)


def test_a_clone_that_cannot_be_is_told(tmp_path: Path) -> None:
    """Each key by itself, and what does not go together."""
    toml = "git = 'ftp://example.com/x'\nref = '--upload-pack=x'\ndepth = 0\ntoken_env = 'A B'\npath = 'x'"
    found = {problem.field: problem.what for problem in problems(cloned(tmp_path, toml))}
    assert sorted(filter(None, found)) == ["repo.depth", "repo.git", "repo.ref", "repo.token_env"]
    folder = task_folder(tmp_path, toml="[repo]\ngit = 'https://example.com/x.git'\n")
    assert problem(folder).field == "repo.git"
    folder = task_folder(tmp_path, "no-clone", toml="[repo]\nref = 'main'\n")
    assert problem(folder).field == "repo.ref"


@pytest.mark.parametrize("network", ["model", "none", "open"])
def test_networks_have_names(tmp_path: Path, network: str) -> None:
    """Or they are lists of hosts."""
    task = load_task(task_folder(tmp_path, toml=f"[sandbox]\nnetwork = '{network}'\n"))
    assert task.sandbox.network == network


def test_helpers_are_no_checks(tmp_path: Path) -> None:
    """Files without the executable bit are data for the checks, wherever they lie; so are folders."""
    folder = task_folder(tmp_path)
    write_files(folder / "checks", {"lib.sh": "helper() { :; }", "sub/deep.sh": "#!/bin/sh\n"})
    assert [check.name for check in load_task(folder).checks] == ["answer"]


# What is wrong in the manifest


WRONG_FIELDS: dict[str, tuple[str, str, str, str]] = {
    "unknown key": ("timeot = 5", "timeot", "is not a known key", "did you mean 'timeout'?"),
    "unknown key, unlike any": (
        "colour = 5",
        "colour",
        "is not a known key",
        "known here: schema, description, tags",
    ),
    "unknown key in a table": ("[checks]\nprotec = []", "checks.protec", "is not a known key", "'protect'"),
    "key of another table": ("max_turns = 3", "max_turns", "is not a known key", "it belongs into [limits]"),
    "unknown key of tests": (
        "[checks.tests.unit]\nrunner = 'pytest'\nruner = 'node'",
        "checks.tests.unit.runer",
        "is not a known key",
        "did you mean 'runner'?",
    ),
    "no runner": ("[checks.tests.unit]\nat_least = 1", "checks.tests.unit.runner", "is missing", "pytest"),
    "another runner": (
        "[checks.tests.unit]\nrunner = 'mocha'",
        "checks.tests.unit.runner",
        "'mocha'",
        '"unittest", "node" or "junit"',
    ),
    "tests without a demand": (
        "[checks.tests.unit]\nrunner = 'node'\npaths = ['question.txt']",
        "checks.tests.unit.must_pass",
        "is missing, and at_least too",
        'must_pass (["*"]',
    ),
    "tests without paths": (
        "[checks.tests.unit]\nrunner = 'node'\nat_least = 1",
        "checks.tests.unit.paths",
        "is missing",
        "test files or folders",
    ),
    "tests that are nowhere": (
        "[checks.tests.unit]\nrunner = 'node'\nat_least = 1\npaths = ['tets']",
        "checks.tests.unit.paths.0",
        "'tets' is neither in the repo nor in checks/",
        "starter repo",
    ),
    "tests outside": (
        "[checks.tests.unit]\nrunner = 'node'\nat_least = 1\npaths = ['../tests']",
        "checks.tests.unit.paths.0",
        "is no path within the repo",
        "test files or folders",
    ),
    "a key of another runner": (
        "[checks.tests.unit]\nrunner = 'node'\nat_least = 1\npaths = ['question.txt']\nreport = 'a.xml'",
        "checks.tests.unit.report",
        "is not for 'node'",
        "leave it out",
    ),
    "a report of nothing": (
        "[checks.tests.unit]\nrunner = 'junit'\nat_least = 1\nreport = 'a.xml'",
        "checks.tests.unit.command",
        "is missing",
        "shell command",
    ),
    "a name of tests": (
        "[checks.tests.'a b']\nrunner = 'node'",
        "checks.tests.a b",
        "cannot be used",
        "tables by name",
    ),
    "key under a table": (
        "[limits]\ntags = []",
        "limits.tags",
        "is not a known key",
        "above the first [table]",
    ),
    "description": ("description = 5", "description", "should be a valid string, not 5", "a line of text"),
    "negative timeout": ("timeout = -5", "timeout", "should be greater than 0, not -5", "the seconds"),
    "endless timeout": (
        "timeout = inf",
        "timeout",
        "should be less than or equal to 86400, not inf",
        "seconds",
    ),
    "no number": ("timeout = nan", "timeout", "not nan", "the seconds"),
    "timeout in words": ("timeout = '600'", "timeout", "should be a valid number, not '600'", "the seconds"),
    "true is no number": ("timeout = true", "timeout", "should be a valid number, not True", "the seconds"),
    "setup timeout": ("[setup]\ntimeout = 0", "setup.timeout", "should be greater than 0", "the seconds"),
    "check timeout": ("[checks]\ntimeout = 0", "checks.timeout", "should be greater than 0", "the seconds"),
    "one prompt": (
        "prompts = 'prompt.md'",
        "prompts",
        "should be a valid list, not 'prompt.md'",
        '["prompt.md"]',
    ),
    "no prompts": ("prompts = []", "prompts", "[] is empty", '["prompt.md"]'),
    "prompt's type": ("prompts = [5]", "prompts.0", "should be a valid string, not 5", '["prompt.md"]'),
    "tag of two words": (
        "tags = ['ok', 'two words']",
        "tags.1",
        "'two words' cannot be used",
        "a list of words",
    ),
    "tag for itself": ("tags = ['_x']", "tags.0", "'_x' cannot be used", "a letter"),
    "tag of pytest's": (
        "tags = ['skip']",
        "tags.0",
        "'skip' has a meaning of its own for pytest",
        "a list of words",
    ),
    "operator as a tag": ("tags = ['not']", "tags.0", "'not' has a meaning of its own", "a list of words"),
    "tags' type": ("tags = 'python'", "tags", "should be a valid list", '["python", "bugfix"]'),
    "a day": ("tags = [2026-01-01]", "tags.0", "should be a valid string", "a list of words"),
    "table's type": ("repo = 'starter'", "repo", "should be a table, not 'starter'", "[repo]"),
    "list of tables": ("[[checks]]\ntimeout = 3", "checks", "should be a table", "[checks]"),
    "setup in one string": ("[setup]\nrun = 'make'", "setup.run", "should be a valid list", '["make deps"]'),
    "tools' type": (
        "[checks.tools]\nused = 'Read'",
        "checks.tools.used",
        "should be a valid list",
        '["Bash",',
    ),
    "check's name": ("[checks.run]\n'a/b' = 'x'", "checks.run.a/b", "'a/b' cannot be used", "by name"),
    "check's command": (
        "[checks.run]\na = 5",
        "checks.run.a",
        "should be a valid string, not 5",
        "shell commands",
    ),
    "empty command": ("[checks.run]\na = ' '", "checks.run.a", "is empty", "give a shell command"),
    "pattern from the root": (
        "[checks]\nprotect = ['/etc/*']",
        "checks.protect.0",
        "no pattern",
        "relative to the repo",
    ),
    "pattern upwards": ("[checks]\nprotect = ['a/../../b']", "checks.protect.0", "no pattern", "tests/**"),
    "variable's name": (
        "[sandbox]\nenv = {'A B' = '1'}",
        "sandbox.env.A B",
        "'A B' cannot be used",
        "variables",
    ),
    "variable's value": (
        "[sandbox]\nenv = {A = 1}",
        "sandbox.env.A",
        "should be a valid string, not 1",
        "strings",
    ),
    "no template": ("[sandbox]\ntemplate = ''", "sandbox.template", "'' is empty", "a template's name"),
    "network": ("[sandbox]\nnetwork = 'off'", "sandbox.network", "not 'off'", '"none"'),
    "a network that is none": (
        "[sandbox]\nnetwork = ['10.0.0.0/8', '10.0.0.0/99']",
        "sandbox.network.1",
        "'10.0.0.0/99' is no network (CIDR)",
        "a list of hosts",
    ),
    "a template's file alone": (
        "[sandbox]\ntemplate = 'mine.py'",
        "sandbox.template",
        "'mine.py' names a file alone",
        "mine.py:NAME",
    ),
    "network's type": ("[sandbox]\nnetwork = false", "sandbox.network", "not False", "a list of hosts"),
    "URL for a host": (
        "[sandbox]\nnetwork = ['a.org', 'https://a.org']",
        "sandbox.network.1",
        "'https://a.org' cannot be used",
        "a list of hosts",
    ),
    "turns": ("[limits]\nmax_turns = 0", "limits.max_turns", "should be greater than 0", "from 1 on"),
    "half a turn": (
        "[limits]\nmax_turns = 1.5",
        "limits.max_turns",
        "should be a valid integer",
        "whole number",
    ),
    "cost": ("[limits]\nmax_cost_usd = -1", "limits.max_cost_usd", "should be greater than 0", "US dollars"),
    "any cost": (
        "[limits]\nmax_cost_usd = inf",
        "limits.max_cost_usd",
        "should be a finite number",
        "US dollars",
    ),
    "prompt that is not there": (
        "prompts = ['a.md']",
        "prompts.0",
        "'a.md' does not exist",
        "write the prompt there",
    ),
    "prompt that is a folder": (
        "prompts = ['repo']",
        "prompts.0",
        "'repo' is not a file",
        "write the prompt there",
    ),
    "prompt outside": (
        "prompts = ['../x.md']",
        "prompts.0",
        "'../x.md' is not inside the task's folder",
        "inside it",
    ),
    "prompt from the root": ("prompts = ['/etc/hosts']", "prompts.0", "is not inside", "inside it"),
    "prompt without a name": ("prompts = ['']", "prompts.0", "'' is not inside", "inside it"),
    "prompt without an end": (
        f"prompts = ['{'x' * 5000}']",
        "prompts.0",
        "does not exist",
        "write the prompt there",
    ),
    "repo that is not there": (
        "[repo]\npath = 'src'",
        "repo.path",
        "'src' is not a folder",
        "the starter repo",
    ),
    "repo that is a file": (
        "[repo]\npath = 'prompt.md'",
        "repo.path",
        "'prompt.md' is not a folder",
        "starter",
    ),
    "repo outside": ("[repo]\npath = '../..'", "repo.path", "is not inside the task's folder", "inside it"),
    "repo is all": ("[repo]\npath = '.'", "repo.path", "'.' is not inside the task's folder", "inside it"),
}


@pytest.mark.parametrize("toml", WRONG_FIELDS)
def test_a_wrong_field_is_told(tmp_path: Path, toml: str) -> None:
    """The file, the field, what is wrong with it, and what would be right; and nothing that follows from it."""
    text, field, what, remedy = WRONG_FIELDS[toml]
    found = problem(task_folder(tmp_path, toml=text))
    assert (found.file, found.field) == (os.path.join("answer", "task.toml"), field)
    assert what in found.what
    assert remedy in (found.remedy or "")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is missing"),
        ("schema = 2\n", "is 2, not 1"),
        ("schema = true\n", "is True, not 1"),
        ("schema = '1'\n", "is '1', not 1"),
    ],
)
def test_the_schema_must_be_known(tmp_path: Path, text: str, what: str) -> None:
    """A later harness may read the file otherwise."""
    folder = task_folder(tmp_path)
    (folder / "task.toml").write_text(text)
    found = problem(folder)
    assert (found.field, found.what) == ("schema", what)
    assert "`schema = 1`" in (found.remedy or "")


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (
            b"schema = 1\ntimeout 5\n",
            "is not valid TOML: Expected '=' after a key",
            "strings stand in quotes",
        ),
        (b"schema = 1\nschema = 1\n", "is not valid TOML: Cannot overwrite a value", "one key a line"),
        (b"a = " + b"[" * 100_000, "is not valid TOML", "strings stand in quotes"),
        (b"a = " + b"9" * 5_000, "is not valid TOML", "strings stand in quotes"),
        ("description = 'Füße'".encode("latin-1"), "is not UTF-8 text", "save it as UTF-8"),
    ],
    ids=["syntax", "twice", "deep", "long", "latin-1"],
)
def test_a_manifest_that_is_no_toml_is_told(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    """With the place, where TOML's reader knows it."""
    folder = task_folder(tmp_path)
    (folder / "task.toml").write_bytes(content)
    found = problem(folder)
    assert (found.file, found.field) == (os.path.join("answer", "task.toml"), None)
    assert what in found.what
    assert remedy in (found.remedy or "")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("checks.prepare = 'true \\u0000'", "checks.prepare"),
        ("checks.run.a = 'true \\u0000'", "checks.run.a"),
        ("setup.run = ['true', 'x\\u0000']", "setup.run.1"),
        ("sandbox.ca = 'x\\u0000'", "sandbox.ca"),
        ("sandbox.env.'X\\u0000' = 'x'", "sandbox.env"),
    ],
)
def test_a_null_character_is_told(tmp_path: Path, line: str, field: str) -> None:
    """A command with one could not be run, and would be a failure of the agent's."""
    folder = task_folder(tmp_path)
    (folder / "task.toml").write_text("schema = 1\n" + line.replace("'", '"'))
    found = problem(folder)
    assert (found.field, "holds a null character" in found.what) == (field, True)


def test_a_manifest_that_is_no_file_is_told(tmp_path: Path) -> None:
    """A folder of that name, or nothing at all."""
    folder = task_folder(tmp_path)
    (folder / "task.toml").unlink()
    assert problem(folder).what.startswith("cannot be read: No such file")
    (folder / "task.toml").mkdir()
    assert problem(folder).what.startswith("cannot be read: it is no regular file")


# What is wrong in the files


def linked(target: str) -> Callable[[Path], None]:
    """Puts a link in the place of whatever is there."""

    def link(path: Path) -> None:
        if path.is_dir():
            path.rename(path.with_name("moved"))
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return link


def containing(content: bytes | str, mode: int = 0o644) -> Callable[[Path], None]:
    """Makes a file."""

    def write(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)

    return write


def as_file(path: Path) -> None:
    """Puts a file in the place of a folder."""
    path.rename(path.with_name("moved"))
    path.write_text("not a folder")


WRONG_FILES: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "empty prompt": ("prompt.md", containing(" \n"), "is empty", "say what Claude Code should do"),
    "prompt in latin-1": ("prompt.md", containing(b"\xff"), "is not UTF-8 text", "save it as UTF-8"),
    "check without its bit": (
        "checks/late.sh",
        containing("#!/bin/sh\n"),
        "begins with #! but is not executable, so it is no check",
        "chmod +x answer/checks/late.sh",
    ),
    "check for others only": (
        "checks/odd.py",
        containing("#!/bin/sh\n", 0o655),
        "not executable",
        "chmod +x",
    ),
    "check without #!": (
        "checks/plain.py",
        containing("import sys\n", 0o755),
        "is executable without a #! line, so it would run as a shell script",
        "#!/usr/bin/env python3",
    ),
    "check from Windows": (
        "checks/dos.sh",
        containing("#!/bin/sh\r\nexit 0\r\n", 0o755),
        "has a #! line that ends with a carriage return",
        "Unix line ends",
    ),
    "check's name": (
        "checks/a b.sh",
        containing("#!/bin/sh\n", 0o755),
        "cannot be a check's name",
        "letters, digits",
    ),
    "hidden check": (
        "checks/.a.sh",
        containing("#!/bin/sh\n", 0o755),
        "cannot be a check's name",
        "letters, digits",
    ),
    "checks in a file": ("checks", as_file, "is not a folder", "put executable files in it"),
    "solution in a file": ("solution", as_file, "is not a folder", "solve.sh"),
    "link out of the repo": ("repo/a", linked("../prompt.md"), "leads out of repo/", "copy what it leads to"),
    "link out and in again": (
        "repo/a",
        linked("../../answer/repo/question.txt"),
        "leads out of repo/",
        "copy",
    ),
    "link from the root": ("repo/a", linked("/etc/hosts"), "leads out of repo/", "copy what it leads to"),
    "link to a folder outside": (
        "repo/a",
        linked("../solution"),
        "leads out of repo/",
        "copy what it leads to",
    ),
    "link out of the checks": (
        "checks/a",
        linked("../prompt.md"),
        "leads out of checks/",
        "copy what it leads to",
    ),
    "link out of the solution": ("solution/a", linked("../prompt.md"), "leads out of solution/", "copy"),
    "solution elsewhere": (
        "solution",
        linked("/etc"),
        "leads out of the task's folder",
        "copy what it leads to",
    ),
    "replay elsewhere": ("replay.jsonl", linked("/etc/hosts"), "leads out of the task's folder", "copy"),
    "replay that is no JSON": (
        "replay.jsonl",
        containing("hello\n"),
        "cannot be played: line 1 is not JSON",
        "record",
    ),
    "replay that says nothing": (
        "replay.jsonl",
        containing(""),
        "there is no assistant message in it",
        "record",
    ),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_told(tmp_path: Path, name: str) -> None:
    """Which file it is, what is wrong with it, and what would be right."""
    file, make, what, remedy = WRONG_FILES[name]
    folder = task_folder(tmp_path, toml="[checks.run]\nok = 'true'\n")
    make(folder / file)
    found = problem(folder)
    assert (found.file, found.field) == (os.path.join("answer", *file.split("/")), None)
    assert what in found.what
    assert remedy in (found.remedy or "")


WRONG_LINKS = {
    "prompt": ("prompt.md", "../elsewhere", "prompts.0"),
    "repo": ("repo", "../elsewhere", "repo.path"),
    "loop": ("prompt.md", "prompt.md", "prompts.0"),
}


@pytest.mark.parametrize("name", WRONG_LINKS)
def test_a_link_is_followed_before_it_is_trusted(tmp_path: Path, name: str) -> None:
    """A path of the manifest that leaves the folder by a link, or leads nowhere."""
    file, target, field = WRONG_LINKS[name]
    folder = task_folder(tmp_path)
    linked(target)(folder / file)
    found = problem(folder)
    assert (found.file, found.field) == (os.path.join("answer", "task.toml"), field)


def test_links_within_a_repo_are_fine(tmp_path: Path) -> None:
    """Also those that lead nowhere yet, and those of folders."""
    folder = task_folder(tmp_path, repo={"src/a.txt": "a"})
    (folder / "repo" / "link").symlink_to("src/a.txt")
    (folder / "repo" / "folder").symlink_to("src")
    (folder / "repo" / "src" / "up").symlink_to("../later.txt")
    assert load_task(folder).repo == folder / "repo"


def test_a_task_needs_a_check(tmp_path: Path) -> None:
    """Helpers are none."""
    folder = task_folder(tmp_path, checks={})
    write_files(folder, {"checks/data.json": "{}"})
    assert problem(folder) == Problem(
        os.path.join("answer", "checks"),
        None,
        "has no check",
        "add an executable file (chmod +x), [checks.tests] or [checks] run",
    )


def test_two_checks_of_one_name_are_told(tmp_path: Path) -> None:
    """By their files' names without the ending, or one in the manifest."""
    folder = task_folder(
        tmp_path,
        toml="[checks.run]\na = 'true'\n",
        checks=dict.fromkeys(("a.sh", "b.sh", "b.py"), "#!/bin/sh\n"),
    )
    found = problems(folder)
    assert [(p.field, p.what, p.remedy) for p in found] == [
        (name, "two checks have this name", "rename one of them") for name in ("a", "b")
    ]


@pytest.mark.parametrize("name", ["two words", "a[b]", "a::b", "-x", ".hidden", "ünï", "x" * 101])
def test_a_tasks_name_must_be_usable(tmp_path: Path, name: str) -> None:
    """It stands in test ids, which are typed, and in the names of files."""
    found = problem(task_folder(tmp_path, name))
    assert (found.file, found.field, found.what) == (name, None, "cannot be a task's name")
    assert "letters, digits" in (found.remedy or "")


@pytest.mark.parametrize("glob", ["src", "src/", "src/deep"])
def test_a_protected_folder_is_told(tmp_path: Path, glob: str) -> None:
    """The pattern would match nothing in it, and protect nothing."""
    folder = task_folder(tmp_path, toml=f"[checks]\nprotect = ['{glob}']\n", repo={"src/deep/a.txt": "a"})
    found = problem(folder)
    assert (found.field, found.what) == ("checks.protect.0", f"{glob!r} is a folder")
    assert found.remedy == f"write {glob.rstrip('/')}/** for all that is in it"


def test_a_long_list_of_bad_lines_is_cut(tmp_path: Path) -> None:
    """A file that is no recording at all does not fill the screen."""
    folder = task_folder(tmp_path)
    (folder / "replay.jsonl").write_text("hello\n" * 100)
    assert len(problems(folder)) <= 6


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything; somebody else may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "file", ["task.toml", "prompt.md", "repo/question.txt", "repo", "checks", "replay.jsonl"]
)
def test_what_cannot_be_read_is_told(file: str) -> None:
    """Each by its name, without a traceback."""
    with tempfile.TemporaryDirectory() as root:
        folder = task_folder(Path(root), replay=by_hand([says("Done.")]))
        Path(root).chmod(0o755)
        (folder / file).chmod(0)
        with nobody():
            found = problem(folder)
        (folder / file).chmod(0o700)
    assert found.file == str(folder / file)
    assert found.what == "cannot be read: Permission denied"


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    """Manifest, prompts, repo, checks, replay: one go, and the message has a line for each."""
    folder = task_folder(
        tmp_path,
        toml="timeot = 5\ntags = [5]\nprompts = ['a.md', '../b.md']\n"
        "[checks]\ntimeout = -1\nprotect = ['/x']\n[limits]\nmax_turns = 'many'\n",
        checks={},
    )
    linked("/etc/hosts")(folder / "repo" / "hosts")
    containing("{")(folder / "replay.jsonl")
    with pytest.raises(ProblemsError) as caught:
        load_task(folder)
    told = [(problem.file.removeprefix("answer/"), problem.field) for problem in caught.value.problems]
    assert told == [
        ("task.toml", "tags.0"),
        ("task.toml", "checks.timeout"),
        ("task.toml", "limits.max_turns"),
        ("task.toml", "timeot"),
        ("task.toml", "prompts.0"),
        ("task.toml", "prompts.1"),
        ("repo/hosts", None),
        ("checks", None),
        ("task.toml", "checks.protect.0"),
        ("replay.jsonl", None),
    ]
    first, *lines = str(caught.value).splitlines()
    assert first == "task 'answer' cannot be used:"
    assert len(lines) == len(told)
    assert "  answer/task.toml: timeot: is not a known key (did you mean 'timeout'?)" in lines


def test_a_problem_does_not_bring_others_along(tmp_path: Path) -> None:
    """A wrong list of prompts is not followed by a complaint about the default one, nor a wrong check by 'no check'."""
    folder = task_folder(tmp_path, toml="prompts = 'x'\n[checks]\nrun = ['true']\n", prompts={}, checks={})
    assert [problem.field for problem in problems(folder)] == ["prompts", "checks.run"]


# Whatever comes


def load_or_tell(folder: Path) -> None:
    """Nothing but these two."""
    with suppress(ProblemsError):
        load_task(folder)


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose manifest is written anew for each example."""
    return task_folder(tmp_path_factory.mktemp("sketch"), replay=by_hand([says("Done.")]))


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbfschema = 1")
@example(b"schema = 1\r\ntimeout = 5\r\n")
def test_any_bytes_load_or_are_told(sketch: Path, content: bytes) -> None:
    """A manifest of noise is a problem of the user's, never a traceback."""
    (sketch / "task.toml").write_bytes(content)
    load_or_tell(sketch)


TOP = ["schema", "description", "tags", "prompts", "timeout", "repo", "setup", "checks", "sandbox", "limits"]
INNER = [
    "path",
    "run",
    "protect",
    "template",
    "env",
    "network",
    "max_turns",
    "max_cost_usd",
    "a.b",
    "schema_",
    "[key]",
]
KEYS = st.sampled_from(TOP + INNER) | st.text(max_size=8)
SCALARS = (
    st.integers(-3, 10**20)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.text(max_size=12)
    | st.sampled_from(
        ["", ".", "..", "../x", "prompt.md", "repo", "/etc", "open", "x" * 5000, "\0", "repo/question.txt"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def as_toml(value: Any) -> str:
    """A value in TOML's inline form."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {as_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(inner) for inner in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def quoted(text: str) -> str:
    """A basic string, every character escaped."""
    clean = text.encode("utf-8", "replace").decode()
    return '"' + "".join(f"\\U{ord(char):08x}" for char in clean) + '"'


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.booleans())
@example({"checks": {"run": {"checks": 1, "run": 2, "[key]": 3}}, "sandbox": {"env": {"sandbox": {}}}}, True)
@example({"sandbox": {"network": {"network": []}}, "repo": {"path": []}}, True)
def test_any_table_loads_or_is_told(sketch: Path, table: dict[str, Any], versioned: bool) -> None:
    """Whatever stands where: a task, or its problems."""
    table = {"schema": 1, **table} if versioned else table
    text = "".join(f"{quoted(name)} = {as_toml(value)}\n" for name, value in table.items())
    tomllib.loads(text)
    (sketch / "task.toml").write_text(text, encoding="utf-8")
    load_or_tell(sketch)


@given(
    st.lists(
        st.sampled_from([*by_hand([says("Done.")]), {"type": "user"}, {"type": "result", "modelUsage": 5}])
    )
)
@example([{"type": "assistant", "message": {"content": [{"type": "tool_use", "name": "Bash", "input": {}}]}}])
@example([{"type": "user", "tool_use_result": {"status": "completed", "agentId": "a"}}])
@example([{"type": "system", "subtype": "init", "cwd": 5}])
def test_any_recording_loads_or_is_told(sketch: Path, events: list[dict[str, Any]]) -> None:
    """A recording may be somebody's own work, and wrong in its own way."""
    (sketch / "task.toml").write_text("schema = 1\n")
    (sketch / "replay.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    load_or_tell(sketch)


# The hash


def test_the_hash_is_the_contents(tmp_path: Path) -> None:
    """Two folders with the same files are the same task, whatever they are called and wherever they lie."""
    first, second = task_folder(tmp_path / "a", "one"), task_folder(tmp_path / "b", "two")
    assert load_task(first).hash == load_task(second).hash
    assert len(load_task(first).hash) == 64


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "repo" / "question.txt").write_text("6 x 8?\n"),
    "prompt": lambda folder: (folder / "prompt.md").write_text("Write 41.\n"),
    "check": lambda folder: (folder / "checks" / "answer.sh").write_text("#!/bin/sh\nexit 0\n"),
    "executable": lambda folder: (folder / "repo" / "question.txt").chmod(0o755),
    "name": lambda folder: (folder / "repo" / "question.txt").rename(folder / "repo" / "other.txt"),
    "place": lambda folder: (folder / "repo" / "question.txt").rename(folder / "solution" / "question.txt"),
    "new file": lambda folder: (folder / "repo" / "new").write_bytes(b""),
    "link": lambda folder: (folder / "repo" / "link").symlink_to("question.txt"),
    "the repo's README": lambda folder: (folder / "repo" / "README.md").write_text("read"),
    "odd name": lambda folder: (folder / "repo" / os.fsdecode(b"\xff")).write_bytes(b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_changes_with_what_could_change_a_result(tmp_path: Path, change: str) -> None:
    """Contents, names, links, executable bits."""
    folder = task_folder(tmp_path)
    before = load_task(folder).hash
    CHANGES[change](folder)
    assert load_task(folder).hash != before


NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "README": lambda folder: (folder / "README.md").write_text("about this task"),
    "bytecode": lambda folder: write_files(
        folder, {"checks/__pycache__/a.pyc": "x", "repo/b/__pycache__/c.pyc": "y"}
    ),
    "cache": lambda folder: write_files(folder, {"repo/.pytest_cache/v/x": "x", "checks/.ruff_cache/y": "y"}),
    "repository": lambda folder: write_files(folder, {"repo/.git/HEAD": "ref"}),
    "time": lambda folder: os.utime(folder / "prompt.md", (1, 1)),
    "other bits": lambda folder: (folder / "prompt.md").chmod(0o600),
    "empty folder": lambda folder: (folder / "repo" / "empty").mkdir(),
}


@pytest.mark.parametrize("change", NO_CHANGES)
def test_the_hash_does_not_change_with_what_could_not(tmp_path: Path, change: str) -> None:
    """What is left behind by tools, written for people, or lost in a checkout."""
    folder = task_folder(tmp_path)
    before = load_task(folder).hash
    NO_CHANGES[change](folder)
    assert load_task(folder).hash == before


def test_contents_cannot_be_taken_for_names(tmp_path: Path) -> None:
    """Where one file ends and the next begins is part of the hash."""
    write_files(tmp_path / "one", {"a": "bf"})
    write_files(tmp_path / "two", {"a": "", "b": ""})
    assert folder_hash(tmp_path / "one") != folder_hash(tmp_path / "two")


def test_what_is_no_file_does_not_hold_anything_up(tmp_path: Path) -> None:
    """A FIFO or a socket in the repo is not waited for."""
    folder = task_folder(tmp_path)
    before = load_task(folder).hash
    os.mkfifo(folder / "repo" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("answer/repo/socket")
        assert load_task(folder).hash == before


# Finding tasks


def test_tasks_are_found_in_order_and_not_within_each_other(tmp_path: Path) -> None:
    """Hidden folders, caches and links are passed over; a starter repo with a task.toml is no task of ours."""
    for name in ("b/two", "a", "b/one", ".hidden/x", "__pycache__/y"):
        task_folder(tmp_path / "tasks" / name, "t")
    write_files(tmp_path / "tasks" / "a" / "t" / "repo", {"task.toml": "schema = 1\n"})
    (tmp_path / "tasks" / "link").symlink_to("a")
    root = tmp_path / "tasks"
    assert list(find_tasks(root)) == [root / "a" / "t", root / "b" / "one" / "t", root / "b" / "two" / "t"]
    assert list(find_tasks(root / "a" / "t")) == [root / "a" / "t"]
    assert list(find_tasks(tmp_path / "nothing")) == []


# Tasks of Python tests


def test_a_test_names_the_parts_of_its_task(tmp_path: Path) -> None:
    """Paths are relative to the test; what is not named has its default; prompts come from the test."""
    task_folder(tmp_path / "tests")
    task = task_of_parts(
        "test_it",
        tmp_path / "tests",
        repo="answer/repo",
        template="base",
        checks={"said": "grep -q 42 answer.txt"},
        protect=["question.txt"],
        setup=("make",),
        timeout=5,
        env={"A": "1"},
        network=("pypi.org",),
    )
    assert (task.name, task.path, task.turns) == ("test_it", None, ())
    assert task.repo == tmp_path / "tests" / "answer" / "repo"
    assert task.checks == (Check("said", command="grep -q 42 answer.txt"),)
    assert (task.protect, task.setup, task.timeout) == (("question.txt",), ("make",), 5.0)
    assert task.sandbox == SandboxSpec(template="base", env={"A": "1"}, network=("pypi.org",))
    plain = task_of_parts("test_it", tmp_path)
    assert (plain.repo, plain.checks, plain.sandbox, plain.timeout) == (None, (), SandboxSpec(), 600.0)


def test_parts_replace_those_of_a_folder(tmp_path: Path) -> None:
    """What is not named stays the folder's own."""
    toml = "timeout = 9\n[setup]\nrun = ['make']\n[sandbox]\nenv = {A = '1', B = '1'}\nnetwork = 'open'\n"
    folder = task_folder(tmp_path, toml=toml)
    write_files(tmp_path, {"other/a.txt": ""})
    task = task_of_parts("test_it", tmp_path, "answer", repo="other", env={"B": "2"})
    own = load_task(folder)
    assert (task.timeout, task.setup, task.checks) == (9.0, ("make",), own.checks)
    assert task.sandbox == SandboxSpec(template="claude", env={"A": "1", "B": "2"}, network="open")
    assert task.repo == tmp_path / "other"
    assert (task.path, task.solution) == (folder, own.solution)
    assert task_of_parts("test_it", tmp_path, "answer", timeout=600.0).timeout == 600.0


WRONG_PARTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "folder": ({"folder": "none"}, "folder", "'none' is not a folder"),
    "repo": ({"repo": "none"}, "repo", "'none' is not a folder"),
    "repo's type": ({"repo": 5}, "repo", "'5' is not a folder"),
    "repo that is a file": ({"repo": "answer/prompt.md"}, "repo", "is not a folder"),
    "replay": ({"replay": "answer"}, "replay", "'answer' is not a file"),
    "checks in a list": ({"checks": ["true"]}, "checks", "should be a table"),
    "empty check": ({"checks": {"a": ""}}, "checks.a", "is empty"),
    "check's name": ({"checks": {"a b": "true"}}, "checks.a b", "cannot be used"),
    "setup in one string": ({"setup": "make"}, "setup", "should be a valid list"),
    "pattern": ({"protect": ["../x"]}, "protect.0", "no pattern"),
    "timeout": ({"timeout": 0}, "timeout", "should be greater than 0"),
    "network": ({"network": "off"}, "network", "not 'off'"),
    "variable": ({"env": {"A": 1}}, "env.A", "should be a valid string"),
    "template": ({"template": ""}, "template", "is empty"),
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_a_wrong_part_is_told_by_its_argument(tmp_path: Path, name: str) -> None:
    """As the marker has it, not as a manifest would."""
    task_folder(tmp_path)
    parts, field, what = WRONG_PARTS[name]
    with pytest.raises(ProblemsError) as caught:
        task_of_parts("test_it", tmp_path, **parts)
    (found,) = caught.value.problems
    assert found.field == field
    assert what in found.what
    assert found.remedy
    assert str(caught.value).startswith("@pytest.mark.task of test_it cannot be used:")


def test_a_bad_recording_is_told_by_its_file(tmp_path: Path) -> None:
    """As with a task's own."""
    for text in ("hello\n", "[" * 100_000 + "\n"):
        write_files(tmp_path, {"old.jsonl": text})
        with pytest.raises(ProblemsError, match=r"old\.jsonl: cannot be played"):
            task_of_parts("test_it", tmp_path, replay="old.jsonl")


def test_the_hash_of_parts_changes_with_each(tmp_path: Path) -> None:
    """The folder, the files that are named, and all that is said."""
    task_folder(tmp_path, replay=by_hand([says("Done.")]))

    def hashes() -> list[str]:
        parts: list[dict[str, Any]] = [
            {},
            {"folder": "answer"},
            {"repo": "answer/repo"},
            {"replay": "answer/replay.jsonl"},
            {"checks": {"a": "true"}},
            {"env": {"A": "1"}},
            {"timeout": 5},
            {"network": "none"},
        ]
        return [task_of_parts("test_it", tmp_path, **part).hash for part in parts]

    before = hashes()
    assert len(set(before)) == len(before)
    write_files(tmp_path / "answer" / "repo", {"README.md": "part of what the agent sees"})
    after = hashes()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, *[True] * 5]


def test_a_test_on_a_folder_that_clones_its_repo_clones_it_too(tmp_path: Path) -> None:
    """Unless the test brings another repo: then nothing is cloned."""
    toml = "git = 'https://example.com/widget.git'\nref = 'v1.2'"
    cloned(tmp_path, toml)
    write_files(tmp_path / "other", {"a.txt": "A\n"})
    kept = task_of_parts("test_it", tmp_path, "cloned")
    assert kept.git == GitSource("https://example.com/widget.git", ref="v1.2")
    assert kept.repo is None
    replaced = task_of_parts("test_it", tmp_path, "cloned", repo="other")
    assert (replaced.git, replaced.repo) == (None, tmp_path / "other")


@pytest.mark.parametrize("part", [{}, {"env": {"B": "2"}}, {"network": "open"}, {"template": "base"}])
def test_a_sandbox_part_that_is_not_named_stays_the_folders(tmp_path: Path, part: dict[str, Any]) -> None:
    """Each by itself: the template, the network, and each variable."""
    task_folder(tmp_path, toml="[sandbox]\ntemplate = 'mine'\nnetwork = 'none'\nenv = { A = '1', B = '1' }\n")
    task = task_of_parts("test_it", tmp_path, "answer", **part)
    expected = {"template": "mine", "network": "none", **part}
    assert (task.sandbox.template, task.sandbox.network) == (expected["template"], expected["network"])
    assert task.sandbox.env == {"A": "1", "B": "1", **part.get("env", {})}


def test_a_recording_that_a_test_names_is_played_in_place_of_the_folders(tmp_path: Path) -> None:
    """And the folder's where it names none."""
    says_no = by_hand([says("no")])
    folder = task_folder(tmp_path, replay=by_hand([says("yes")]))
    write_files(tmp_path, {"own.jsonl": "".join(json.dumps(line) + "\n" for line in says_no)})
    assert task_of_parts("test_it", tmp_path, "answer").replay == folder / "replay.jsonl"
    assert task_of_parts("test_it", tmp_path, "answer", replay="own.jsonl").replay == tmp_path / "own.jsonl"
    assert task_of_parts("test_it", tmp_path, replay="own.jsonl").replay == tmp_path / "own.jsonl"


def test_a_file_without_an_end_is_told(tmp_path: Path) -> None:
    """A sparse one costs its author nothing; it is neither read nor hashed."""
    folder = task_folder(tmp_path)
    with (folder / "repo" / "endless").open("wb") as file:
        file.truncate(10 * 1024**3)
    with pytest.raises(ProblemsError, match=r"endless.*at most 1024 MiB|at most 1024 MiB.*endless"):
        load_task(folder)
