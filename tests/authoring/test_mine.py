"""Tasks from nothing, of a commit, and of a whole history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.authoring.commits import read_commit
from harness.authoring.prompts import draft_prompt
from harness.cli import main
from harness.tasks.loading import load_task
from tests.support.folders import write_files
from tests.support.git_server import git

GOOD = 12
TABLE = "import pathlib\n\n\ndef answer_5():\n    return len(pathlib.Path('shop/t.bin').read_bytes())\n"


def commit(repo: Path, message: str, files: Mapping[str, str | bytes]) -> str:
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


class _History:
    """A repository that grows; `good` are the ids of the commits that make tasks."""

    def __init__(self, repo: Path) -> None:
        self.repo, self.good = repo, list[str]()
        git("init", "-q", "-b", "main", str(repo))

    def add(self, message: str, files: Mapping[str, str | bytes], *without: str) -> str:
        """A commit that makes none."""
        for name in without:
            (self.repo / name).unlink()
        return commit(self.repo, message, files)

    def make(self, message: str, files: Mapping[str, str | bytes], *without: str) -> None:
        """A commit that makes one."""
        self.good.append(self.add(message, files, *without))

    def both(self, number: int, answer: int | str, right: int | str | None = None) -> dict[str, str]:
        """A source and its test, which wants `right` (the answer)."""
        right = answer if right is None else right
        test = unit_test(number, right)
        return {f"shop/part_{number}.py": source(number, answer), f"tests/test_part_{number}.py": test}


def history(root: Path) -> tuple[Path, list[str]]:
    """40 commits, of which 12 are good for a task, and the ids of these."""
    log = _History(root / "shop")
    log.add(
        "First",
        {
            "shop/__init__.py": "",
            "tests/__init__.py": "",
            "tests/unit/__init__.py": "",
            **{f"shop/part_{number}.py": source(number, 0) for number in range(11)},
        },
    )
    log.make("fix: answer 0 is right (#1)", log.both(0, 1))
    renamed = unit_test(1, 1).replace("part_1 import", "renamed import")
    log.make(
        "Rename a module", {"shop/renamed.py": source(1, 1), "tests/test_1.py": renamed}, "shop/part_1.py"
    )
    log.make("Fix part 3", log.both(3, 1))
    git("-C", str(log.repo), "revert", "--no-edit", "HEAD")
    log.add("Only source", {"shop/part_2.py": source(2, 5)})
    log.add(
        "Passes already", {"shop/part_2.py": source(2, 5) + "# x\n", "tests/test_part_2.py": unit_test(2, 5)}
    )
    log.add("Only tests", {"tests/test_part_0.py": unit_test(0, 1) + "# more\n"})
    log.add("Wrong", log.both(4, 3, 4))
    log.add("Mended", {"shop/part_4.py": source(4, 4)})
    unit = {"tests/unit/test_part_4.py": unit_test(4, 4)}
    log.add(
        "Formats and moves tests", {"shop/part_4.py": source(4, 4) + "\n\n", **unit}, "tests/test_part_4.py"
    )
    moved = {"shop/part_2.py": source(2, 6), "tests/unit/test_part_2.py": unit_test(2, 6)}
    log.make("Move tests and fix", moved, "tests/test_part_2.py")
    log.make("Read a table", {**log.both(5, 256), "shop/part_5.py": TABLE, "shop/t.bin": bytes(range(256))})
    log.add("A picture", {"logo.png": b"\x89PNG\0\1", "tests/test_part_5.py": unit_test(5, 256) + "# z\n"})
    latin = b"# -*- coding: latin-1 -*-\r\ndef answer_6():\r\n    return len('M\xfcller')"
    log.make("Latin, with other line ends", {**log.both(6, 6), "shop/part_6.py": latin})
    log.make("Two at once", {**log.both(7, 1), **log.both(8, 1)})
    log.add("Drop a test", {"shop/part_8.py": source(8, 1) + "# y\n"}, "tests/test_part_8.py")
    log.make("Fix, and drop another's test", log.both(8, 2), "tests/test_part_7.py")
    for number in (1, 2):
        for place in ("vendor/sub", "tests/data"):
            link = f"160000,{number:040x},{place}"
            git("-C", str(log.repo), "update-index", "--add", "--cacheinfo", link)
        with_links = log.both(9, number)
        write_files(log.repo, with_links)
        git("-C", str(log.repo), "add", *with_links)
        git("-C", str(log.repo), "commit", "-qm", f"Other submodules, and answer 9 is {number}")
        log.good.append(git("-C", str(log.repo), "rev-parse", "HEAD").strip())
    git("-C", str(log.repo), "rm", "-q", "--cached", "vendor/sub", "tests/data")
    named = "import pathlib\n\n\ndef answer_10():\n    return pathlib.Path('shop/gro\u00df [1].txt').read_text()\n"
    spaced = {"shop/gro\u00df [1].txt": "7", "shop/part_10.py": named, "tests/a dir/\u00e4.txt": "7"}
    log.make("Names with blanks", {**log.both(10, "7"), **spaced})
    log.make("Another answer 0", log.both(0, 9))
    git("-C", str(log.repo), "revert", "--no-edit", "HEAD")
    git("-C", str(log.repo), "checkout", "-q", "-b", "side", "HEAD~3")
    log.add("Aside", {"docs/a.md": "a"})
    git("-C", str(log.repo), "checkout", "-q", "main")
    git("-C", str(log.repo), "merge", "-q", "--no-ff", "-m", "Merge", "side")
    log.add("Nothing", {})
    for number in range(40 - len(git("-C", str(log.repo), "rev-list", "HEAD").split())):
        log.add(f"Docs {number}", {"README.md": f"{number}\n"})
    return log.repo, log.good


def test_the_draft_says_what_is_wanted_and_not_how() -> None:
    """Trailers, references and what the commit wrote are left out; names that the tests need are told."""
    message = (
        "fix(money): totals are exact (#12)\n\nLong orders lost cents.\n\n"
        "Sum up in `Decimal` with quantize_all().\n\nFixes: #11\nSigned-off-by: A <a@b>\n"
    )
    source_patch = "+from decimal import Decimal\n+def quantize_all(x):\n+def exact_total(prices):\n"
    told = draft_prompt(
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
    told = draft_prompt(
        "Vouchers", "+  if (sum < voucher.from) return rest(sum);\n", "+  total({ from: 2, rest });\n", "", []
    )
    assert told.endswith("names: `from`.\n"), "a key that the tests give"


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
    assert main(["mine", str(repo), "--mutants", "2"]) == 0
    told = capsys.readouterr().out
    assert "40 commits, 15 candidates, 12 proven\n" in told
    assert "fell out: 1 tests that fail with the commit's own change" in told
    assert "fell out: 2 tests that pass without the commit's change" in told
    known = json.loads((tmp_path / "tasks/mined.json").read_text())
    assert {one for one, verdict in known.items() if verdict == "proven"} == set(good)
    tasks = [load_task(tmp_path / "tasks" / read_commit(repo, one).name) for one in good]
    assert len({task.hash for task in tasks}) == GOOD
    assert tasks[0].turns[0].prompt.startswith("answer 0 is right.\n")
    assert main(["mine", str(repo)]) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (told, "")
