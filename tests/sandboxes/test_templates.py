"""Templates from files: built when their content is new, once for all who ask, under a name that tells the content."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ProblemsError, TaskFault
from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.store import RunFolder
from harness.runs.resources import local_platform
from harness.sandboxes.templates import Templates, list_built, remove_built
from harness.tasks.loading import load_task
from harness.tasks.templatefile import TemplateFile, find_template_file, template_file
from tests.support.folders import task_folder, write_files

MINE = """
from e2b import Template

template = Template().from_template("base").set_envs({"MARK": "%s"}).copy("tool.txt", "/home/user/tool.txt")
template = template.run_cmd("echo built >/home/user/built.txt")
other = 3
"""
LOOK = (
    '[checks.run]\nlook = \'grep -q tool ~/tool.txt && grep -q built ~/built.txt && test "$MARK" = "%s"\'\n'
)


@pytest.fixture
def mark(as_e2b: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A content that nobody has built before; what is built of it goes afterwards."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield secrets.token_hex(8)
    remove_built(local_platform(as_e2b), [], every=True)


def task(root: Path, mark: str, template: str = "templates/mine.py:template") -> Path:
    """A task of a template that stands beside the tasks."""
    write_files(root, {"templates/mine.py": MINE % mark, "templates/tool.txt": "tool\n"})
    toml = f'[sandbox]\ntemplate = "{template}"\n{LOOK % mark}'
    return task_folder(root / "tasks", toml=toml, checks={})


def run(pytester: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, RunFolder, list[TrialRecord]]:
    result = pytester.runpytest("tasks", "--agent", "nop", *options)
    last = list_runs(pytester.path / "results")[-1]
    return result, last, list(read_records(last.path).records)


def test_it_is_built_once(pytester: pytest.Pytester, mark: str) -> None:
    """For all trials of a run and the runs after it, its log shown and kept; a change builds it anew."""
    task(pytester.path, mark)
    result, folder, records = run(pytester, "--trials", "3")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*building template harness-mine-*", "*harness-mine-*: *echo built*"])
    (name,) = {record.template for record in records}
    assert name
    assert name.startswith("harness-mine-")
    log = (folder.path / "templates" / f"{name}.log").read_text()
    assert log.count("Build started") == 1
    assert all(record.phases_ms.build is not None for record in records)

    result, folder, records = run(pytester, "-n2")
    assert [record.template for record in records] == [name]
    assert not (folder.path / "templates").exists()

    write_files(pytester.path, {"templates/tool.txt": "another tool\n"})
    _, folder, records = run(pytester)
    assert records[0].template != name
    assert records[0].outcome == "passed"


def test_a_resumed_run_knows_a_template_by_its_content(pytester: pytest.Pytester, mark: str) -> None:
    """A record holds as long as the file and what it copies are the same; when they change, its trial runs again."""
    task(pytester.path, mark)
    _, _, (first,) = run(pytester)
    _, _, (same,) = run(pytester, "--resume")
    assert same == first

    write_files(pytester.path, {"templates/tool.txt": "another tool\n"})
    result, folder, (again,) = run(pytester, "--resume")
    result.assert_outcomes(passed=1)
    assert folder.id == first.run_id
    assert again.template != first.template
    assert again.finished_at > first.finished_at


def test_a_dockerfile_will_do(pytester: pytest.Pytester, mark: str) -> None:
    content = f"FROM base\nENV MARK={mark}\nCOPY tool.txt /home/user/tool.txt\nRUN echo built >/home/user/built.txt\n"
    task(pytester.path, mark, "templates/Dockerfile")
    write_files(pytester.path, {"templates/Dockerfile": content})
    result, _, records = run(pytester)
    result.assert_outcomes(passed=1)
    assert str(records[0].template).startswith("harness-templates-")


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [
        (MINE.replace("echo built", "echo broken; exit 3"), "template_build", "exit status 3 (broken)"),
        (MINE.replace("tool.txt", "none.txt"), "template_file", "none.txt"),
        ("raise OSError('no such luck')", "template_file", "no such luck"),
        ("def", "template_file", "SyntaxError"),
        ("template = 3", "template_file", "not a template"),
        ("", "template_file", "has no 'template'"),
    ],
)
def test_one_that_cannot_be_built_is_said(
    as_e2b: LocalServer, tmp_path: Path, mark: str, content: str, kind: str, what: str
) -> None:
    """It is the task's fault, and no new attempt mends it."""
    write_files(tmp_path, {"t/mine.py": content.replace("%s", mark), "t/tool.txt": "tool\n"})
    templates = Templates(local_platform(as_e2b), tmp_path / "logs")
    with pytest.raises(TaskFault) as caught:
        asyncio.run(templates.ensure_built("t/mine.py:template", tmp_path))
    assert (caught.value.cause, caught.value.kind, caught.value.retry) == ("task", kind, False)
    assert what in caught.value.message
    if kind == "template_build":
        (log,) = (tmp_path / "logs").iterdir()
        assert "exit 3" in log.read_text()
        assert list_built(local_platform(as_e2b)) == "no template was built by harness\n"


def test_a_failed_build_is_an_error_of_each_trial(pytester: pytest.Pytester, mark: str) -> None:
    """It is tried once, and counts for nobody."""
    task(pytester.path, mark)
    write_files(pytester.path, {"templates/mine.py": (MINE % mark).replace("echo built", "exit 3; echo")})
    result, _, records = run(pytester, "--trials", "2")
    result.assert_outcomes(errors=2)
    assert [record.error and record.error.type for record in records] == ["template_build"] * 2
    assert result.stdout.str().count("Build started") == 1


def test_by_hand(
    pytester: pytest.Pytester, as_e2b: LocalServer, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`harness template` builds, lists and removes."""
    task(pytester.path, mark)
    assert main(["template", "build", "templates/mine.py:template"]) == 0
    said = capsys.readouterr().out
    assert "Build started" in said
    name = said.splitlines()[-1].removesuffix(" is built")
    assert main(["template", "list"]) == 0
    assert name in capsys.readouterr().out
    assert main(["template", "rm", name]) == 0
    assert name not in list_built(local_platform(as_e2b))
    assert main(["template", "rm", name]) == 2
    assert f"there is no template '{name}'" in capsys.readouterr().err
    assert main(["template", "build", "claude"]) == 2
    assert "no file to build from" in capsys.readouterr().err


def test_variants_that_differ_in_template_run_side_by_side(pytester: pytest.Pytester, mark: str) -> None:
    """In one command; each record tells which content it ran on, and the sandbox which template that is."""
    write_files(pytester.path, {"tasks/templates/mine.py": MINE % mark, "tasks/templates/tool.txt": "tool\n"})
    variants = '[plain]\ntemplate = "base"\n[built]\ntemplate = "templates/mine.py:template"\n'
    task_folder(pytester.path / "tasks", toml=LOOK % mark, checks={})
    write_files(pytester.path, {"tasks/variants.toml": variants})
    result, _, records = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    found = {record.variant: record for record in records}
    assert (found["plain"].outcome, found["built"].outcome) == ("failed", "passed")
    assert found["plain"].template == "base"
    assert str(found["built"].template).startswith("harness-mine-")
    assert found["plain"].sandbox.template_id != found["built"].sandbox.template_id


def test_which_are_files() -> None:
    """All others are names that the platform knows."""
    files = {
        "templates/mine.py:template": TemplateFile(Path("templates/mine.py"), "template"),
        "Dockerfile": TemplateFile(Path("Dockerfile")),
        "a/Dockerfile.node": TemplateFile(Path("a/Dockerfile.node")),
        "a/node.Dockerfile": TemplateFile(Path("a/node.Dockerfile")),
        "node.dockerfile": TemplateFile(Path("node.dockerfile")),
        "claude": None,
        "team/claude:v2": None,
        "my-dockerfile": None,
    }
    assert {name: template_file(name) for name in files} == files


def test_the_nearest_is_taken(tmp_path: Path) -> None:
    """From the task's folder upwards; a task whose template is nowhere is told so before anything runs."""
    write_files(tmp_path, {"t/mine.py": "", "tasks/answer/t/mine.py": "", "t/other.py": ""})
    folder = task_folder(tmp_path / "tasks", "told", toml='[sandbox]\ntemplate = "t/nowhere.py:x"\n')
    start = tmp_path / "tasks" / "answer"
    assert find_template_file("t/mine.py:x", start) == TemplateFile(start / "t" / "mine.py", "x")
    assert find_template_file("t/other.py:x", start) == TemplateFile(tmp_path / "t" / "other.py", "x")
    with pytest.raises(ProblemsError, match=r"sandbox.template: 't/nowhere.py:x' is nowhere"):
        load_task(folder)
