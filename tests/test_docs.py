"""What the docs show is what happens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from harness.records.reading import list_runs, read_records
from harness.variants.declared import load_variants
from tests.support import mcp_echo, mcp_http
from tests.support.folders import by_hand, says, task_folder, uses, write_files

DOCS = Path(__file__).parents[1] / "docs"
SESSION = by_hand([uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")])


@pytest.mark.usefixtures("as_e2b")
def test_the_page_on_python_tests_can_be_copied(pytester: pytest.Pytester) -> None:
    """Its example passes as it stands."""
    example = blocks("fixtures.md", "python")[0]
    task_folder(pytester.path / "tasks", replay=SESSION)
    lines = "".join(json.dumps(line) + "\n" for line in SESSION)
    write_files(
        pytester.path, {"starter/question.txt": "6 x 7?\n", "session.jsonl": lines, "test_it.py": example}
    )
    run = pytester.runpytest("test_it.py", "-v")
    run.assert_outcomes(passed=3)
    run.stdout.fnmatch_lines(["test_it.py::* PASSED*", "test_it.py::* (* s, * tokens, $*)*"])


def blocks(page: str, language: str) -> list[str]:
    """What a page shows in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("as_stub")
def test_the_table_of_the_page_on_python_tests_is_a_task_for_each_row(pytester: pytest.Pytester) -> None:
    """Fifty rows, two variants, three trials: as many records, none twice, and a verdict over fifty tasks."""
    example = blocks("fixtures.md", "python")[1]
    answers = ["42" if number % 3 else "43" for number in range(50)]
    rows = [
        {"id": f"case {n}", "question": f"{answer} x 1", "answer": answer} for n, answer in enumerate(answers)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_files(
        pytester.path, {"rows.jsonl": lines, "test_rows.py": example, "variants.toml": "[plain]\n[other]\n"}
    )
    result = pytester.runpytest("test_rows.py", "--agent", "nop", "--trials", "3")
    result.assert_outcomes(passed=33 * 6, failed=17 * 6)
    (run,) = list_runs(pytester.path / "results")
    records = read_records(run.path).records
    assert len(run.records_file.read_bytes().splitlines()) == len(records) == 300
    assert len({(record.task, record.variant, record.index) for record in records}) == 300
    assert len({record.task for record in records}) == 50
    result.stdout.fnmatch_lines(["50 tasks, 3 trials each; 95% intervals*"])


SKILL = "---\nname: release-notes\ndescription: Writes them.\n---\nWrite them.\n"
BESIDE_VARIANTS: dict[str, str | bytes] = {
    "terse.md": "Be terse.\n",
    "system.md": "You write software.\n",
    "settings.json": '{"includeCoAuthoredBy": false}',
    "agents.md": "Rules for agents.\n",
    "release-notes/.claude-plugin/plugin.json": '{"name": "release-notes"}',
    "release-notes/skills/write/SKILL.md": SKILL,
    "skills-overlay/repo/.claude/skills/release-notes/SKILL.md": SKILL,
    "skills-overlay/repo/.claude/agents/reviewer.md": "---\nname: reviewer\ndescription: Reviews.\n---\nReview.\n",
    "skills-overlay/home/.claude/commands/ship.md": "Ship it.\n",
    "skills-overlay/home/.claude/CLAUDE.md": "My own rules.\n",
    "echo-overlay/home/echo.py": Path(mcp_echo.__file__).read_bytes(),
}


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_the_page_on_variants_can_be_copied(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its variants is really applied, in one command; the address of its server on HTTP is this machine's."""
    # A version comes from npm, and an answer in a schema's form is in no recorded session of another variant.
    without = ("[matrix", "[before]", "[typed]")
    shown = [block for block in blocks("variants.md", "toml") if not block.startswith(without)]
    task_folder(pytester.path / "tasks", replay=SESSION, repo={"CLAUDE.md": "Old rules.\n"})
    monkeypatch.setenv("DOCS_TOKEN", mcp_http.TOKEN)
    with mcp_http.served() as address:
        toml = "".join(shown).replace('"https://mcp.example.com/mcp"', f'"http://{address}/mcp"')
        toml = toml.replace("[remote]\n", f'[remote]\nnetwork = ["{address}"]\n')
        write_files(pytester.path / "tasks", {**BESIDE_VARIANTS, "variants.toml": toml})
        names = [name for name in tomllib.loads(toml) if name != "gateway"]
        chosen = [word for name in names for word in ("--variant", name)]
        pytester.runpytest("tasks", "--concurrency", "6", *chosen).assert_outcomes(passed=len(names))


WITH_MEMORY = """
from e2b import Template

template = Template().from_template("mcp-gateway").copy("npm", "/home/user/npm")
template = template.run_cmd(
    "mkdir -p /opt/local/bin && ln -s ~user/npm/node_modules/.bin/mcp-server-memory /opt/local/bin/", user="root"
)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="this machine has no npm")
@pytest.mark.usefixtures("as_e2b")
def test_the_gateway_of_the_page_on_variants_can_be_copied(pytester: pytest.Pytester) -> None:
    """Its server comes in a template here, since a sandbox may have no way to npm's registry."""
    (shown,) = [block for block in blocks("variants.md", "toml") if block.startswith("[gateway]")]
    toml = shown.replace("[gateway]\n", '[gateway]\ntemplate = "memory.py:template"\n', 1)
    task_folder(pytester.path / "tasks", replay=SESSION)
    write_files(pytester.path / "tasks", {"memory.py": WITH_MEMORY, "variants.toml": toml})
    install = ["npm", "install", "--silent", "--prefix", "tasks/npm", "@modelcontextprotocol/server-memory"]
    subprocess.run(install, check=True, timeout=200, cwd=pytester.path)
    pytester.runpytest("tasks").assert_outcomes(passed=1)
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    (gateway,) = record.mcp.values()
    assert gateway.status == "connected"
    assert "create_entities" in gateway.offered


def test_the_grids_of_the_page_on_variants_are_what_it_says(tmp_path: Path) -> None:
    """The names that the text gives."""
    page = (DOCS / "variants.md").read_text(encoding="utf-8")
    first, second = (block for block in blocks("variants.md", "toml") if block.startswith("[matrix"))
    write_files(tmp_path, {"terse.md": "Be terse.\n", "variants.toml": f"[plain]\n{first}"})
    found = load_variants(tmp_path / "variants.toml").variants[1:]
    assert len(found) == 4
    assert all(f"`{variant.name}`" in page for variant in found)
    write_files(tmp_path, {"variants.toml": second})
    assert [variant.name for variant in load_variants(tmp_path / "variants.toml").variants] == ["low", "high"]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "tasks/README.md",
        *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    """A relative link names a file that is there."""
    path = DOCS.parent / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


ADD_TEST = "import unittest\n\nimport add\n\n\nclass AddTest(unittest.TestCase):\n"


@pytest.mark.usefixtures("as_e2b")
def test_the_page_on_checks_can_be_copied(pytester: pytest.Pytester) -> None:
    """Its tests are run, in the repo and in `checks/`, and each one's verdict is told."""
    (toml,) = blocks("checks.md", "toml")
    test = "    def test_of_{}(self):\n        self.assertEqual(add.add({}), {})\n"
    files = {
        "task.toml": toml,
        "prompt.md": "Do it.\n",
        "repo/add.py": "def add(a, b):\n    return a or b\n",
        "repo/tests/__init__.py": "",
        "repo/tests/test_add.py": ADD_TEST + test.format("two", "1, 2", 3),
        "repo/tests/test_old.py": ADD_TEST + test.format("nothing", "0, 0", 0),
        "checks/hidden/test_more.py": ADD_TEST
        + test.format("more", "4, 5", 9)
        + test.format("less", "0, 1", 1),
        "solution/add.py": "def add(a, b):\n    return a + b\n",
    }
    write_files(pytester.path / "tasks/add", files)
    pytester.runpytest("tasks", "--agent", "nop", "--results", "nop").assert_outcomes(failed=1)
    pytester.runpytest("tasks", "--agent", "oracle", "--results", "oracle").assert_outcomes(passed=1)
    scores = {}
    for agent in ("nop", "oracle"):
        (run,) = list_runs(pytester.path / agent)
        (record,) = read_records(run.path).records
        scores[agent] = {check.name: check.score for check in record.checks}
    assert scores == {"nop": {"unit": 0.5, "hidden": 0.5}, "oracle": {"unit": 1.0, "hidden": 1.0}}
    assert [len(check.tests or ()) for check in record.checks] == [2, 2]
