"""What the page on tasks shows can be copied, and it leaves no key out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli import _parser, main
from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.runs.resources import local_platform
from harness.sandboxes.templates import remove_built
from harness.tasks.loading import load_task
from harness.tasks.manifest import Limits, Manifest
from harness.tasks.tomlfile import _keys
from tests.support.folders import task_folder, write_files
from tests.support.git_server import GitServer, git
from tests.support.typist import Typist

PAGE = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    (found,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def shown(heading: str, language: str) -> str:
    """The example of a section."""
    (example,) = re.findall(rf"```{language}\n(.*?)```", section(heading), re.DOTALL)
    return str(example)


def passes(pytester: pytest.Pytester, *options: str) -> Any:
    """The record of the only task, which passes."""
    pytester.runpytest("tasks", *options).assert_outcomes(passed=1)
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    return record


def test_no_key_is_left_out() -> None:
    """The page has each as a key or as a table."""
    keys = {key for _, key in _keys(Manifest)}
    shown = set(re.findall(r"(\w+)(?: = |\])", PAGE)) | {"tests"} & set(
        re.findall(r"\[checks\.(\w+)\.", PAGE)
    )
    assert keys - shown == set()


def test_the_example_of_every_key_is_a_task(tmp_path: Path) -> None:
    """As it stands."""
    folder = tmp_path / "greeting"
    repo = {"repo/a.py": "a = 1\n", "repo/tests/test_greet.py": ""}
    write_files(folder, {"task.toml": shown("Every key", "toml"), "prompt.md": "Do it.", **repo})
    task = load_task(folder)
    assert (task.timeout, task.check_timeout, task.sandbox.template) == (600.0, 60.0, "claude")
    assert task.limits == Limits(max_turns=30, max_cost_usd=0.5)
    assert task.protect == ("tests/**",)


@pytest.mark.usefixtures("as_e2b")
def test_the_example_of_turns(pytester: pytest.Pytester) -> None:
    """Its oracle shows that the checks hold when they are asked."""
    solve = "mv answer.txt result.txt\n"
    prompts = {"1-fix.md": "Fix.", "2-rename.md": "Rename."}
    files = {"after-1/answer.txt": "42\n", "solution/solve.sh": solve, "repo/answer.txt": "41\n", **prompts}
    write_files(pytester.path / "tasks/turns", {"task.toml": shown("Several prompts", "toml"), **files})
    record = passes(pytester, "--agent", "oracle")
    assert {check.name: check.turn for check in record.checks} == {"fixed": 1, "renamed": None}


@pytest.mark.usefixtures("as_e2b")
def test_the_example_of_a_clone(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the address of a server of our own."""
    token = "a-token-0123456789"
    monkeypatch.setenv("NAME_TOKEN", token)
    with GitServer(tmp_path, token) as server:
        commit = server.commit("NAME", {"packages/core/answer.txt": "42\n"}, tag="v1.2")
        toml = shown("A cloned repo", "toml").replace("https://github.com/OWNER/NAME.git", server.url("NAME"))
        write_files(pytester.path / "tasks/clone", {"task.toml": toml, "prompt.md": "Do it."})
        assert passes(pytester, "--agent", "nop").repo_commit == commit


def test_the_example_of_a_template(
    pytester: pytest.Pytester, as_e2b: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built, and the sandbox has what its step made."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    write_files(pytester.path, {"templates/mine.py": shown("Templates", "python")})
    toml = shown("Templates", "toml")
    write_files(pytester.path / "tasks/built", {"task.toml": toml, "prompt.md": "Do it."})
    name = passes(pytester, "--agent", "nop").template
    remove_built(local_platform(as_e2b), [name], every=False)


@pytest.mark.parametrize("network", re.findall(r'^\| `("[^`]*"|\["[^`]*)` \|', PAGE, re.MULTILINE))
def test_the_networks_of_the_table_can_be_named(tmp_path: Path, network: str) -> None:
    toml = f"schema = 1\n[sandbox]\nnetwork = {network}\n[checks.run]\nok = 'true'\n"
    write_files(tmp_path / "net", {"task.toml": toml, "prompt.md": "Do it."})
    assert load_task(tmp_path / "net").sandbox.network


@pytest.mark.usefixtures("as_e2b")
def test_the_example_of_a_session(pytester: pytest.Pytester) -> None:
    """The real Claude Code plays it."""
    toml = "schema = 1\n[checks.run]\nok = 'grep -qx 42 answer.txt'\n"
    session = shown("A recorded session", "json")
    write_files(
        pytester.path / "tasks/played", {"task.toml": toml, "prompt.md": "Do it.", "replay.jsonl": session}
    )
    assert passes(pytester).replay_by_hand


def test_the_commands_for_templates(
    pytester: pytest.Pytester, as_e2b: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Built by hand, listed, and removed, as the section says."""
    (build, list_, remove) = re.findall(r"`harness (template [^`]+)`", PAGE.replace("\n", " "))
    write_files(pytester.path, {"templates/mine.py": shown("Templates", "python")})
    assert main(build.replace("FILE", "templates/mine.py:template").split()) == 0
    (name,) = re.findall(r"^(harness-mine-\w+) is built$", capsys.readouterr().out, re.MULTILINE)
    assert main(list_.split()) == 0
    assert name in capsys.readouterr().out
    assert main(remove.replace("NAME", name).split()) == 0
    assert capsys.readouterr().out == f"removed {name}\n"
    assert main(list_.split()) == 0
    assert name not in capsys.readouterr().out


@pytest.mark.usefixtures("as_e2b")
def test_the_commands_for_a_second_look(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the table, in an order in which a user might give them; what the agent left fails its check."""
    attach, checks, collect, apply = re.findall(r"^\| `harness ([^`]+)` \|", section("A second look"), re.M)
    main(collect.split())  # what another test has left on its server
    repo: dict[str, str | bytes] = {"answer.txt": "0\n"}
    task_folder(pytester.path / "tasks", repo=repo, solution={"answer.txt": "41\n"})
    (command,) = re.findall(r"`pytest ([^`]+)`", section("A second look"))
    pytester.runpytest(*command.split(), "--agent", "oracle").assert_outcomes(failed=1)

    typist = Typist(*attach.replace("TRIAL", "answer").split())
    typist.until(b"~/repo")
    typist.type(b"cat answer.txt; exit\n")
    typist.until(b"41\r\n")
    typist.until(b"is kept on")
    assert typist.end() == 0

    assert main(checks.replace("TRIAL", "answer").split()) == 1
    assert "0 of 1 checks passed" in capsys.readouterr().out

    write_files(pytester.path / "checkout", repo)
    for words in ("init -q", "add -A", "-c user.name=me -c user.email=me@here commit -qm start"):
        git("-C", str(pytester.path / "checkout"), *words.split())
    assert main(apply.replace("TRIAL", "answer").replace("DIR", "checkout").split()) == 0
    assert git("-C", str(pytester.path / "checkout"), "diff", "--cached", "--name-only") == "answer.txt\n"

    assert main(collect.split()) == 0
    assert capsys.readouterr().out.endswith("1 sandbox ended\n")


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`harness ([a-z]+)", PAGE))))
def test_the_commands_of_the_page_are_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out
