"""Variants through pytest's own doors: chosen, side by side, in blocks; what was not applied is an ERROR."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Template

from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from tests.support import mcp_echo
from tests.support.folders import by_hand, says, task_folder, uses, write_files

pytestmark = pytest.mark.usefixtures("as_e2b")

SESSION = by_hand(
    [uses("Bash", command="cat ~/made-of 2>/dev/null; echo 42 >answer.txt")],
    [says("Done.")],
)


def records(pytester: pytest.Pytester) -> dict[str, Any]:
    """The records of the only run, by variant."""
    (run,) = list_runs(pytester.path / "results")
    return {record.variant: record for record in read_records(run.path).records}


def order(result: pytest.RunResult) -> list[str]:
    """The ids that were collected, in their order."""
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


@pytest.fixture
def template(server: LocalServer) -> Iterator[str]:
    """A template with Claude Code and a file of its own, gone when the test is over."""
    name = f"variants-{uuid.uuid4().hex[:8]}"
    steps = Template().from_template("claude").run_cmd("echo only-here >/home/user/made-of")
    Template.build(steps, name, api_key=server.api_key, api_url=server.url)
    yield name
    httpx.delete(f"{server.url}/templates/{name}", headers={"X-API-KEY": server.api_key}).raise_for_status()


def test_pairs_of_variants_run_side_by_side_and_are_told_apart(
    pytester: pytest.Pytester, template: str
) -> None:
    """Two differ in CLAUDE.md, two in MCP servers, two in template: one command, and each record proves its own."""
    toml = f"""
    [rules-a]
    claude_md = "a.md"
    [rules-b]
    claude_md = "b.md"
    [no-tools]
    mcp = {{}}
    [echo-tools]
    overlay = "over"
    mcp.echo = {{ command = "python3", args = ["/home/user/echo.py"] }}
    [plain-template]
    template = "claude"
    [own-template]
    template = "{template}"
    """
    task_folder(pytester.path / "tasks", replay=SESSION)
    echo = Path(mcp_echo.__file__).read_bytes()
    files = {"variants.toml": toml, "a.md": "A\n", "b.md": "B\n", "over/home/echo.py": echo}
    write_files(pytester.path / "tasks", files)
    result = pytester.runpytest("tasks", "--seed", "7")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["harness: variants rules-a, rules-b, no-tools, *; in an order drawn from --seed 7"]
    )
    found = records(pytester)

    def loaded(name: str) -> set[str | None]:
        return {entry.sha256 for entry in found[name].instructions}

    assert loaded("rules-a") == {hashlib.sha256(b"A\n").hexdigest()}
    assert loaded("rules-b") == {hashlib.sha256(b"B\n").hexdigest()}
    assert found["no-tools"].mcp == {}
    assert (found["echo-tools"].mcp["echo"].status, found["echo-tools"].mcp["echo"].offered) == (
        "connected",
        ("say",),
    )
    plain, own = found["plain-template"], found["own-template"]
    assert (plain.template, own.template) == ("claude", template)
    assert plain.sandbox.template_id != own.sandbox.template_id
    (run,) = list_runs(pytester.path / "results")
    said = {name: (run.path / str(found[name].transcript)).read_text() for name in found}
    assert [name for name in said if "only-here" in said[name]] == ["own-template"]
    assert len({record.variant_hash for record in found.values()}) == 6
    about = json.loads((run.path / "run.json").read_text())
    assert (about["seed"], list(about["variants"])) == (7, list(dict.fromkeys(about["variants"])))
    assert about["command"].startswith("pytest ")
    assert about["texts"]
    assert set(about["tasks"]) == {record.task for record in found.values()}


@pytest.mark.parametrize("way", [[], ["-n2"]], ids=["plain", "-n2"])
def test_what_was_not_applied_is_an_error(pytester: pytest.Pytester, way: list[str]) -> None:
    """Never a failure: with the difference, and in junit's XML, the summary and the record."""
    task_folder(pytester.path / "tasks", replay=SESSION)
    write_files(pytester.path / "tasks", {"variants.toml": '[good]\n[dead]\nmcp.x = { command = "false" }\n'})
    result = pytester.runpytest("tasks", *way)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "invalid: the variant was not really applied",
            "*the MCP server 'x' is failed, not connected*",
            "This counts neither as passed nor as failed.",
            "*1 of 2 trials are invalid*count for nobody",
        ]
    )
    dead = records(pytester)["dead"]
    assert (dead.outcome, dead.score, dead.mcp["x"].status) == ("invalid", None, "failed")


PYTHON_TEST = """
import pytest

@pytest.mark.task("tasks/answer")
def test_it(claude):
    assert claude("Write 42 into answer.txt.").passed_checks
"""


def test_python_tests_run_with_each_variant(pytester: pytest.Pytester) -> None:
    """Those nearest to the test's file; one that was not applied is an ERROR there too."""
    task_folder(pytester.path / "tasks", replay=SESSION)
    toml = '[good]\nclaude_md = { text = "Rules." }\n[dead]\nmcp.x = { command = "false" }\n'
    write_files(pytester.path, {"variants.toml": toml, "test_it.py": PYTHON_TEST})
    result = pytester.runpytest("test_it.py", "--seed", "1")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at *test_it[[]dead-t1[]]*", "*'x' is failed, not connected*"])
    found = records(pytester)
    assert {name: record.outcome for name, record in found.items()} == {"good": "passed", "dead": "invalid"}
    assert found["good"].instructions[0].path == "repo/CLAUDE.md"


def test_the_order_is_the_seeds(pytester: pytest.Pytester) -> None:
    """Blocks of one index, each with all variants; the same with the same seed, with and without xdist."""
    for name in ("one", "two"):
        task_folder(pytester.path / "tasks", name)
    write_files(pytester.path / "tasks", {"variants.toml": "[a]\n[b]\n[c]\n"})
    command = ("tasks", "--collect-only", "-q", "--trials", "2", "--seed")
    found = order(pytester.runpytest(*command, "1"))

    assert order(pytester.runpytest(*command, "1")) == found
    assert order(pytester.runpytest(*command, "2")) != found
    assert [name[-2:-1] for name in found] == ["1", "1", "1", "2", "2", "2"] * 2
    assert {name.partition("[")[0] for name in found[:6]} == {"one"}


def test_with_xdist_every_worker_has_the_controllers_order(pytester: pytest.Pytester) -> None:
    """Without a seed given, too: pytest-xdist refuses workers that collect differently."""
    task_folder(pytester.path / "tasks", "one")
    write_files(pytester.path / "tasks", {"variants.toml": "".join(f"[v{n}]\n" for n in range(8))})
    pytester.runpytest("tasks", "--agent", "oracle", "-n2").assert_outcomes(passed=8)
    (run,) = list_runs(pytester.path / "results")
    assert isinstance(json.loads((run.path / "run.json").read_text())["seed"], int)


def test_variants_are_chosen_by_name_by_file_and_by_k(pytester: pytest.Pytester) -> None:
    """`--variant` and `--variants`, their ini twins, and pytest's own selection by the id's parts."""
    task_folder(pytester.path / "tasks", "one")
    write_files(
        pytester.path,
        {
            "tasks/variants.toml": "[a]\n[b]\n[c.env]\n[matrix]\nmodel = ['x-1', 'y-2']\n",
            "other.toml": "[o]\n",
        },
    )
    command = ("tasks", "--collect-only", "-q", "--seed", "1")
    for options, names in (
        (["--variant", "a", "--variant", "b"], {"a", "b"}),
        (["-k", "x-1"], {"x-1"}),
        (["--variants", "other.toml"], {"o"}),
        (["tasks/one/task.toml::one[y-2-t1]"], {"y-2"}),
    ):
        given = [*options, *command[1:]] if "::" in options[0] else [*command, *options]
        assert set(order(pytester.runpytest(*given))) == {f"one[{name}-t1]" for name in names}
    pytester.makeini("[pytest]\nharness_variant = c\n")
    assert order(pytester.runpytest(*command)) == ["one[c-t1]"]
    assert order(pytester.runpytest(*command, "--variant", "b")) == ["one[b-t1]"]


UNUSABLE = {
    "name": ("[a]\n", ["--variant", "z"], "*there is no variant 'z' in tasks/variants.toml*there is: a*"),
    "key": ("[a]\nmodle = 1\n", [], "*tasks/variants.toml:2: a.modle: is not a known key*"),
    "file": ("[a]\n", ["--variants", "no.toml"], "*no.toml: cannot be read: No such file*"),
    "seed": ("[a]\n", ["--seed", "x"], "*--seed 'x' is not a whole number*"),
    "secret": (
        "[a.env]\nX = '${env:NOT_THERE}'\n",
        [],
        "*refers to ${env:NOT_THERE}, and NOT_THERE is not set*",
    ),
}
# What is met where options are read, where tasks are collected, and where the run is opened.
BY_WORKERS = ("seed", "name", "secret")


@pytest.mark.parametrize(
    ("what", "way"),
    [
        *(pytest.param(what, [], id=f"{what}-plain") for what in UNUSABLE),
        *(pytest.param(what, ["-n2"], id=f"{what}-n2") for what in BY_WORKERS),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(pytester: pytest.Pytester, what: str, way: list[str]) -> None:
    """Before anything runs, once, without a traceback."""
    toml, options, words = UNUSABLE[what]
    for name in ("one", "two"):
        task_folder(pytester.path / "tasks", name)
    write_files(pytester.path / "tasks", {"variants.toml": toml})
    result = pytester.runpytest("tasks", "--agent", "oracle", *options, *way)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = " ".join(result.errlines)
    assert pytest.LineMatcher([said]).fnmatch_lines([words]) is None
    assert "Traceback" not in said + str(result.outlines)
    assert not (pytester.path / "results").exists()


def test_the_first_variant_is_the_baseline(pytester: pytest.Pytester) -> None:
    """Whoever's trial ends first: in the summary, in the verdict and in every later comparison."""
    task_folder(pytester.path / "tasks", "one")
    write_files(pytester.path / "tasks", {"variants.toml": "".join(f"[v{n}]\n" for n in range(4))})
    command = ("tasks", "--agent", "oracle", "--trials", "1", "--concurrency", "4")
    result = pytester.runpytest(*command)
    result.stdout.fnmatch_lines(["v0 *", "v1 *", "v2 *", "v3 *", "v1 * v0*", "v2 * v0*", "v3 * v0*"])
    result = pytester.runpytest(*command, "--variant", "v2", "--variant", "v1")
    result.stdout.fnmatch_lines(["v2 *", "v1 *", "v1 * v2*"])
