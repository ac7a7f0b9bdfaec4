"""Suites of `claude plugin eval`, collected as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ProblemsError
from harness.records.reading import list_runs, read_records
from harness.tasks.formats.base import NoCounterpartError
from harness.tasks.formats.registry import format_of, take_task
from harness.variants.declared import load_variants
from tests.support.claude_cli import CLAUDE, QUIET
from tests.support.folders import write_files
from tests.support.messages_api import MessagesApi, Say, Use

PLUGIN = {
    ".claude-plugin/plugin.json": '{"name": "greeter", "version": "0.1.0", "description": "x"}',
    "skills/hello/SKILL.md": "---\nname: hello\ndescription: says hello\n---\nSay hello.\n",
}
HEAD = 'schema_version: "1.0"\nname: x\n'
EVERY_GRADER = """\
schema_version: "1.0"
name: every-grader
context: {scaffold_script: scaffold.sh}
runs: 1
execution: {max_turns: 5, allowed_tools: [Write]}
graders:
  - {type: file_exists, name: made, path: "*.txt"}
  - {type: file_exists, name: scaffolded, path: old.txt, exists: false}
  - {type: file_exists, name: deep, path: "sub/*.txt"}
  - {type: file_exists, name: anywhere, path: "**/answer.txt"}
  - {type: file_exists, name: absent, path: "ans?er.*", exists: false}
  - {type: regex, name: content, target: {source: file, path: answer.txt}, pattern: ^42$, flags: m}
  - {type: regex, name: no-file, target: {source: file, path: nothing.txt}, pattern: x, match: not_contains}
  - {type: regex, name: files, target: files, pattern: answer, match: "count:1"}
  - {type: regex, name: trace, target: trace, pattern: '"name":"Write"'}
  - {type: regex, name: case, pattern: done}
  - {type: regex, name: of-javascript, pattern: '(?<=Done, )hello(?<x>\\.)', flags: us}
  - {type: tool_used, name: wrote, tool: Write, input_match: 'answer\\.txt', max: 1}
  - {type: tool_used, name: never, tool: Write, max: 0}
  - {type: tool_used, name: fired, tool: Skill}
  - {type: tool_order, name: order, before: Read, after: {tool: Write, input_match: "42"}}
  - {type: tool_order, name: other-order, before: Write, after: Read}
"""
SUITE = {
    **PLUGIN,
    "evals/every-grader/case.yaml": EVERY_GRADER,
    "evals/every-grader/prompt.md": "Write 42 into answer.txt\n",
    "evals/every-grader/scaffold.sh": "echo old >old.txt\n",
    "evals/every-grader/graders/says.md": "---\ntype: regex\nflags: i\nweight: 2\n---\n\nHELLO\n",
}
SCRIPT = [
    Use("Read", {"file_path": "old.txt"}),
    Use("Write", {"file_path": "answer.txt", "content": "42\n"}),
    Say("Done, hello."),
]


@pytest.mark.slow
def test_graders_judge_as_claude_codes_own_do(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the plugin and without it, one by one; what only tells that a skill fired counts in neither."""
    write_files(pytester.path / "greeter", SUITE)
    with MessagesApi(SCRIPT) as api:
        theirs = _by_claude(pytester.path / "greeter", tmp_path, {**QUIET, **api.env()})
        for name, value in api.env().items():
            monkeypatch.setenv(name, value)
        pytester.runpytest("greeter", "--trials", "1").assert_outcomes(failed=2)
    (run,) = list_runs(pytester.path / "results")
    ours = {
        record.variant.partition("-")[0]: {check.name: check.passed for check in record.checks}
        for record in read_records(run.path).records
    }
    assert ours == theirs
    counted = {*re.findall(r"name: ([\w-]+), ", EVERY_GRADER), "says"} - {"fired"}
    assert ours["with"].keys() == ours["without"].keys() == counted
    assert set(ours["with"].values()) == {True, False}


def _by_claude(plugin: Path, folder: Path, env: dict[str, str]) -> dict[str, dict[str, bool]]:
    """What `claude plugin eval` says of each grader that counts, with the plugin and without."""
    words = ["--trust-plugin", "--scaffold", "--allow-tools", "Write", "--no-publish"]
    files = ["--json", str(folder / "out.json"), "--output-dir", str(folder / "out")]
    subprocess.run(
        [CLAUDE, "plugin", "eval", ".", *words, *files],
        cwd=plugin,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        check=False,
    )
    (case,) = json.loads((folder / "out.json").read_text())["cases"]
    return {
        arm: {grader["name"]: grader["passed"] for grader in runs[0]["graders"] if grader["scored"]}
        for arm, runs in case["arms"].items()
    }


def test_a_plugin_is_a_variant_beside_one_without_it(tmp_path: Path) -> None:
    """The agent gets it without its suite, which has the graders."""
    write_files(tmp_path / "greeter", SUITE)
    folder = tmp_path / "greeter/evals/every-grader"
    form = format_of(folder)
    assert form
    task = take_task(folder, form, tmp_path / "cache")
    assert task.path
    assert (task.turns[0].prompt, task.limits.max_turns, task.timeout) == ("Write 42 into answer.txt", 5, 300)
    without, with_plugin = load_variants(task.path.parent / "variants.toml").variants
    assert (without.name, without.plugins, with_plugin.name) == ("without", (), "with-greeter")
    (plugin,) = with_plugin.plugins
    assert sorted(path.name for path in plugin.path.rglob("*") if path.is_file()) == [
        "SKILL.md",
        "plugin.json",
    ]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"graders/good.md": "---\ntype: llm\n---\nGood?\n"}, "'good': a model judges it"),
        ({"prompt.md": "---\nmodel: opus\n---\nx\n"}, "model: it is a part of the treatment"),
        ({"prompt.md": "---\ndisallowed_tools: [Agent]\n---\nx\n"}, "disallowed_tools"),
        ({"case.yaml": f"{HEAD}context: {{history_file: h.jsonl}}\n"}, "history_file"),
        ({"case.yaml": f"{HEAD}context: {{scaffold_script: s.sh}}\n", "s.sh": "cp $(dirname $0)/x ."}, "beside itself"),
        ({"../../.mcp.json": "{}"}, "MCP servers"),
        ({"../../.claude-plugin/plugin.json": None, "../../SKILL.md": "x"}, "without which a variant cannot load it"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_told(tmp_path: Path, files: dict[str, Any], reason: str) -> None:
    plain = {"prompt.md": "Do it.\n", "graders/says.md": "---\ntype: regex\n---\nhello\n"}
    folder = tmp_path / "greeter/evals/one"
    write_files(tmp_path / "greeter", PLUGIN)
    write_files(folder, {**plain, **{name: text for name, text in files.items() if text is not None}})
    for name in (name for name, text in files.items() if text is None):
        (folder / name).unlink()
    form = format_of(folder)
    assert form
    with pytest.raises(NoCounterpartError, match=reason):
        take_task(folder, form, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("prompt.md", "TODO: describe what the agent should do", "blank template"),
        ("prompt.md", "---\nmax_turns: 900\n---\nx", r"max_turns.*200"),
        ("graders/two.md", "---\ntype: regex\nname: says\n---\ny", "two graders of one name"),
        ("graders/two.md", "---\ntype: [\n---\ny", "no YAML"),
        ("graders/two.md", "---\ntype: vibes\n---\ny", "vibes"),
        ("case.yaml", 'schema_version: "7.0"\nname: x\n', "schema_version"),
    ],
)
def test_what_claude_code_refuses_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    plain = {"prompt.md": "Do it.\n", "graders/says.md": "---\ntype: regex\n---\nhello\n"}
    write_files(tmp_path / "one", {**plain, name: text})
    form = format_of(tmp_path / "one")
    assert form
    with pytest.raises(ProblemsError, match=words):
        take_task(tmp_path / "one", form, tmp_path / "cache")


def test_a_case_of_something_else_is_no_task(pytester: pytest.Pytester) -> None:
    """A case.yaml without a schema, or a prompt with other graders: its folder's tests are pytest's."""
    write_files(pytester.path / "other", {"case.yaml": "a: 1\n", "test_it.py": "def test_it():\n    pass\n"})
    pytester.runpytest("other").assert_outcomes(passed=1)
