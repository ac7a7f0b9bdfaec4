"""Tasks from nothing, of a commit, and of a whole history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.authoring.commits import read_commit
from harness.authoring.prompts import draft
from harness.cli import main
from harness.tasks.loading import load_task
from tests.support.folders import write_files
from tests.support.git_server import git

GOOD = 12


def commit(repo: Path, message: str, files: dict[str, str]) -> str:
    write_files(repo, files)
    git("-C", str(repo), "add", "-A")
    git("-C", str(repo), "commit", "-q", "--allow-empty", "-m", message)
    return git("-C", str(repo), "rev-parse", "HEAD").strip()


def source(number: int, answer: int | str) -> str:
    return f"def answer_{number}():\n    return {answer!r}\n"


def unit_test(number: int, right: int | str) -> str:
    return (
        f"import unittest\n\nfrom shop.part_{number} import answer_{number}\n\n\n"
        f"class Part{number}Test(unittest.TestCase):\n    def test_answer_is_right(self):\n"
        f"        self.assertEqual(answer_{number}(), {right!r})\n"
    )


def history(root: Path) -> tuple[Path, list[str]]:
    """40 commits, of which 12 are good for a task, and the ids of these."""
    repo = root / "shop"
    git("init", "-q", "-b", "main", str(repo))
    files = {f"shop/part_{number}.py": source(number, 0) for number in range(GOOD)}
    commit(repo, "First", {"shop/__init__.py": "", "tests/__init__.py": "", **files})
    good = []
    for number in range(GOOD):
        changed = {f"shop/part_{number}.py": source(number, number + 1)}
        tested = {f"tests/test_part_{number}.py": unit_test(number, number + 1)}
        good.append(commit(repo, f"fix: answer {number} is right (#{number})", {**changed, **tested}))
        commit(repo, f"Docs {number}", {"README.md": f"{number}\n"})
    for number in range(5):
        commit(
            repo, f"Only source {number}", {f"shop/part_{number}.py": source(number, number + 1) + "# more\n"}
        )
        commit(
            repo,
            f"Only tests {number}",
            {f"tests/test_part_{number}.py": unit_test(number, number + 1) + "# more\n"},
        )
    both = {
        "shop/part_0.py": source(0, 1) + "# again\n",
        "tests/test_part_0.py": unit_test(0, 1) + "# again\n",
    }
    commit(repo, "Nothing that a test could see", both)
    commit(repo, "Wrong", {"shop/part_1.py": source(1, 77), "tests/test_part_1.py": unit_test(1, 78)})
    commit(repo, "Mended", {"shop/part_1.py": source(1, 2)})
    git("-C", str(repo), "checkout", "-q", "-b", "side", "HEAD~3")
    commit(repo, "Aside", {"docs/a.md": "a"})
    git("-C", str(repo), "checkout", "-q", "main")
    git("-C", str(repo), "merge", "-q", "--no-ff", "-m", "Merge", "side")
    return repo, good


def test_the_draft_says_what_is_wanted_and_not_how() -> None:
    """Trailers, references and what the commit wrote are left out; names that the tests need are told."""
    message = (
        "fix(money): totals are exact (#12)\n\nLong orders lost cents.\n\n"
        "Sum up in `Decimal` with quantize_all().\n\nFixes: #11\nSigned-off-by: A <a@b>\n"
    )
    source_patch = "+from decimal import Decimal\n+def quantize_all(x):\n+def exact_total(prices):\n"
    told = draft(
        message,
        source_patch,
        "+    exact_total([1])\n",
        "def total():",
        ["tests/test_money.py::test_cents_add_up"],
    )
    assert told == (
        "totals are exact.\n\nLong orders lost cents.\n\nAfterwards this should hold, among other things:\n\n"
        "- cents add up\n\nOthers rely on these names: `exact_total`.\n"
    )


def test_a_name_that_is_none_and_one_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Are refused, and nothing is made."""
    assert main(["new", "../up", "--into", str(tmp_path)]) == 2
    assert main(["new", "first", "--into", str(tmp_path)]) == 0
    assert main(["new", "first", "--into", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.usefixtures("as_e2b")
def test_new_tasks_validate_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example, and one about a repository, with nothing asked."""
    monkeypatch.chdir(tmp_path)
    repo = tmp_path / "own"
    git("init", "-q", "-b", "main", str(repo))
    commit(repo, "First", {"a.txt": "a"})
    assert main(["new", "example"]) == 0
    assert main(["new", "notes", "--repo", str(repo)]) == 0
    assert main(["validate", "--times", "2", "--mutants", "3"]) == 0
    assert "no errors" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_mining_finds_exactly_the_good_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each becomes a task that loads; a second time nothing is tried again, and the same is told."""
    repo, good = history(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(git("-C", str(repo), "rev-list", "HEAD").split()) == 40
    assert main(["mine", str(repo)]) == 0
    told = capsys.readouterr().out
    assert "40 commits, 14 candidates, 12 proven\n" in told
    assert "fell out: 1 tests that fail with the commit's own change" in told
    assert "fell out: 1 tests that pass without the commit's change" in told
    known = json.loads((tmp_path / "tasks/mined.json").read_text())
    assert {one for one, verdict in known.items() if verdict == "proven"} == set(good)
    tasks = [load_task(tmp_path / "tasks" / read_commit(repo, one).name) for one in good]
    assert [task.turns[0].prompt.splitlines()[0] for task in tasks] == [
        f"answer {number} is right." for number in range(GOOD)
    ]
    assert main(["mine", str(repo)]) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (told, "")
